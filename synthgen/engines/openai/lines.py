"""All lines of an endpoint: which one takes the next request, and waiting for servers that serve nobody.

A line is down where its requests fail for passing reasons and none has been served since. Then one short question at a
time asks whether it serves again, for `endpoint.outage_s`; requests wait, and none of them is lost.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence

from synthgen.config import EndpointConfig
from synthgen.engines.openai.line import Line
from synthgen.engines.openai.reply import Refusal
from synthgen.errors import RunFailedError
from synthgen.records import Completion

logger = logging.getLogger(__name__)

ASK_EVERY_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
BLIND_FAILURES = 2
"""Passing failures in a row before a line is asked whether it serves at all."""

SERVES_NOBODY = frozenset({"lost", "timeout", "server_error", "bad_answer", "no_access", "redirected"})
"""Why a line that fails the shortest question is down."""

Ask = Callable[[Line], Awaitable[Completion | Refusal]]


class Lines:
    """The open lines of an endpoint.

    Args:
        ask: sends the shortest question there is; its answer tells whether a line serves.
    """

    def __init__(
        self,
        lines: Sequence[Line],
        endpoint: EndpointConfig,
        ask: Ask,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._lines = list(lines)
        self._endpoint = endpoint
        self._ask = ask
        self._clock = clock
        self._sleep = sleep

    def __iter__(self) -> Iterator[Line]:
        return iter(self._lines)

    @property
    def served(self) -> bool:
        """Whether any request was ever served."""
        return any(line.served_at for line in self._lines)

    async def choose(self) -> Line:
        """Return the line with the most room, once there is one that serves.

        Raises:
            RunFailedError: all lines are closed, or have served nobody for `endpoint.outage_s`.
        """
        while True:
            open_lines = [line for line in self._lines if not line.closed]
            if not open_lines:
                raise RunFailedError("; ".join(dict.fromkeys(line.closed for line in self._lines)))
            up = [line for line in open_lines if not line.down_since]
            if up:
                now = self._clock()
                return min(
                    up, key=lambda line: (line.window.resume_at > now, line.window.in_flight / line.window.limit)
                )
            asking = [line.asking for line in open_lines if line.asking is not None]
            await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)

    def close_line(self, line: Line, why: str) -> None:
        """Use a line no more; the run ends with `why` when none is left."""
        if not line.closed:
            line.closed = why
            left = sum(not other.closed for other in self._lines)
            logger.warning("%s (%d of %d lines are left)", why, left, len(self._lines))

    def note_served(self, line: Line) -> None:
        """Note that a line has served a request."""
        line.served_at = self._clock()
        line.failures = 0
        line.window.answered()

    async def note_failure(self, line: Line, sent_at: float, why: str) -> bool:
        """Note a failure that may pass. Return whether the line was down: then it was no fault of the request.

        Raises:
            RunFailedError: no line has served anybody for `endpoint.outage_s`.
        """
        line.failures += 1
        if line.asking is None and (line.served_at > sent_at or line.failures < BLIND_FAILURES):
            return False
        return await asyncio.shield(self.ask(line, why))

    def ask(self, line: Line, why: str) -> asyncio.Task[bool]:
        """Ask until the line serves again; the result is whether it was down. One at a time asks."""
        if line.asking is None:
            line.asking = asyncio.ensure_future(self._ask_until_served(line, why))
        return line.asking

    def notice(self) -> str:
        """Return what lines are waited for, in a few words; empty: all serve, or are closed."""
        now = self._clock()
        down = [line for line in self._lines if line.down_since and not line.closed]
        if down:
            since = max(now - line.down_since for line in down)
            return (
                f"waiting for {', '.join(dict.fromkeys(line.base_url for line in down))} since {since:.0f} s "
                f"(endpoint.outage_s={self._endpoint.outage_s:g}): {down[0].down_why}"
            )
        slowed = [line for line in self._lines if line.window.resume_at - now > 5 and not line.closed]
        if slowed and len(slowed) == sum(not line.closed for line in self._lines):
            wait = min(line.window.resume_at - now for line in slowed)
            return f"{slowed[0].base_url} limits the rate: {wait:.0f} s to wait"
        return ""

    async def _ask_until_served(self, line: Line, why: str) -> bool:
        try:
            for wait_s in itertools.chain(ASK_EVERY_S, itertools.repeat(ASK_EVERY_S[-1])):
                answer = await self._ask(line)
                if isinstance(answer, Completion) or answer.reason not in SERVES_NOBODY:
                    break
                line.down_why = answer.message or why
                line.down_since = line.down_since or self._clock()
                self._check_outage(line)
                if line.closed:
                    return True
                await self._sleep(wait_s)
            if line.down_since:
                logger.warning("%s serves again after %.0f s", line.base_url, self._clock() - line.down_since)
            line.failures = 0
            return bool(line.down_since)
        finally:
            line.down_since = 0.0
            line.asking = None

    def _check_outage(self, line: Line) -> None:
        """Close a line that has been down for `endpoint.outage_s`."""
        if self._clock() - line.down_since < self._endpoint.outage_s:
            return
        self.close_line(
            line,
            f"{line.base_url} has served nothing for endpoint.outage_s={self._endpoint.outage_s:g} s: {line.down_why}; "
            "what was committed is kept: start the same command again when it serves",
        )
        if all(other.closed for other in self._lines):
            raise RunFailedError(line.closed)
