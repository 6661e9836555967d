"""The endpoint engine: one request per sample, so that each has its own seed, token count and bill.

What comes back is read by `answers.py`; this module decides what an answer that holds no completion leads to: another
way to ask (`dialect.py`), a pause, another line or waiting for a server that is away (`lines.py`), another try, or a
row with a reason. No answer ends a run; what ends it is a key, a credit or a server that is gone, in one line.

One file because every way in which an answer can go on leads back into the same loop.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from synthgen.config import ModelConfig
from synthgen.engines.base import EngineInfo
from synthgen.engines.calls import change_turn
from synthgen.engines.openai.asker import ASK_TIMEOUT_S, Asker
from synthgen.engines.openai.line import Clock, Line, Sleep, make_lines
from synthgen.engines.openai.lines import Lines
from synthgen.engines.openai.listing import Listed, read_listing
from synthgen.engines.openai.reply import Kind, Lost, Refusal, Reply
from synthgen.errors import ConfigError, RequestError
from synthgen.records import NO_BILL, Bill, Completion, Message, Request, RequestFailure

STRUCTURED_OUTPUT = ("auto", "none", "vllm", "json_schema")
MOST_LESSONS = 12
MOST_PAID = 2
"""Answers of a sample that are billed and cannot be used before it is given up."""
MOST_WIDENED = 2
"""How often a thought that left no room for the answer of a given form gets twice the tokens."""
_NEVER_PASSES = (
    "CERTIFICATE_VERIFY_FAILED",
    "Name or service not known",
    "No address associated",
    "nodename nor servname",
)


@dataclass(slots=True)
class _Call:
    """What one sample has been through so far."""

    index: int
    max_tokens: int
    tries: int = 0
    paid: int = 0  # answers that were billed and could not be used
    widened: int = 0
    lessons: int = 0
    slowed_at: float = 0.0
    bill: Bill = NO_BILL


class OpenAIEngine:
    """Serves `model.id` from `model.endpoint`.

    Args:
        clock, sleep: time, monotonic, s.
    """

    def __init__(self, model: ModelConfig, clock: Clock = time.monotonic, sleep: Sleep = asyncio.sleep) -> None:
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
        self._clock = clock
        self._sleep = sleep
        self._asker = Asker(model, clock)
        self._lines = Lines(make_lines(endpoint, clock, sleep), endpoint, self._asker.ask, clock, sleep)
        self._context: int | None = model.max_model_len

    async def start(self) -> EngineInfo:
        """Find out whether the server serves the model, from its list of models or by asking it for one token.

        Raises:
            ConfigError: the key is refused, or the server does not serve the model.
            RunFailedError: the server has not answered for `endpoint.outage_s`.
        """
        lines = list(self._lines)
        for line in lines:
            line.open()
        await asyncio.gather(*[self._meet(line, first=True) for line in lines])
        if all(line.down_since for line in lines):
            await self._meet(await self._lines.choose(), first=False)
        if all(line.closed for line in lines):
            raise ConfigError(lines[0].closed)
        return EngineInfo(
            max_num_seqs=self._endpoint.max_concurrency * len(lines),
            context_length=self._context,
            kv_cache_tokens=None,
            details={
                "engine": "openai",
                "base_url": self._endpoint.base_url,
                "structured_output": self._asker.dialect.structured,
            },
            is_billed=True,
        )

    def encode(self, requests: Sequence[Request]) -> list[Request | RequestFailure]:
        """Return the requests with text that JSON can carry; the server renders the chat template."""
        return [replace(request, messages=[_make_valid(turn) for turn in request.messages]) for request in requests]

    async def generate(self, request: Request) -> list[Completion]:
        """Return one completion per sample; sample i is sent with seed + i.

        Raises:
            RequestError: a sample cannot be served; a replica asks for samples one by one, and keeps the others.
            RunFailedError: no key or no server is left.
        """
        samples = [asyncio.ensure_future(self._sample(request, index)) for index in range(request.n)]
        try:
            return list(await asyncio.gather(*samples))
        except BaseException:
            for sample in samples:
                sample.cancel()
            await asyncio.gather(*samples, return_exceptions=True)
            raise

    def heartbeat(self) -> float:
        """Return the clock while nothing is overdue: a request ends by `endpoint.timeout_s`, a pause by what was said.

        Where a request has outlived its limit, it is the time of the last answer.
        """
        return self._asker.heartbeat

    @property
    def lessons(self) -> Sequence[str]:
        """What was learnt of the server, a sentence each."""
        return self._asker.lessons

    def notice(self) -> str:
        """Return what is waited for, in a few words; empty: nothing."""
        return self._lines.notice()

    async def close(self) -> None:
        """Close the connections."""
        for line in self._lines:
            await line.close()

    # Getting to know the server

    async def _meet(self, line: Line, *, first: bool) -> None:
        """Learn what a line serves. Raises ConfigError for what no waiting mends."""
        reply = await line.get("/models", min(ASK_TIMEOUT_S, self._endpoint.timeout_s))
        if isinstance(reply, Lost):
            if any(words in reply.message for words in _NEVER_PASSES):
                mend = "set endpoint.ca_file" if "CERTIFICATE" in reply.message else "check endpoint.base_url"
                raise ConfigError(f"{line.base_url} cannot be reached: {reply.message}; {mend}")
            if first:
                self._set_down(line, reply.message)
            return
        if reply.status >= 500 and first:
            answer = await self._asker.ask(line)
            if isinstance(answer, Refusal) and answer.reason in ("lost", "timeout", "server_error"):
                self._set_down(line, answer.message)
            return
        served = read_listing(reply.body) if reply.status == 200 else []
        entry = next((item for item in served if item.name == self._model.id), None)
        if entry is not None:
            self._take_entry(entry)
            return
        await self._check_by_asking(line, reply, served)

    async def _check_by_asking(self, line: Line, reply: Reply, served: list[Listed]) -> None:
        """Ask a server for one token that does not list the model: what can chat need not list anything."""
        answer = await self._asker.ask(line)
        if isinstance(answer, Completion) or answer.reason not in ("no_access", "refused", "redirected"):
            if len(served) == 1:  # it has one model, under another name
                self._take_entry(served[0])
            return
        if answer.message.startswith(("401", "403")) and reply.status != 200:
            self._lines.close_line(line, self._describe_refused_key(line))
        elif served:
            names = ", ".join(item.name for item in served[:8])
            raise ConfigError(f"model.id={self._model.id} is not served by {line.base_url}; it has {names}")
        elif answer.reason == "redirected":
            raise ConfigError(f"endpoint.base_url={line.base_url} is redirected: {answer.message}")
        else:
            raise ConfigError(f"model.id={self._model.id} is not served by {line.base_url}: {answer.message}")

    def _take_entry(self, entry: Listed) -> None:
        if entry.context_length is not None:
            self._context = min(entry.context_length, self._context or entry.context_length)
        dialect = self._asker.dialect
        if entry.is_vllm:
            structured = "vllm" if dialect.structured == "auto" else dialect.structured
            self._asker.dialect = replace(dialect, continues=True, structured=structured)

    def _set_down(self, line: Line, why: str) -> None:
        line.down_since, line.down_why = self._clock(), why
        self._lines.ask(line, why)

    def _describe_refused_key(self, line: Line) -> str:
        name = line.key_name
        return f"{line.base_url} refuses the key in {name}; export {name}=… or set endpoint.api_key_env"

    # One sample

    async def _sample(self, request: Request, index: int) -> Completion:
        limit = request.sampling.most_tokens
        call = _Call(index, min(limit, self._context or limit))
        form = request.output_format
        while True:
            line = await self._lines.choose()
            if form is not None and form.spec and self._asker.dialect.structured == "auto":
                await self._asker.find_structured_output(line)
            async with line.window.slot():
                if line.closed or line.down_since:
                    continue
                await line.limit.wait()
                sent_at = self._clock()
                body = self._asker.write(request, index, call.max_tokens)
                answer = await self._asker.post(line, body, form, self._endpoint.timeout_s)
            if isinstance(answer, Completion):
                self._lines.note_served(line)
                line.limit.spend(answer.prompt_tokens + answer.output_tokens)
                return replace(answer, bill=call.bill + answer.bill)
            call.bill += answer.bill
            line.limit.spend(answer.bill.input_tokens + answer.bill.output_tokens)
            await self._answer_refusal(line, call, request, body, answer, sent_at)

    async def _answer_refusal(
        self, line: Line, call: _Call, request: Request, body: dict[str, Any], answer: Refusal, sent_at: float
    ) -> None:
        """Do what a refusal calls for, so that the sample can be sent again.

        Raises:
            RequestError: it will not be served.
            ConfigError: nothing was ever served, and the key or the model is wrong.
        """
        match answer.kind:
            case Kind.give_up | Kind.parameter:
                self._lines.note_served(line)
                if self._can_widen(call, request, answer) or self._can_learn(call, body, request, answer):
                    return
                raise _give_up(call, answer)
            case Kind.too_long:
                self._lines.note_served(line)
                self._shorten(call, body, answer)
            case Kind.slow_down:
                self._slow_down(line, call, answer, sent_at)
            case Kind.exhausted:
                self._lines.close_line(
                    line,
                    f"{line.base_url} says that the credit or quota of {line.key_name} is used up: {answer.message}; "
                    "what was committed is kept: mend that and start the same command again",
                )
            case Kind.no_access:
                await self._answer_no_access(line, call, answer, sent_at)
            case Kind.again:
                await self._try_again(line, call, answer, sent_at)

    def _can_widen(self, call: _Call, request: Request, answer: Refusal) -> bool:
        """Give a thought that left no room for an answer of a given form more tokens; other limits are the user's."""
        if not answer.thought or request.output_format is None or call.widened >= MOST_WIDENED:
            return False
        call.widened += 1
        call.max_tokens = min(2 * call.max_tokens, self._context or 2 * call.max_tokens)
        return True

    def _can_learn(self, call: _Call, body: dict[str, Any], request: Request, answer: Refusal) -> bool:
        call.lessons += 1
        if answer.reason != "refused" or call.lessons > MOST_LESSONS:
            return False
        now = self._asker.write(request, call.index, call.max_tokens)
        return now != body or self._asker.learn(body, answer)  # another request may have learnt since this one was sent

    def _shorten(self, call: _Call, body: dict[str, Any], answer: Refusal) -> None:
        """Ask for less where prompt and output exceed the context: for the room that is left, or half."""
        asked = int(body.get(self._asker.dialect.length_key, call.max_tokens))
        room = answer.room
        call.max_tokens = asked // 2 if room is None or room >= asked else room
        if call.max_tokens < 1:
            raise _give_up(call, answer)

    def _slow_down(self, line: Line, call: _Call, answer: Refusal, sent_at: float) -> None:
        now = self._clock()
        call.slowed_at = call.slowed_at or now
        patience_s = self._endpoint.outage_s
        if answer.after_s is not None and answer.after_s > patience_s:
            self._lines.close_line(
                line,
                f"{line.base_url} asks to wait {answer.after_s:.0f} s, longer than endpoint.outage_s={patience_s:g}: "
                f"{answer.message}; what was committed is kept: start the same command again then",
            )
            return
        if now - call.slowed_at > patience_s:
            raise _give_up(call, answer)
        line.window.push_back(sent_at, answer.after_s)

    async def _answer_no_access(self, line: Line, call: _Call, answer: Refusal, sent_at: float) -> None:
        """Find out what a 401, 403 or 404 is about: this prompt alone (a firewall), or the key or the address."""
        if line.served_at > sent_at:
            raise _give_up(call, replace(answer, kind=Kind.give_up))
        for wait_s in (0.0, 1.0, 5.0):
            await self._sleep(wait_s)
            verdict = await self._asker.ask(line)
            if isinstance(verdict, Completion) or verdict.reason != "no_access":
                break
        if isinstance(verdict, Completion) or verdict.reason in (
            "no_text",
            "no_answer",
            "thought_cut_off",
            "content_filter",
        ):
            self._lines.note_served(line)
            raise _give_up(call, replace(answer, kind=Kind.give_up))
        is_key = answer.message.startswith(("401", "403"))
        if not self._lines.served:
            if not is_key:
                raise ConfigError(f"{line.base_url}: {answer.message}; check model.id and endpoint.base_url")
            if all(other.closed for other in self._lines if other is not line):
                raise ConfigError(f"{self._describe_refused_key(line)} ({answer.message})")
        if is_key and verdict.reason == "no_access":
            self._lines.close_line(
                line,
                f"{self._describe_refused_key(line)} ({answer.message}); what was committed is kept: "
                "start the same command again",
            )
            return
        await self._lines.note_failure(line, sent_at, answer.message)

    async def _try_again(self, line: Line, call: _Call, answer: Refusal, sent_at: float) -> None:
        if answer.bill.output_tokens:
            call.paid += 1
            if call.paid > MOST_PAID:
                raise _give_up(call, answer)
        if answer.reason in ("no_text", "no_choices"):
            self._lines.note_served(line)
        else:
            if answer.reason == "timeout" or answer.message.startswith(("503", "529")):
                line.window.push_back(sent_at, 0.0)
            if await self._lines.note_failure(line, sent_at, answer.message):
                return
        call.tries += 2 if answer.reason == "timeout" else 1
        if call.tries > self._endpoint.max_retries:
            raise _give_up(call, answer)
        delay = min(30.0, 0.5 * 2.0 ** (call.tries - 1)) * random.uniform(0.8, 1.2)
        await self._sleep(delay if answer.after_s is None else min(answer.after_s, self._endpoint.outage_s))


def _give_up(call: _Call, answer: Refusal) -> RequestError:
    return RequestError(answer.reason, answer.message, retryable=answer.retryable, raw=answer.raw, bill=call.bill)


def _make_valid(turn: Message) -> Message:
    """Return a turn without lone surrogates, which UTF-8 cannot hold."""
    return change_turn(turn, _replace_lone, _replace_lone)


def _replace_lone(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
