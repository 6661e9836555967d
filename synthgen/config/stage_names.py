"""What stages are called, and what their tables hold. No name is taken apart: whoever wants a table names its kind."""

from __future__ import annotations

from typing import Literal

Kind = Literal["generations", "judgements", "scores", "task"]
"""What a stage's table holds, where it is one of the schemas in records.py that others read: a stage says so
(`LLMStage`)."""
JUDGE = "judge"
OTHER_JUDGE = "other-judge"
"""The judge of a proof that had no part in the data."""
SIDE = "side"
"""The scorer of a proof's prompts of another kind."""
TASK = "task"
"""Names of the judge's stage and of a task's, and of their tables."""
HISTORY = "history"
"""The stage that answers the turns before the last, and its table."""


def name_generations(generator: str) -> str:
    """Return the name of a generator's stage, and of its table."""
    return f"generate-{generator}"


def name_scores(scorer: str) -> str:
    """Return the name of a scorer's stage, and of its table; the judge's is JUDGE."""
    return f"score-{scorer}"
