"""What is estimated over a run before its rows are made: what places add, where KTO cuts, which labels may turn round.

All of it is estimated on one fixed part of the run, its first 32, 64, 128, … prompts, as many as there are and at most
MOST_PROMPTS, whatever their units (a run of fewer than 32: all). So a run that grows keeps its estimates, and with
them the rows that it has written, until it has doubled; a large one keeps them for good.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import inf

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config import KtoConfig, PairsConfig
from synthgen.pairs.flips import FlipCurve, estimate_flips
from synthgen.pairs.index import FloatArray, combine, index_completions
from synthgen.pairs.place import PlaceEffects, estimate_place, list_texts, take_out_place
from synthgen.pairs.ratings import drop_canaries, flatten_ratings
from synthgen.pairs.scores import average_aspects, average_repetitions
from synthgen.records import Tables, concat_units

LEAST_PROMPTS, MOST_PROMPTS = 32, 4096
"""By so many prompts at most is estimated: a place's points are known to about half a hundredth of the scale then."""


NO_LIMIT = 0.5
"""`pairs.max_flip_probability` that every pair keeps to."""


@dataclass(frozen=True, slots=True)
class KtoCuts:
    """KTO rows: desirable from `high` up, undesirable up to `low`."""

    high: float
    low: float


@dataclass(frozen=True, slots=True)
class Estimates:
    """What is estimated on the first part of a run.

    Attributes:
        prompts: prompts of that part.
        place: what places add to ratings, and is taken out of the scores; None: nothing is (judge.correct_place=false).
        flips: None where too little was judged twice.
        scores: of the part's texts, sorted; what quantiles are taken of.
    """

    prompts: int
    place: PlaceEffects | None
    flips: FlipCurve | None
    scores: FloatArray

    def cut(self, config: KtoConfig) -> KtoCuts:
        """Return where KTO cuts under `pairs.kto`."""
        return cut_scores(self.scores, config)


def cut_scores(scores: FloatArray, config: KtoConfig) -> KtoCuts:
    """Return the thresholds of `pairs.kto`: values where they are given, else quantiles of `scores` (NaN left out).

    Where both quantiles are one score, that score is on neither side.
    """
    known = scores[~np.isnan(scores)]
    high = config.high if config.high is not None else _quantile(known, 1 - config.desirable)
    low = config.low if config.low is not None else _quantile(known, config.undesirable)
    if high is None or low is None:
        return KtoCuts(float("inf"), float("-inf"))
    if low >= high:
        high = high if config.high is not None else float(np.nextafter(max(high, low), np.inf))
        low = low if config.low is not None else float(np.nextafter(min(high, low), -np.inf))
    return KtoCuts(high, low)


def raise_margin(config: PairsConfig, estimates: Estimates | None) -> PairsConfig:
    """Return the settings with the margin that `pairs.max_flip_probability` needs as the least one, where known."""
    if estimates is None or estimates.flips is None or config.max_flip_probability >= NO_LIMIT:
        return config
    needed = estimates.flips.margin(config.max_flip_probability)
    return replace(config, min_margin=max(config.min_margin, inf if needed is None else needed))


def settle(config: PairsConfig, judged: FloatArray | None, estimates: Estimates | None) -> PairsConfig:
    """Return the settings with numbers in the place of what is estimated: `pairs.kto.high` and `low`, `min_margin`.

    Args:
        judged: the judge's scores, of which the quantiles are taken without `estimates`; None: there is no judge.
    """
    scores = np.empty(0) if judged is None else judged
    cuts = cut_scores(scores, config.kto) if estimates is None else estimates.cut(config.kto)
    kto = replace(config.kto, high=cuts.high, low=cuts.low)
    return replace(raise_margin(config, estimates), kto=kto)


def take_first(units: Iterable[Tables]) -> tuple[list[Tables], Iterator[Tables]]:
    """Return the units that are estimated on, the last of them cut, and all units again."""
    rest = iter(units)
    read: list[Tables] = []
    prompts = [0]
    for tables in rest:
        read.append(tables)
        prompts.append(prompts[-1] + tables["prompts"].num_rows)
        if prompts[-1] >= MOST_PROMPTS:
            break
    wanted = count_first(prompts[-1])
    enough = next((units for units, held in enumerate(prompts) if held >= wanted), len(read))
    first = read[:enough]
    if prompts[enough] > wanted:
        first[-1] = _cut(first[-1], wanted - prompts[enough - 1])
    return first, chain(read, rest)


def count_first(prompts: int) -> int:
    """Return how many of the first `prompts` prompts of a run are estimated on."""
    wanted = LEAST_PROMPTS
    while 2 * wanted <= min(prompts, MOST_PROMPTS):
        wanted *= 2
    return min(wanted, prompts)


def estimate_first(
    first: Sequence[Tables], names: Sequence[str], *, use_expected: bool, correct_place: bool
) -> Estimates:
    """Return the estimates of the units that `take_first` returned.

    Args:
        names: of the tables of judgements.
    """
    prompts = sum(tables["prompts"].num_rows for tables in first)
    judged = [tables[name].select(JUDGED) for tables in first for name in names]
    empty = Estimates(prompts, PlaceEffects() if correct_place else None, None, np.empty(0))
    return estimate(concat_units(judged), prompts, use_expected, correct_place) if judged else empty


def estimate(judgements: pa.Table, prompts: int, use_expected: bool, correct_place: bool) -> Estimates:
    """Return the estimates of JUDGEMENTS_SCHEMA rows, of which the columns JUDGED are enough."""
    real = drop_canaries(judgements)
    place = estimate_place(real, use_expected) if correct_place else None
    texts = list_texts(real)
    index = index_completions(texts)
    ratings = flatten_ratings(index, real)
    again = flatten_ratings(index, judgements.filter(pc.is_valid(judgements["canary"])))
    if place is not None:
        ratings, again = take_out_place(ratings, place), take_out_place(again, place)
    scores = average_aspects(average_repetitions(ratings, len(texts), use_expected))
    flips = estimate_flips(ratings, use_expected, index.prompt, again)
    return Estimates(prompts, place, flips, np.sort(scores[~np.isnan(scores)]))


JUDGED = ["prompt_id", "aspect", "repetition", "completion_ids", "slots", "ratings", "expected", "rationales", "canary"]


def _quantile(scores: FloatArray, share: float) -> float | None:
    return float(np.quantile(scores, share)) if len(scores) else None


def _cut(tables: Tables, prompts: int) -> Tables:
    """Return the rows of a unit's first prompts."""
    ids = tables["prompts"]["prompt_id"].slice(0, prompts)
    return {name: table.filter(pc.is_in(table["prompt_id"], combine(ids))) for name, table in tables.items()}
