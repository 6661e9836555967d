"""Units in, observations out: tables become small arrays batch by batch, and their text is let go."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.judge.canary import canary_handled
from synthgen.pairs.index import FloatArray, IntArray, find_in, index_completions
from synthgen.pairs.place import PlaceEffects, take_out_place
from synthgen.pairs.ratings import Ratings, drop_canaries, flatten_ratings
from synthgen.records import concat_units, count_answer_tokens
from synthgen.trust.observations import CanaryCount, Float32Array, Observations, Requests

BATCH_ROWS = 16_384
"""Units are reduced in batches of at least so many completions: numpy's and Arrow's overhead is per call."""


def observe(
    units: Iterable[tuple[pa.Table, pa.Table]], *, use_expected: bool, place: PlaceEffects | None = None
) -> Observations:
    """Return the observations of (generations, judgements) per unit; memory grows by about 30 bytes per rating.

    Args:
        units: GENERATIONS_SCHEMA and JUDGEMENTS_SCHEMA; a prompt is in one unit only.
        use_expected: whether expected ratings make the scores where they exist.
        place: what places add, to be taken out of the values; None: nothing is.
    """
    requests = Requests()
    canaries: dict[str, CanaryCount] = defaultdict(CanaryCount)
    parts: list[_Part] = []
    aspects: list[str] = []
    generators: list[str] = []
    prompts = completions = 0
    for generations, judgements in _batch(units):
        _count_canaries(judgements, canaries)
        judgements = drop_canaries(judgements)
        part = _reduce(generations, judgements, use_expected, aspects, generators, place)
        _count_requests(judgements, part, requests)
        part.shift(prompts, completions)
        prompts, completions = prompts + part.prompts, completions + len(part.prompt)
        parts.append(part)
    return _join(parts, aspects, generators, prompts, use_expected, requests, canaries)


@dataclass(slots=True)
class _Part:
    """The numbers of one batch. `completion` to `place` are aligned: one element per rating."""

    prompts: int
    prompt: IntArray
    generator: IntArray
    tokens: Float32Array
    completion: IntArray
    aspect: IntArray
    repetition: IntArray
    slot: IntArray
    rating: Float32Array
    expected: Float32Array
    place: Float32Array
    shown_prompt: IntArray
    shown_slot: IntArray
    shown_size: IntArray
    shown_deviation: Float32Array

    def shift(self, prompts: int, completions: int) -> None:
        self.prompt = (self.prompt + prompts).astype(np.int32)
        self.shown_prompt = (self.shown_prompt + prompts).astype(np.int32)
        self.completion = (self.completion + completions).astype(np.int32)


def _reduce(
    generations: pa.Table,
    judgements: pa.Table,
    use_expected: bool,
    aspects: list[str],
    generators: list[str],
    place: PlaceEffects | None,
) -> _Part:
    index = index_completions(generations)
    order = np.argsort(index.prompt, kind="stable")
    row = np.empty_like(order)
    row[order] = np.arange(len(order))
    ratings = flatten_ratings(index, judgements)
    shown, deviation = _deviate(ratings, ratings.values(use_expected))
    added = take_out_place(ratings, place or PlaceEffects()).place
    assert added is not None
    return _Part(
        prompts=len(index.prompt_ids),
        prompt=index.prompt[order],
        generator=_number(generations["generator"], generators)[order].astype(np.int16),
        tokens=_float32(count_answer_tokens(generations).cast(pa.float64()).to_numpy())[order],
        completion=row[ratings.completion],
        aspect=_number(pa.array(ratings.aspects, pa.string()), aspects)[ratings.aspect].astype(np.int16),
        repetition=ratings.repetition.astype(np.int16),
        slot=ratings.slot.astype(np.int16),
        rating=_float32(ratings.rating),
        expected=_float32(ratings.expected),
        place=_float32(added),
        shown_prompt=index.prompt[ratings.completion[shown]],
        shown_slot=ratings.slot[shown].astype(np.int16),
        shown_size=ratings.size[shown].astype(np.int16),
        shown_deviation=_float32(deviation),
    )


def _deviate(ratings: Ratings, value: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return the valid ratings of requests with at least two of them, and each one's value minus the request's mean."""
    valid = np.flatnonzero(~np.isnan(value))
    request = ratings.judgement[valid]
    size = np.bincount(request)
    total = np.bincount(request, weights=value[valid])
    several = size[request] >= 2
    request, valid = request[several], valid[several]
    return valid, value[valid] - total[request] / size[request]


def _join(
    parts: list[_Part],
    aspects: list[str],
    generators: list[str],
    prompts: int,
    use_expected: bool,
    requests: Requests,
    canaries: dict[str, CanaryCount],
) -> Observations:
    def concat(name: str) -> npt.NDArray[Any]:
        return np.concatenate([getattr(part, name) for part in parts]) if parts else np.empty(0, dtype=np.int32)

    prompt, repetition = concat("prompt"), concat("repetition")
    cell = (repetition, concat("completion"), concat("aspect"))
    shape = (int(repetition.max(initial=-1)) + 1, len(prompt), len(aspects))

    def spread(name: str) -> Float32Array:
        cube = np.full(shape, np.nan, dtype=np.float32)
        cube[cell] = concat(name)
        return cube

    rating, expected = spread("rating"), spread("expected")
    slot = np.full(shape, -1, dtype=np.int16)
    slot[cell] = concat("slot")
    expected[np.isnan(rating)] = np.nan
    return Observations(
        aspects=aspects,
        generators=generators,
        prompts=prompts,
        prompt=prompt,
        generator=concat("generator"),
        tokens=concat("tokens"),
        rating=rating,
        expected=expected,
        value=(np.where(np.isnan(expected), rating, expected) if use_expected else rating) - spread("place"),
        shown_prompt=concat("shown_prompt"),
        shown_slot=concat("shown_slot"),
        shown_deviation=concat("shown_deviation"),
        requests=requests,
        canaries=canaries,
        slot=slot,
        shown_size=concat("shown_size"),
    )


def _batch(units: Iterable[tuple[pa.Table, pa.Table]]) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Yield the units in batches of at least BATCH_ROWS completions, without the completions' texts."""
    batch: list[tuple[pa.Table, pa.Table]] = []
    rows = 0
    for generations, judgements in units:
        columns = [name for name in _GENERATION_COLUMNS if name in generations.column_names]
        batch.append((generations.select(columns), judgements))
        rows += len(generations)
        if rows >= BATCH_ROWS:
            yield _concat(batch)
            batch, rows = [], 0
    if batch:
        yield _concat(batch)


_GENERATION_COLUMNS = ["prompt_id", "completion_id", "generator", "output_tokens", "reasoning_tokens"]


def _concat(batch: list[tuple[pa.Table, pa.Table]]) -> tuple[pa.Table, pa.Table]:
    return concat_units(pair[0] for pair in batch), concat_units(pair[1] for pair in batch)


def _count_canaries(judgements: pa.Table, canaries: dict[str, CanaryCount]) -> None:
    for row in judgements.filter(pc.is_valid(judgements["canary"])).to_pylist():
        count, handled = canaries[row["canary"]], canary_handled(row)
        count.planted += 1
        count.conclusive += handled is not None
        count.handled += handled is True


def _count_requests(judgements: pa.Table, part: _Part, requests: Requests) -> None:
    judgements = judgements.filter(pc.greater(judgements["attempts"], 0))  # 0: there was nothing to ask about
    requests.status.update(_count_values(judgements["status"]))
    requests.errors.update(_count_values(judgements["error"].drop_null()))
    requests.asked_again += pc.sum(pc.greater(judgements["attempts"], 1)).as_py() or 0
    requests.ratings += len(part.rating)
    requests.valid_ratings += int(np.isfinite(part.rating).sum())


def _count_values(column: pa.ChunkedArray) -> dict[str, int]:
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(column).to_pylist()}


def _number(column: pa.Array | pa.ChunkedArray, names: list[str]) -> IntArray:
    """Return each name's place in `names`, to which new ones are added."""
    names.extend(sorted(set(pc.unique(column).to_pylist()) - set(names)))
    return find_in(column, pa.array(names, pa.string()))


def _float32(values: npt.NDArray[Any]) -> Float32Array:
    return np.asarray(values, dtype=np.float32)
