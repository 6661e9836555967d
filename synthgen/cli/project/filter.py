"""A filter of your own. `config.yaml` names it: `scorers.whole.kind: python:${here}/filter.py:ends_whole`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def ends_whole(
    prompt: Sequence[Mapping[str, str]], completion: str, reference: str | None, metadata: Mapping[str, Any]
) -> float:
    """Return 1 for a completion that has at least three words and does not break off in a comma, else 0.

    Args:
        prompt: the conversation. reference: a right answer, where the prompts have one. metadata: their other columns.
    """
    return float(len(completion.split()) >= 3 and not completion.rstrip().endswith((",", ";", ":")))
