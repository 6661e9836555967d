"""How many requests a server is sent at once: more while it answers, half as many when it pushes back."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

FIRST_LIMIT = 16


class Window:
    """Additive increase, multiplicative decrease (Chiu and Jain, 1989), with TCP's slow start.

    Args:
        most: `endpoint.max_concurrency`.
    """

    def __init__(
        self,
        most: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._most = max(1, most)
        self.limit = float(min(self._most, FIRST_LIMIT))
        self._starting = True
        self._cut_at = clock() - 1.0
        self._pushed_back = 0
        self.resume_at = 0.0
        self.in_flight = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[float]:
        """Wait for a place; gives the time at which it was there."""
        while self.in_flight >= int(self.limit):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._wake()
                raise
        self.in_flight += 1
        try:
            while (delay := self.resume_at - self._clock()) > 0:
                await self._sleep(delay)
            yield self._clock()
        finally:
            self.in_flight -= 1
            self._wake()

    def answered(self) -> None:
        """Note a request that was served."""
        self._pushed_back = 0
        self.limit = min(self._most, self.limit + (1.0 if self._starting else 1.0 / self.limit))
        self._wake()

    def push_back(self, sent_at: float, wait_s: float | None) -> None:
        """Note that the server wants fewer requests. Those that were sent before the last cut are the same word.

        Args:
            wait_s: how long it asks to wait; None: 1, 2, 4 … 60 s, until a request is served.
        """
        now = self._clock()
        if sent_at >= self._cut_at:
            self._starting = False
            self.limit = max(1.0, self.limit / 2)
            self._cut_at = now
            self._pushed_back += 1
        delay = min(60.0, 2.0 ** (self._pushed_back - 1)) if wait_s is None else wait_s
        self.resume_at = max(self.resume_at, now + delay)

    def _wake(self) -> None:
        free = int(self.limit) - self.in_flight
        while free > 0 and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1
