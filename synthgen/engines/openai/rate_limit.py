"""Requests and tokens per minute, as providers count them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

from synthgen.config import EndpointConfig

WINDOW_S = 60.0


class RateLimit:
    """Requests and tokens per minute, over a sliding window. Tokens are known, and counted, after the answer.

    Args:
        clock: seconds that only grow. sleep: waits so many seconds.
    """

    def __init__(
        self,
        endpoint: EndpointConfig,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._requests = endpoint.requests_per_minute
        self._tokens = endpoint.tokens_per_minute
        self._sent: deque[float] = deque()
        self._spent: deque[tuple[float, int]] = deque()
        self._lock = asyncio.Lock()

    async def wait(self) -> None:
        """Return when one more request may be sent."""
        if not self._requests and not self._tokens:
            return
        async with self._lock:
            while (delay := self._delay(self._clock())) > 0:
                await self._sleep(delay)
            self._sent.append(self._clock())

    def spend(self, tokens: int) -> None:
        """Count the tokens of an answer."""
        if self._tokens:
            self._spent.append((self._clock(), tokens))

    def _delay(self, now: float) -> float:
        while self._sent and now - self._sent[0] >= WINDOW_S:
            self._sent.popleft()
        while self._spent and now - self._spent[0][0] >= WINDOW_S:
            self._spent.popleft()
        delay = 0.0
        if self._requests and len(self._sent) >= self._requests:
            delay = WINDOW_S - (now - self._sent[0])
        if self._tokens and sum(tokens for _, tokens in self._spent) >= self._tokens:
            delay = max(delay, WINDOW_S - (now - self._spent[0][0]))
        return delay
