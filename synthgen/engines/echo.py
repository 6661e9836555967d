"""The `echo` engine: deterministic text without a model, for tests, dry runs and benchmarks.

A word counts as a token. The text of sample i is a hash of (messages, seed + i) spelt in words, so it is the same on
every machine and differs between samples. Where a request asks for a judgement (`OutputFormat.template`), the engine
rates the texts by the rule that `EchoConfig.judge` names; where it asks for JSON, the text fits the schema. Where the
prompt has tools, `EchoConfig.call_share` of the completions call one, with arguments that fit its schema.

One file because all of it is one rule from a request to a text.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist

from synthgen.config import ModelConfig
from synthgen.engines.base import EngineInfo
from synthgen.engines.echo_json import write_json
from synthgen.engines.echo_judge import ECHO_JUDGES, fill_template
from synthgen.errors import ConfigError, EngineDeadError, RequestError
from synthgen.records import (
    Completion,
    FinishReason,
    Message,
    Messages,
    OutputFormat,
    Request,
    RequestFailure,
    Tool,
    WrittenCall,
    canonical_json,
    read_call_fields,
)

_VOCABULARY = """
a about above across after all also although always and another any are around at because before begin better
between both bread bring build but by call carry change child city close cloud coast cold come common could country
cross day deep different door draw dry each early east easy eight end enough even evening every example fall far
farm feel field find fire first fish flat follow food for form four from full give glass go good grain great green
ground grow hand happen hard have hear heavy help here high hold home hour house hundred if important in into island
it just keep know lake land large late learn leave left light like line listen little long look low make map market
mean measure mile mind minute moon more most mother mountain move music name near need new next night nine no not
note now number often old on once only open or order other out over own paper pass path people perhaps plain plan
plant point quick rain read ready reason rest right ring rise road rock room round run sea season second see seven
shape ship short side simple since six slow snow some soon south stand star stay step stone story street strong
summer table take tell ten that the then there thing third those three through to town tree turn under until up use
very voice wait walk wall water way we week west what wheel when which while white why wide winter with wood word
world year yes yet
"""
_WORDS = _VOCABULARY.split()  # 256: one per value of a byte

_WORD = re.compile(r"\S+")
_TAIL_QUANTILES = 1024
_TAIL_SIGMA = 1.0
"""Long-tailed lengths are log-normal; with sigma 1 the longest in a thousand is about 16 times the mean."""


class EchoEngine:
    """Serves `model.echo`; see `EchoConfig` for what it can simulate."""

    def __init__(self, model: ModelConfig) -> None:
        echo = model.echo
        if echo.judge not in ECHO_JUDGES:
            raise ConfigError(f"echo.judge={echo.judge} is not known; try one of: {', '.join(ECHO_JUDGES)}")
        self._echo = echo
        self._thinks = echo.think_tokens > 0 and model.thinking is not False
        self._context_length = model.max_model_len
        self._max_num_seqs = model.max_num_seqs or 256
        self._slots = asyncio.Semaphore(self._max_num_seqs)
        self._dead = asyncio.Event()
        self._why_dead = ""
        self._working = 0
        self._lengths = _make_lengths(echo.output_tokens, long_tail=echo.long_tail)
        self._thoughts = _make_lengths(echo.think_tokens, long_tail=False)

    async def start(self) -> EngineInfo:
        """Wait `start_s` seconds. Raises EngineDeadError where `fail_start` is set."""
        await asyncio.sleep(self._echo.start_s)
        if self._echo.fail_start:
            raise EngineDeadError("the echo engine did not start, because echo.fail_start=true")
        return EngineInfo(
            max_num_seqs=self._max_num_seqs,
            context_length=self._context_length,
            kv_cache_tokens=None,
            details={"engine": "echo"},
        )

    def encode(self, requests: Sequence[Request]) -> list[Request | RequestFailure]:
        """Return the requests as they are, and a failure for a prompt that leaves no room in `max_model_len`."""
        if self._context_length is None:
            return list(requests)
        return [self._fit(request, self._context_length) for request in requests]

    async def generate(self, request: Request) -> list[Completion]:
        """Return `request.n` completions; at once where `tokens_per_s` is 0, else at that speed."""
        echo = self._echo
        if self._dead.is_set():
            raise EngineDeadError(self._why_dead)
        if echo.poison and _holds(request.messages, echo.poison):
            self._die(f"a prompt held echo.poison={echo.poison}")
        if echo.hang and _holds(request.messages, echo.hang):
            await self._dead.wait()
        if self._dead.is_set():
            raise EngineDeadError(self._why_dead)
        if request.n > 1 and request.sampling.temperature == 0:  # as vLLM: a rehearsal must not hide it
            raise RequestError("invalid_request", f"n must be 1 when using greedy sampling, got {request.n}.")
        if echo.fail_share and _draw(request.messages) < echo.fail_share:
            raise RequestError(
                echo.fail_reason,
                f"the request fails because of echo.fail_share={echo.fail_share:g}",
                retryable=echo.fail_retryable,
            )
        completions = self._complete(request)
        if echo.tokens_per_s > 0:
            await asyncio.gather(*[self._take_time(completion) for completion in completions])
            if self._dead.is_set():
                raise EngineDeadError(self._why_dead)
        return completions

    def heartbeat(self) -> float:
        """Return the clock while a completion takes its time, else a constant: requests that hang do not count."""
        return time.monotonic() if self._working else 0.0

    def notice(self) -> str:
        """Return nothing: this engine waits for nobody."""
        return ""

    async def close(self) -> None:
        """End requests that hang."""
        self._die("the echo engine is closed")

    def _die(self, why: str) -> None:
        self._why_dead = self._why_dead or why
        self._dead.set()

    def _fit(self, request: Request, context_length: int) -> Request | RequestFailure:
        prompt_tokens = _count_prompt(request)
        if prompt_tokens < context_length:
            return request
        return RequestFailure(
            "prompt_too_long", f"the prompt has {prompt_tokens} tokens and max_model_len is {context_length}"
        )

    async def _take_time(self, completion: Completion) -> None:
        async with self._slots:
            self._working += 1
            try:
                await asyncio.sleep(completion.output_tokens / self._echo.tokens_per_s)
            finally:
                self._working -= 1

    def _complete(self, request: Request) -> list[Completion]:
        prompt_tokens = _count_prompt(request)
        limit = request.sampling.most_tokens
        if self._context_length is not None:
            limit = min(limit, self._context_length - prompt_tokens)
        key = hashlib.blake2b("\x1f".join([_spell_turn(m) for m in request.messages]).encode("utf-8", "surrogatepass"))
        if request.tools:
            key.update(canonical_json(list(request.tools)).encode("utf-8", "surrogatepass"))
        completions = []
        for sample in range(request.n):
            sample_key = key.copy()
            sample_key.update(b"%d" % (request.seed + sample))
            completions.append(self._sample(request, request.seed + sample, sample_key, prompt_tokens, limit))
        return completions

    def _sample(self, request: Request, seed: int, key: hashlib.blake2b, prompt_tokens: int, limit: int) -> Completion:
        """Return one completion of at most `limit` words, with the thought before it where the engine thinks."""

        def answer(limit: int) -> Completion:
            form = request.output_format
            if form is not None and form.template is not None:
                return self._judge(form, seed, prompt_tokens, limit)
            if form is not None and form.spec:
                return _finish(_write_formatted(form, key.digest()), prompt_tokens, limit)
            if request.tools and _is_drawn(key, "call", self._echo.call_share):
                return self._call(request.tools, key, prompt_tokens, limit)
            text, words, finish_reason = self._write(key.digest(), request, limit)
            return Completion(text, finish_reason, prompt_tokens, 0, words)

        if not self._thinks:
            return answer(limit)
        source = key.copy()
        source.update(b"thought")
        digest = source.digest()
        wanted = self._thoughts[int.from_bytes(digest[:2], "big") % len(self._thoughts)]
        count = min(wanted, request.sampling.thinking_budget or wanted, limit)
        thought = " ".join(_WORDS[byte] for byte in hashlib.shake_128(digest).digest(count))
        if count == limit:
            return Completion("", "length", prompt_tokens, 0, count, reasoning=thought, reasoning_tokens=count)
        whole = answer(min(request.sampling.max_tokens, limit - count))
        return replace(whole, output_tokens=whole.output_tokens + count, reasoning=thought, reasoning_tokens=count)

    def _write(self, digest: bytes, request: Request, limit: int) -> tuple[str, int, FinishReason]:
        """Return (text, words in it, finish reason) of the completion that `digest` (64 bytes) stands for."""
        sampling = request.sampling
        wanted = self._lengths[int.from_bytes(digest[:2], "big") % len(self._lengths)]
        wanted = limit if sampling.ignore_eos else max(wanted, sampling.min_tokens)
        count = min(wanted, limit)
        source = digest if count <= len(digest) else hashlib.shake_128(digest).digest(count)
        words = [_WORDS[byte] for byte in source[:count]]
        per_sentence = 6 + digest[2] % 8
        sentences = [" ".join(words[i : i + per_sentence]).capitalize() for i in range(0, count, per_sentence)]
        text = ". ".join(sentences)
        finish_reason: FinishReason = "length" if wanted > limit or sampling.ignore_eos else "stop"
        if finish_reason == "stop":
            text += "."
        for stop in sampling.stop:
            head, found, _ = text.partition(stop)
            if found:
                text, count, finish_reason = head, len(head.split()), "stop"
        return text, count, finish_reason

    def _call(self, tools: Sequence[Tool], key: hashlib.blake2b, prompt_tokens: int, limit: int) -> Completion:
        """Return a completion that calls one of the tools, or that tries to."""
        digest = key.digest()
        function = tools[digest[3] % len(tools)]["function"]
        name, arguments = function["name"], write_json(json.dumps(function["parameters"]), digest, _WORDS)
        bad = _is_drawn(key, "bad call", self._echo.bad_call_share)
        words = len(f"{name} {arguments}".split())
        if words > limit:
            return Completion("", "length", prompt_tokens, 0, limit, bad_call=f"{name} {arguments}"[:-1])
        call = WrittenCall(name, arguments)
        if bad:  # half of them of a tool that is not there, half with arguments that are cut
            call = WrittenCall(f"no_{name}", arguments) if digest[4] % 2 else WrittenCall(name, arguments[:-1])
        return Completion("", "stop", prompt_tokens, 0, words, tool_calls=(call,))

    def _judge(self, form: OutputFormat, seed: int, prompt_tokens: int, limit: int) -> Completion:
        """Return the format's template, its slots filled by ratings."""
        text, choice_logprobs = fill_template(form, self._echo.judge, seed)
        whole = _finish(text, prompt_tokens, limit)
        return replace(whole, choice_logprobs=tuple(slot for slot in choice_logprobs if slot.start < len(whole.text)))


def _write_formatted(form: OutputFormat, digest: bytes) -> str:
    if form.kind != "json":
        raise RequestError("unsupported_format", f"the echo engine writes no text for a {form.kind} without a template")
    return write_json(form.spec, digest, _WORDS)


def _finish(text: str, prompt_tokens: int, limit: int) -> Completion:
    """Return `text` as a completion, cut after `limit` words."""
    words = list(_WORD.finditer(text))
    if len(words) <= limit:
        return Completion(text, "stop", prompt_tokens, 0, len(words))
    return Completion(text[: words[limit - 1].end()], "length", prompt_tokens, 0, limit)


def _count_words(messages: Messages) -> int:
    return sum([len(message["content"].split()) for message in messages])


def _count_prompt(request: Request) -> int:
    tools = len(canonical_json(list(request.tools)).split()) if request.tools else 0
    return _count_words(request.messages) + tools


def _spell_turn(turn: Message) -> str:
    called = read_call_fields(turn)
    return turn["role"] + "\x1e" + turn["content"] + ("\x1e" + canonical_json(called) if called else "")


def _is_drawn(key: hashlib.blake2b, what: str, share: float) -> bool:
    """Return whether a completion is among a share of all of them."""
    drawn = key.copy()
    drawn.update(what.encode())
    return int.from_bytes(drawn.digest()[:4], "big") < share * 2**32


def _holds(messages: Messages, text: str) -> bool:
    return any(text in message["content"] for message in messages)


def _draw(messages: Messages) -> float:
    """Return a number in [0, 1) that depends on the conversation only."""
    text = "\x1f".join(message["content"] for message in messages).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big") / 2**56


def _make_lengths(mean: int, *, long_tail: bool) -> list[int]:
    """Return lengths in words, to be drawn from uniformly: within half of the mean around it, or log-normal."""
    if not long_tail:
        return list(range(max(1, mean - mean // 2), mean + mean // 2 + 1)) or [1]
    log_mean = math.log(max(1, mean)) - _TAIL_SIGMA**2 / 2
    lengths = NormalDist(log_mean, _TAIL_SIGMA)
    return [max(1, round(math.exp(lengths.inv_cdf((k + 0.5) / _TAIL_QUANTILES)))) for k in range(_TAIL_QUANTILES)]
