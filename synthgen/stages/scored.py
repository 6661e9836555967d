"""What scorers score: the completions of a unit's prompts, those of all generators together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from synthgen.records import WHOLE_FINISH_REASONS, Tables, list_calls

SCORER_PRIORITY = 5
"""Between the judge's and a generator's."""
NO_COMPLETION = "no_completion"
"""Why a completion without a text has no value."""

Answer = tuple[str, str | None, str | None]
"""A completion's id, its text (None: a model did not end it itself), and what it calls, as JSON."""


def read_completions(tables: Tables, generations: Sequence[str]) -> Mapping[str, list[Answer]]:
    """Return the answers by prompt_id, in the order of `generations`.

    Args:
        generations: names of the generators' tables (GENERATIONS_SCHEMA).
    """
    completions: defaultdict[str, list[Answer]] = defaultdict(list)
    for name in generations:
        names = ("prompt_id", "completion_id", "text", "error", "finish_reason")
        columns = [tables[name][column].to_pylist() for column in names]
        calls = list_calls(tables[name])
        for prompt_id, completion_id, text, error, finish, called in zip(*columns, calls, strict=True):
            whole = error is None and (finish is None or finish in WHOLE_FINISH_REASONS)
            completions[prompt_id].append((completion_id, text if whole else None, called))
    return completions
