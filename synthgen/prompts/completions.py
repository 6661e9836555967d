"""From a row to the completions that it holds already, in whichever of the usual forms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthgen.prompts.columns import get_column, has_column
from synthgen.prompts.unusable import UnusableRowError, check_text

PAIR = ("chosen", "rejected")
LISTS = ("completions", "responses", "generations", "outputs", "answers", "candidates", "samples")
SINGLE = ("completion", "response", "output", "answer", "generation")
TEXT_KEYS = ("response", "text", "content", "completion", "output", "generated_text", "value")
MODEL_KEYS = ("model", "model_name", "model_id", "generator", "source_model")
MODEL_LISTS = ("generation_models", "completion_models", "response_models", "model_names", "models")
SCORE_LISTS = ("ratings", "scores", "rewards")
SCORE_KEYS = ("score", "overall_score", "rating", "reward", "label")
"""Names in use: of the columns, of columns that hold a value for each completion of a list, and of the keys of an
object in a list (UltraFeedback, Argilla, distilabel, TRL, AlpacaEval)."""


@dataclass(frozen=True, slots=True)
class GivenCompletion:
    """A completion that exists already, who wrote it, and what was recorded of it: 1 for chosen, 0 for rejected, or the
    number beside it. None: nothing is said."""

    text: str
    model: str | None = None
    score: float | None = None


def read_completions(
    row: Mapping[str, Any], column: str | None = None, model_column: str | None = None
) -> list[GivenCompletion]:
    """Return the completions of a row, in its order.

    Args:
        column: that holds them, a text or a list; None: `chosen` and `rejected`, else the first of LISTS, of SINGLE.
        model_column: that holds who wrote them, a text or a list; None: the usual names.

    Raises:
        UnusableRowError: there are none, or they are no texts.
    """
    if column is None and all(row.get(name) not in (None, "", []) for name in PAIR):
        sides = [_read_one(row[name], row, name, model_column) for name in PAIR]
        return [_with_score(side, label) for side, label in zip(sides, (1.0, 0.0), strict=True)]
    if column is None:
        column = next((name for name in (*LISTS, *SINGLE) if row.get(name) not in (None, "", [])), None)
    if column is None or not has_column(row, column):
        raise UnusableRowError("no_completion", f"no completion; looked for {', '.join((*PAIR, *LISTS, *SINGLE))}")
    value = get_column(row, column)
    if isinstance(value, list) and not _is_conversation(value):
        models = _read_models(row, model_column, len(value))
        scores = _read_scores(row, len(value))
        found = [_read_one(one, {}, column, None) for one in value]
        return [
            GivenCompletion(one.text, one.model or model, score if one.score is None else one.score)
            for one, model, score in zip(found, models, scores, strict=True)
        ]
    return [_read_one(value, row, column, model_column)]


def _read_one(value: Any, row: Mapping[str, Any], name: str, model_column: str | None) -> GivenCompletion:
    """Return one completion: a text, a conversation that ends with it, or an object that holds it."""
    inside = value if isinstance(value, Mapping) else {}
    if _is_conversation(value):
        inside, value = value[-1], value[-1].get("content", value[-1].get("value"))
    elif isinstance(value, Mapping):
        value = next((value[key] for key in TEXT_KEYS if isinstance(value.get(key), str)), None)
    if not isinstance(value, str):
        raise UnusableRowError("not_a_text", f"{name} holds no text")
    check_text(value)
    names = [model_column] if model_column else [f"{name}_model", f"{name}-model", *MODEL_KEYS]
    model = _first(_iterate(inside, MODEL_KEYS), str) or _first(_iterate(row, names), str)
    score = _first(_iterate(inside, SCORE_KEYS), float)
    score = _first(_iterate(row, (f"{name}_score", *SCORE_KEYS)), float) if score is None else score
    return GivenCompletion(value, model, score)


def _with_score(side: GivenCompletion, label: float) -> GivenCompletion:
    return GivenCompletion(side.text, side.model, label)


def _read_models(row: Mapping[str, Any], model_column: str | None, count: int) -> Sequence[str | None]:
    names = [model_column] if model_column else [*MODEL_LISTS, *MODEL_KEYS]
    for value in _iterate(row, names):
        if isinstance(value, list) and len(value) == count:
            return [one if isinstance(one, str) else None for one in value]
        # Beside a list of ratings one name is the judge's: distilabel's UltraFeedback writes it so.
        if isinstance(value, str) and (model_column or not _find_scores(row, count)):
            return [value] * count
    return [None] * count


def _read_scores(row: Mapping[str, Any], count: int) -> Sequence[float | None]:
    return [_first(iter([one]), float) for one in _find_scores(row, count)] or [None] * count


def _find_scores(row: Mapping[str, Any], count: int) -> Sequence[Any]:
    """Return the values beside a list of completions, one for each; empty: there are none."""
    lists = (value for value in _iterate(row, SCORE_LISTS) if isinstance(value, list) and len(value) == count)
    return next(lists, [])


def _is_conversation(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_turn(turn) for turn in value)


def _is_turn(value: Any) -> bool:
    return isinstance(value, Mapping) and ({"role", "content"} <= value.keys() or {"from", "value"} <= value.keys())


def _iterate(row: Mapping[str, Any], names: Sequence[str]) -> Iterator[Any]:
    return (value for name in names if (value := get_column(row, name)) not in (None, ""))


def _first(values: Iterator[Any], kind: type) -> Any:
    """Return the first value of a kind; a number may be written as text, and a truth value counts as 1 or 0."""
    for value in values:
        if kind is str and isinstance(value, str):
            return value
        if kind is float and isinstance(value, bool | int | float):
            return float(value)
        if kind is float and isinstance(value, str):
            try:
                return float(value)
            except ValueError:
                continue
    return None
