"""Puts questions to a server in its dialect, which it learns as the server refuses, and reads the answers."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace
from typing import Any

from synthgen.config import ModelConfig
from synthgen.engines.openai.answers import read_answer
from synthgen.engines.openai.dialect import learn, make_dialect, write_body
from synthgen.engines.openai.line import Clock, Line
from synthgen.engines.openai.reply import Kind, Lost, Refusal
from synthgen.records import Completion, Message, OutputFormat, Request, Sampling

logger = logging.getLogger(__name__)

ASK_TIMEOUT_S = 60.0
LATE_S = 30.0
_HELLO = [Message(role="user", content="Hello")]
_PATH = "/chat/completions"
_SEVEN = {
    "type": "object",
    "properties": {"n": {"type": "integer", "enum": [7]}},
    "required": ["n"],
    "additionalProperties": False,
}
_PROBES: tuple[tuple[str, OutputFormat, Any], ...] = (
    ("vllm", OutputFormat("regex", "[7]{3}"), 777),
    ("json_schema", OutputFormat("json", json.dumps(_SEVEN)), {"n": 7}),
)
"""Ways to constrain an output, and the value that nobody answers to a greeting unless constrained."""


class Asker:
    """Knows how to talk to the servers of one endpoint.

    Attributes:
        dialect: how requests are written by now.
        lessons: what was learnt, a sentence each.
    """

    def __init__(self, model: ModelConfig, clock: Clock) -> None:
        self._model = model
        self._endpoint = model.endpoint
        self._clock = clock
        self._probing = asyncio.Lock()
        self._deadlines: dict[object, float] = {}
        self._last_word = clock()
        self.dialect = make_dialect(model.endpoint)
        self.lessons: list[str] = []

    @property
    def heartbeat(self) -> float:
        """The clock while no request is overdue, else the time of the last answer."""
        now = self._clock()
        overdue = any(deadline + LATE_S < now for deadline in self._deadlines.values())
        return self._last_word if overdue else now

    def write(self, request: Request, index: int, max_tokens: int) -> dict[str, Any]:
        """Return the body of sample `index`."""
        return write_body(self.dialect, self._model, request, index, max_tokens)

    async def post(
        self, line: Line, body: dict[str, Any], form: OutputFormat | None, timeout_s: float
    ) -> Completion | Refusal:
        """Return what a line answers to `body`; it ends by `timeout_s`."""
        token = object()
        self._deadlines[token] = self._clock() + timeout_s
        try:
            reply = await line.post(_PATH, body, timeout_s)
        finally:
            del self._deadlines[token]
            self._last_word = self._clock()
        if isinstance(reply, Lost):
            return Refusal("timeout" if reply.timed_out else "lost", reply.message, Kind.again)
        answer = read_answer(reply, form, calls="tools" in body)
        if isinstance(answer, Refusal):
            return replace(answer, message=line.hide_key(answer.message), raw=line.hide_key(answer.raw))
        return answer

    async def ask(self, line: Line) -> Completion | Refusal:
        """Return what a line says to the shortest question there is."""
        request = Request("hello", _HELLO, Sampling(max_tokens=1))
        while True:
            body = self.write(request, 0, 1)
            body = {key: value for key, value in body.items() if key not in ("temperature", "top_p", "seed")}
            answer = await self.post(line, body, None, min(ASK_TIMEOUT_S, self._endpoint.timeout_s))
            if isinstance(answer, Completion) or not self.learn(body, answer):
                return answer

    def learn(self, body: dict[str, Any], answer: Refusal) -> bool:
        """Return whether a refusal has taught a new way to write requests. Each lesson is learnt and said once."""
        lesson = learn(self.dialect, body, answer) if answer.reason == "refused" else None
        if lesson is None or lesson[0] == self.dialect:
            return False
        self.dialect, words = lesson
        self.lessons.append(f"{self._endpoint.base_url}: {words}")
        logger.warning("%s: %s", self._endpoint.base_url, words)
        return True

    async def find_structured_output(self, line: Line) -> None:
        """Try vLLM's structured output, then a JSON schema: a server may ignore what it does not know."""
        async with self._probing:
            if self.dialect.structured != "auto":
                return
            for name, form, wanted in _PROBES:
                request = Request("probe", _HELLO, Sampling(max_tokens=32, temperature=0.0), output_format=form)
                dialect = replace(self.dialect, structured=name)
                body = write_body(dialect, self._model, request, 0, 32)
                answer = await self.post(line, body, None, min(ASK_TIMEOUT_S, self._endpoint.timeout_s))
                if isinstance(answer, Completion) and _load(answer.text) == wanted:
                    self.dialect = dialect
                    return
            self.dialect = replace(self.dialect, structured="none")


def _load(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
