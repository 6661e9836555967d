"""The endpoint engine: any OpenAI-compatible server, such as `vllm serve`, as generator or judge.

The official client does the retries (exponential backoff, `Retry-After`); this module adds concurrency and rate limits,
one request per sample (so that each has its own seed and token count), and structured output where the server has it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from synthgen.config import ModelConfig
from synthgen.engines.base import EngineInfo
from synthgen.engines.openai_answers import TOO_LONG, find_room, read_completion
from synthgen.engines.prompts import fold_system
from synthgen.engines.rate_limit import RateLimit
from synthgen.errors import ConfigError, EngineDeadError, RequestError
from synthgen.records import Completion, Message, OutputFormat, Request, RequestFailure, Sampling

logger = logging.getLogger(__name__)

TOP_LOGPROBS = 20
REFUSES_SYSTEM = re.compile(
    r"system (role|message|prompt|instruction)s? (is |are )?(not|n't|in)"
    r"|does(n't| not) (support|accept|allow).{0,20}system"
    r"|conversation roles must alternate|developer instruction is not enabled",
    re.IGNORECASE,
)
"""What servers say where a model's template knows no system message: Gemma's "System role not supported",
Mistral's "Conversation roles must alternate user/assistant/…", Google's "Developer instruction is not enabled"."""
STRUCTURED_OUTPUT = ("auto", "none", "vllm", "json_schema")


class OpenAIEngine:
    """Serves `model.id` from `model.endpoint`."""

    def __init__(self, model: ModelConfig) -> None:
        endpoint = model.endpoint
        if not endpoint.base_url:
            raise ConfigError("endpoint.base_url is empty; give the server's address, such as http://localhost:8000/v1")
        if endpoint.structured_output not in STRUCTURED_OUTPUT:
            raise ConfigError(
                f"endpoint.structured_output={endpoint.structured_output} is unknown; "
                f"choose from {', '.join(STRUCTURED_OUTPUT)}"
            )
        self._model = model
        self._endpoint = endpoint
        self._structured = endpoint.structured_output
        self._slots = asyncio.Semaphore(endpoint.max_concurrency)
        self._limit = RateLimit(endpoint)
        self._continues = False
        self._context: int | None = None
        self.folds_system = False  # the server has refused a system message
        self._client: Any = None

    async def start(self) -> EngineInfo:
        """Ask the server for its models.

        Raises:
            ConfigError: the key is refused, or the server does not serve the model.
            EngineDeadError: the server does not answer.
        """
        import openai

        endpoint = self._endpoint
        self._client = openai.AsyncOpenAI(
            base_url=endpoint.base_url,
            api_key=os.environ.get(endpoint.api_key_env) or "none",
            timeout=endpoint.timeout_s,
            max_retries=endpoint.max_retries,
        )
        try:
            served = [item async for item in await self._client.models.list()]
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise ConfigError(
                f"{endpoint.base_url} refuses the key in {endpoint.api_key_env}; "
                f"export {endpoint.api_key_env}=… or set endpoint.api_key_env"
            ) from error
        except openai.NotFoundError:
            served = []  # servers without /models serve what they are asked for
        except openai.OpenAIError as error:
            raise EngineDeadError(f"{endpoint.base_url} does not answer: {_one_line(error)}") from error
        names = [item.id for item in served]
        if names and self._model.id not in names:
            raise ConfigError(
                f"model.id={self._model.id} is not served by {endpoint.base_url}; it has {', '.join(names[:8])}"
            )
        entry = next((item for item in served if item.id == self._model.id), None)
        context = getattr(entry, "max_model_len", None)
        self._context = context if isinstance(context, int) else None
        is_vllm = getattr(entry, "owned_by", "") == "vllm"
        self._continues = is_vllm
        if self._structured == "auto":
            self._structured = "vllm" if is_vllm else "none"
        return EngineInfo(
            max_num_seqs=endpoint.max_concurrency,
            context_length=self._context,
            kv_cache_tokens=None,
            details={"engine": "openai", "base_url": endpoint.base_url, "structured_output": self._structured},
        )

    def encode(self, requests: Sequence[Request]) -> list[Request | RequestFailure]:
        """Return the requests with text that JSON can carry; the server renders the chat template."""
        return [replace(request, messages=[_make_valid(turn) for turn in request.messages]) for request in requests]

    async def generate(self, request: Request) -> list[Completion]:
        """Return one completion per sample; sample i is sent with seed + i."""
        samples = [asyncio.ensure_future(self._sample(request, index)) for index in range(request.n)]
        try:
            return list(await asyncio.gather(*samples))
        except BaseException:
            for sample in samples:
                sample.cancel()
            await asyncio.gather(*samples, return_exceptions=True)
            raise

    def heartbeat(self) -> float:
        """Return the clock: every request ends by `endpoint.timeout_s` and `endpoint.max_retries`, so none can hang."""
        return time.monotonic()

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()

    async def _sample(self, request: Request, index: int) -> Completion:
        import openai

        async with self._slots:
            await self._limit.wait()
            try:
                answer = await self._create(self._arguments(request, index))
            except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
                raise ConfigError(f"{self._endpoint.base_url}: {_one_line(error)}") from error
            except openai.RateLimitError as error:
                raise RequestError("rate_limited", _one_line(error), retryable=True) from error
            except openai.APITimeoutError as error:
                raise RequestError("timeout", _one_line(error), retryable=True) from error
            except openai.APIConnectionError as error:
                raise EngineDeadError(f"{self._endpoint.base_url} does not answer: {_one_line(error)}") from error
            except openai.APIStatusError as error:
                kind = "server_error" if error.status_code >= 500 else "refused"
                raise RequestError(kind, _one_line(error), retryable=error.status_code >= 500) from error
            except openai.OpenAIError as error:
                raise RequestError("bad_answer", _one_line(error), retryable=True) from error
        completion = read_completion(answer, request.output_format)
        self._limit.spend(completion.prompt_tokens + completion.output_tokens)
        return completion

    async def _create(self, arguments: dict[str, Any]) -> Any:
        """Return the server's answer. A server that has no room for `max_tokens` after the prompt is asked for less."""
        import openai

        while True:
            try:
                return await self._client.chat.completions.create(**arguments)
            except openai.BadRequestError as error:
                folded = fold_system(arguments["messages"])
                if REFUSES_SYSTEM.search(str(error)) and folded is not arguments["messages"]:
                    if not self.folds_system:
                        logger.warning("%s takes no system message: it goes into the user turn", self._model.id)
                    self.folds_system = True
                    arguments["messages"] = list(folded)
                    continue
                if not TOO_LONG.search(str(error)):
                    raise RequestError("refused", _one_line(error)) from error
                asked = int(arguments["max_tokens"])
                room = find_room(str(error))
                arguments["max_tokens"] = asked // 2 if room is None or room >= asked else room
                if arguments["max_tokens"] < 1:
                    raise RequestError("prompt_too_long", _one_line(error)) from error

    def _arguments(self, request: Request, index: int) -> dict[str, Any]:
        sampling = request.sampling
        arguments: dict[str, Any] = {
            "model": self._model.id,
            "messages": list(fold_system(request.messages) if self.folds_system else request.messages),
            "max_tokens": min(sampling.max_tokens, self._context or sampling.max_tokens),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": (request.seed + index) % 2**63,
            "extra_body": _extra(sampling),
        }
        if self._continues and request.messages and request.messages[-1]["role"] == "assistant":
            arguments["extra_body"] |= {"add_generation_prompt": False, "continue_final_message": True}
        if sampling.presence_penalty:
            arguments["presence_penalty"] = sampling.presence_penalty
        if sampling.frequency_penalty:
            arguments["frequency_penalty"] = sampling.frequency_penalty
        if sampling.stop:
            arguments["stop"] = list(sampling.stop)
        if sampling.logit_bias:
            arguments["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias}
        if request.output_format is not None:
            self._constrain(arguments, request.output_format)
        return arguments

    def _constrain(self, arguments: dict[str, Any], form: OutputFormat) -> None:
        if form.spec and self._structured == "vllm":
            arguments["extra_body"]["structured_outputs"] = {form.kind: form.spec}
        elif form.spec and form.kind == "json" and self._structured == "json_schema":
            import json

            schema = {"name": "output", "strict": True, "schema": json.loads(form.spec)}
            arguments["response_format"] = {"type": "json_schema", "json_schema": schema}
        if form.choices and self._structured != "none":
            arguments |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}


def _make_valid(turn: Message) -> Message:
    """Return a turn without lone surrogates, which UTF-8 cannot hold."""
    return Message(role=turn["role"], content=turn["content"].encode("utf-8", "replace").decode())


def _extra(sampling: Sampling) -> dict[str, Any]:
    """Return the sampling parameters that are not OpenAI's own, where they differ from their defaults."""
    extra: dict[str, Any] = {}
    if sampling.top_k:
        extra["top_k"] = sampling.top_k
    if sampling.min_p:
        extra["min_p"] = sampling.min_p
    if sampling.min_tokens:
        extra["min_tokens"] = sampling.min_tokens
    if sampling.repetition_penalty != 1.0:
        extra["repetition_penalty"] = sampling.repetition_penalty
    if sampling.ignore_eos:
        extra["ignore_eos"] = True
    return extra


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
