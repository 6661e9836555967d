"""How work on a model tells what it is at: `report(phase, done_bytes, total_bytes, seconds)`, total 0 if unknown."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[str, int, int, float], None]


def silent(phase: str, done: int, total: int, seconds: float) -> None:
    """Tell nobody."""
