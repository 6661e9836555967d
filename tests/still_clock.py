"""A clock for engines: time that passes only while someone sleeps, so that tests wait for nothing."""

from __future__ import annotations

import asyncio


class Clock:
    """Called, it tells the time; `slept` lists how long it was slept, s."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        if seconds:
            self.slept.append(seconds)
            self.now += seconds
        await asyncio.sleep(0)
