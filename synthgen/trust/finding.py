"""What one check of the trust report says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["fine", "warning", "unknown"]

MIN_PROMPTS = 30
"""Prompts below which nothing is said of places and of length."""

DEFAULT_SCALE = 4.0
"""Points between the lowest and the highest rating, in reports that do not say."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check says: `text` is one plain sentence. `unknown`: the run holds nothing to tell it by."""

    check: str
    verdict: Verdict
    text: str


def percent(share: float) -> str:
    """Return a share as it is printed."""
    return f"{100 * share:.1f}%"
