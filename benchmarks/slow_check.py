"""A check that takes its time, for chaos: kills shall fall into scorers, too."""

from __future__ import annotations

import time

SECONDS = 0.05


def has_even_words(*, completion: str, **_: object) -> float | None:
    """Return 1 for an even number of words, 0 for an odd one, None (no verdict) for an empty text."""
    time.sleep(SECONDS)
    words = len(completion.split())
    return None if not words else float(words % 2 == 0)
