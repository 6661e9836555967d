"""The judge: what it is asked (UltraFeedback, arXiv 2310.01377), in which form it answers, and what its text says.

Knows nothing of Ray and of files.
"""

from __future__ import annotations

from synthgen.judge.aspects import ULTRAFEEDBACK_ASPECTS, Aspect, resolve_aspect
from synthgen.judge.canary import canary_handled
from synthgen.judge.parse import ParsedRatings, parse_ratings

__all__ = ["ULTRAFEEDBACK_ASPECTS", "Aspect", "ParsedRatings", "canary_handled", "parse_ratings", "resolve_aspect"]

PUBLIC = (
    "aspects",
    "calls",
    "canary",
    "complaint",
    "expected",
    "form",
    "formats",
    "frame",
    "order",
    "render",
    "rows",
    "tasks",
    "ultrafeedback",
)
IMPORTS = ("config", "tasks")
