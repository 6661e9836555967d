"""Scorers by name: stages that give completions a number of their own, beside the judge or instead of it.

A scorer is an ordinary stage (`base.LLMStage`) that reads generators' tables; with `measure` it has a part of the
report. None comes with synthgen yet. A package adds one by an entry point in the group `synthgen.scorers` that names
its class, and a pipeline of one's own puts an instance into its `Flow`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from synthgen.config.registry import Registry
from synthgen.stages.base import LLMStage

SCORERS = Registry("synthgen.scorers", {})


def find_scorer(name: str) -> Callable[..., LLMStage]:
    """Return the class of a scorer; what it is called with is its own. Raises ConfigError for an unknown name."""
    found: Any = SCORERS.load(name, "scorer")
    return found  # type: ignore[no-any-return]
