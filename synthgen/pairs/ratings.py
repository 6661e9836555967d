"""Judgement rows in (one list of ratings per judge request), flat arrays out (one element per rating)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.pairs.index import CompletionIndex, FloatArray, IntArray, combine, find_in

SCORE_DECIMALS = 6
"""Scores are rounded to so many decimals: the order in which floats are added must not turn a tie into a pair."""


@dataclass(frozen=True, slots=True)
class Ratings:
    """All ratings of some judgements; the arrays are aligned, one element per (judge request, completion).

    Attributes:
        judgement: row of the rating's judge request in the table that was flattened.
        completion: row of the rated completion in the generations table.
        rating: the drawn integer, NaN where the judge gave no valid one.
        expected: Σ k·p(k), NaN without log-probabilities.
        slot: 0-based place where the completion was shown.
        size: how many completions were shown together.
        rationale: what the judge wrote beside the rating, null where nothing.
        aspect: code into `aspects`.
        repetition: 0 … judge.orders - 1.
        aspects: names of the aspects, sorted.
        place: what the place adds to the rating, in points (synthgen.pairs.place); None: nothing is taken off.
    """

    judgement: IntArray
    completion: IntArray
    rating: FloatArray
    expected: FloatArray
    slot: IntArray
    size: IntArray
    rationale: pa.Array
    aspect: IntArray
    repetition: IntArray
    aspects: list[str]
    place: FloatArray | None = None

    def values(self, use_expected: bool) -> FloatArray:
        """Return what each rating counts in a score: the expected rating where it exists, else the drawn one.

        What the place adds is taken off. NaN where the judge gave no valid rating. With `use_expected=False` the drawn
        rating always.
        """
        values = self.rating
        if use_expected:
            expected = np.where(np.isnan(self.expected), self.rating, self.expected)
            values = np.where(np.isnan(self.rating), np.nan, expected)
        return values if self.place is None else values - self.place


def flatten_ratings(index: CompletionIndex, judgements: pa.Table) -> Ratings:
    """Return every rating of `judgements` beside the completion that it rates.

    Args:
        index: the completions; a rating of any other one is left out.
        judgements: JUDGEMENTS_SCHEMA without canaries, any row order.

    Raises:
        ValueError: the lists of a judgement differ in length.
    """
    ids = combine(judgements["completion_ids"])
    row = pc.list_parent_indices(ids).to_numpy()
    flat_ids = pc.list_flatten(ids)
    columns = {name: pc.list_flatten(combine(judgements[name])) for name in _LISTS}
    for name, column in columns.items():
        if len(column) != len(flat_ids) or not _same_lengths(ids, combine(judgements[name])):
            raise ValueError(f"judgements: {name} and completion_ids differ in length")

    completion = index.find(judgements["prompt_id"].take(pa.array(row)), flat_ids)
    known = completion >= 0
    aspects, aspect = _encode_sorted(judgements["aspect"])
    keep = None if known.all() else pa.array(np.flatnonzero(known))
    size = np.bincount(row, minlength=len(ids))[row][known]
    row, completion = row[known], completion[known]
    columns = columns if keep is None else {name: column.take(keep) for name, column in columns.items()}
    return Ratings(
        judgement=row,
        completion=completion,
        rating=_floats(columns["ratings"]),
        expected=_floats(columns["expected"]),
        slot=columns["slots"].to_numpy(zero_copy_only=False),
        size=size,
        rationale=columns["rationales"],
        aspect=aspect[row],
        repetition=judgements["repetition"].to_numpy()[row],
        aspects=aspects,
    )


def drop_canaries(judgements: pa.Table) -> pa.Table:
    """Return the judgements of real completions: those without a planted text."""
    column = judgements["canary"]
    return judgements if column.null_count == len(column) else judgements.filter(pc.is_null(column))


_LISTS = ("ratings", "expected", "slots", "rationales")


def _same_lengths(left: pa.Array, right: pa.Array) -> bool:
    return bool(pc.all(pc.equal(pc.list_value_length(left), pc.list_value_length(right)), min_count=0).as_py())


def _encode_sorted(column: pa.ChunkedArray) -> tuple[list[str], IntArray]:
    names = sorted(pc.unique(column).to_pylist())
    return names, find_in(column, pa.array(names, pa.string()))


def _floats(column: pa.Array) -> FloatArray:
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False))  # null becomes NaN
