"""Completions that exist already are found in the forms in which people have them."""

from __future__ import annotations

from typing import Any

import pytest

from synthgen.prompts.completions import GivenCompletion, read_completions
from synthgen.prompts.unusable import UnusableRowError

TURNS = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"chosen": "a", "rejected": "b"}, [("a", None, 1.0), ("b", None, 0.0)]),
        (
            {"chosen": "a", "rejected": "b", "chosen_model": "m", "rejected-model": "n", "chosen_score": 4.5},
            [("a", "m", 1.0), ("b", "n", 0.0)],
        ),
        (
            {"chosen": TURNS, "rejected": [TURNS[0], {"role": "assistant", "content": "B"}]},
            [("A", None, 1), ("B", None, 0)],
        ),
        (
            {"completions": [{"response": "a", "model": "m", "overall_score": 7.0}, {"response": "b", "model": "n"}]},
            [("a", "m", 7.0), ("b", "n", None)],
        ),
        ({"responses": ["a", "b"], "models": ["m", "n"]}, [("a", "m", None), ("b", "n", None)]),
        (  # distilabel's UltraFeedback: `model_name` is the judge's
            {"generations": ["a", "b"], "generation_models": ["m", "n"], "ratings": [2, None], "model_name": "judge"},
            [("a", "m", 2.0), ("b", "n", None)],
        ),
        ({"generations": ["a", "b"], "ratings": [2, 5], "model_name": "judge"}, [("a", None, 2.0), ("b", None, 5.0)]),
        ({"generations": ["a", "b"], "ratings": [2, 5, 1], "model_name": "m"}, [("a", "m", None), ("b", "m", None)]),
        ({"generations": ["a", "b"], "model": "m"}, [("a", "m", None), ("b", "m", None)]),
        ({"completion": TURNS}, [("A", None, None)]),
        ({"completion": [TURNS[1]], "label": True}, [("A", None, 1.0)]),
        ({"prompt": "Q", "response": "a", "model": "m", "score": "3"}, [("a", "m", 3.0)]),
        ({"output": "a", "generator": "m"}, [("a", "m", None)]),
        ({"conversation": [{"from": "human", "value": "Q"}], "answer": "a"}, [("a", None, None)]),
    ],
)
def test_usual_forms_are_found_without_options(row: dict[str, Any], expected: list[tuple[Any, ...]]) -> None:
    assert read_completions(row) == [GivenCompletion(*one) for one in expected]


def test_columns_may_be_named() -> None:
    row = {"mine": {"best": "a"}, "who": "m", "output": "b"}
    assert read_completions(row, "mine.best", "who") == [GivenCompletion("a", "m")]


@pytest.mark.parametrize(
    ("row", "column", "reason"),
    [
        ({"prompt": "Q"}, None, "no_completion"),
        ({"chosen": "a", "rejected": None}, None, "no_completion"),
        ({"responses": [1, 2]}, None, "not_a_text"),
        ({"output": "a"}, "mine", "no_completion"),
    ],
)
def test_row_without_completions_has_a_reason(row: dict[str, Any], column: str | None, reason: str) -> None:
    with pytest.raises(UnusableRowError) as error:
        read_completions(row, column)
    assert error.value.reason == reason
