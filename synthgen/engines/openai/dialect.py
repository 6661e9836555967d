"""What of a request a server takes: learnt from its first refusal, said once, and kept for all requests that follow.

What changes the text (a `top_p` that is not 1, a penalty) is never left out in silence: such a request is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from synthgen.config import EndpointConfig, ModelConfig
from synthgen.engines.openai.reply import Refusal
from synthgen.engines.openai.words import NOT_TAKEN, REFUSES_SYSTEM, find_most_output
from synthgen.engines.prompt_encoder import fold_system
from synthgen.records import OutputFormat, Request, number_calls

TOP_LOGPROBS = 20
_NEUTRAL: Mapping[str, Any] = {"temperature": 1.0, "top_p": 1.0}
"""Values that a server's own default may stand for."""
_FORMS = frozenset({"response_format", "structured_outputs"})
_MAY_GO = frozenset({"seed", "logprobs", "top_logprobs", *_FORMS})
"""What a request can do without: its answer is of the same kind."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How requests are written for one server.

    Attributes:
        length_key: how it calls the limit of the output.
        most_output: the most that it takes there, tokens; 0: no limit is known.
        left_out: parameters that it does not take.
        top_logprobs: how many likeliest tokens it gives at most.
        structured: `auto` (not known yet), `none`, `vllm` or `json_schema`.
        continues: whether it continues a last turn of the assistant's.
        folds_system: whether it takes no system message, so that it goes into the user turn.
    """

    length_key: str = "max_tokens"
    most_output: int = 0
    left_out: frozenset[str] = field(default_factory=frozenset)
    top_logprobs: int = TOP_LOGPROBS
    structured: str = "auto"
    continues: bool = False
    folds_system: bool = False


def make_dialect(endpoint: EndpointConfig) -> Dialect:
    """Return what the configuration says of the server."""
    return Dialect(
        length_key=endpoint.max_tokens_key,
        most_output=endpoint.max_output_tokens,
        left_out=frozenset(endpoint.leave_out),
        structured=endpoint.structured_output,
    )


def write_body(dialect: Dialect, model: ModelConfig, request: Request, index: int, max_tokens: int) -> dict[str, Any]:
    """Return the JSON of sample `index` of a request. Its seed is below 2^31: gateways keep numbers as doubles."""
    sampling, endpoint = request.sampling, model.endpoint
    body: dict[str, Any] = {
        "model": model.id,
        "messages": number_calls(fold_system(request.messages) if dialect.folds_system else request.messages),
        dialect.length_key: min(max_tokens, dialect.most_output or max_tokens),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": (request.seed + index) % 2**31,
    }
    optional: dict[str, tuple[Any, Any]] = {  # value, what it is where it changes nothing
        "top_k": (sampling.top_k, 0),
        "min_p": (sampling.min_p, 0.0),
        "min_tokens": (sampling.min_tokens, 0),
        "repetition_penalty": (sampling.repetition_penalty, 1.0),
        "presence_penalty": (sampling.presence_penalty, 0.0),
        "frequency_penalty": (sampling.frequency_penalty, 0.0),
        "ignore_eos": (sampling.ignore_eos, False),
        "thinking_token_budget": (sampling.thinking_budget, None),
        "stop": (list(sampling.stop), []),
        "logit_bias": ({str(token): bias for token, bias in sampling.logit_bias}, {}),
    }
    body |= {key: value for key, (value, neutral) in optional.items() if value != neutral}
    if request.tools:
        body["tools"] = list(request.tools)
    continued = request.render == "turn" and request.messages and request.messages[-1]["role"] == "assistant"
    if dialect.continues and continued:
        body |= {"add_generation_prompt": False, "continue_final_message": True}
    if request.output_format is not None:
        body |= _constrain(dialect, request.output_format)
    if template := {**model.template_kwargs, **endpoint.chat_template_kwargs}:
        body["chat_template_kwargs"] = template
    if endpoint.service_tier:
        body["service_tier"] = endpoint.service_tier
    body |= endpoint.extra_body
    return {key: value for key, value in body.items() if key not in dialect.left_out}


def _constrain(dialect: Dialect, form: OutputFormat) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if form.spec and dialect.structured == "vllm":
        found["structured_outputs"] = {form.kind: form.spec}
    elif form.spec and form.kind == "json" and dialect.structured == "json_schema":
        schema = {"name": "output", "strict": True, "schema": json.loads(form.spec)}
        found["response_format"] = {"type": "json_schema", "json_schema": schema}
    if form.choices:
        found |= {"logprobs": True, "top_logprobs": dialect.top_logprobs}
    return found


def learn(dialect: Dialect, body: Mapping[str, Any], refusal: Refusal) -> tuple[Dialect, str] | None:
    """Return the dialect that a refusal of `body` teaches, and what to say of it; None: it teaches nothing."""
    words = f"{refusal.message} {refusal.raw}"
    if "max_completion_tokens" in words and "max_tokens" in body:
        return replace(dialect, length_key="max_completion_tokens"), "max_tokens is sent as max_completion_tokens"
    most, asked = find_most_output(words), body.get(dialect.length_key, 0)
    if most is not None and 0 < most < asked:
        return replace(dialect, most_output=most), f"{dialect.length_key} is at most {most} there (asked for: {asked})"
    folds = not dialect.folds_system and any(turn["role"] == "system" for turn in body["messages"])
    if folds and REFUSES_SYSTEM.search(words):
        return replace(dialect, folds_system=True), "no system message is taken: it goes into the user turn"
    if not NOT_TAKEN.search(words):
        return None
    named = [key for key in body if re.search(rf"(?<![a-z_]){re.escape(key)}(?![a-z_])", words)]
    if "top_logprobs" in named and (fewer := _find_fewer(words, dialect.top_logprobs)):
        return replace(dialect, top_logprobs=fewer), f"{fewer} log-probabilities a place is the most there"
    if "log" in words.lower() and "prob" in words.lower() and "logprobs" in body:
        named += ["logprobs", "top_logprobs"]
    if "guided" in words or "grammar" in words or "schema" in words:
        named += [key for key in _FORMS if key in body]
    for key in named:
        if key in _MAY_GO:
            gone = {"logprobs", "top_logprobs"} if "logprobs" in key else {key}
            return _without(dialect, gone), f"{' and '.join(sorted(gone))} cannot be sent: {refusal.message}"
    for key in named:
        if key in _NEUTRAL and (body[key] == _NEUTRAL[key] or _takes_one_value(key, words)):
            return _without(
                dialect, {key}
            ), f"{key}={body[key]:g} cannot be sent, the server's own is used: {refusal.message}"
    return None


def _without(dialect: Dialect, keys: set[str]) -> Dialect:
    structured = "none" if keys & _FORMS else dialect.structured
    return replace(dialect, left_out=dialect.left_out | keys, structured=structured)


def _takes_one_value(key: str, words: str) -> bool:
    """Whether the server has one temperature, which a model that thinks has (out of range is another matter)."""
    return key == "temperature" and bool(re.search(r"only the default|not support|unsupported|fixed", words, re.I))


def _find_fewer(words: str, now: int) -> int:
    found = re.search(
        r"(?:less than or equal to|at most|<=|between 0 and|maximum (?:is|of|value of)) ?(\d{1,3})", words
    )
    return int(found[1]) if found and 0 < int(found[1]) < now else 0
