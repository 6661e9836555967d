"""What is left of the places in the scores, and whether a judge's liking for a place is one that adds at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from synthgen.pairs.index import FloatArray, IntArray
from synthgen.trust.intervals import make_blocks, ratio_interval, sum_blocks
from synthgen.trust.observations import Observations, nanmean


def measure_left(observations: Observations, seed: int) -> dict[str, Any] | None:
    """Return how the final scores go with the places, None where no request showed several completions.

    `left`: per place, how much more a completion scores that was shown there than one of the same prompt that was not,
    in points (of several orders: per time that it was), with an interval that holds for all places at once (95%,
    Bonferroni, over prompts). `chance`: how often scores that do not know the place would show as much (F of all places
    together, by least squares with standard errors robust within prompts: Cameron, Miller 2015,
    doi 10.3368/jhr.50.2.317). `even`: every completion stood in every place as often, so that nothing can be left.
    """
    if observations.slot is None:
        return None
    slots = int(observations.slot.max(initial=-1)) + 1
    if slots < 2:
        return None
    scores = observations.scores()
    shown = _share_places(observations, slots) * observations.value.shape[0]
    known = np.flatnonzero(~np.isnan(scores) & (shown.sum(axis=1) > 0))
    prompt = observations.prompt[known]
    y, x = demean(scores[known], prompt), demean(shown[known], prompt)
    block = make_blocks(observations.prompts, seed)[prompt]
    left = []
    for k in range(slots):
        top, bottom = sum_blocks(x[:, k] * y, block), sum_blocks(x[:, k] ** 2, block)
        interval = ratio_interval(top, np.where(bottom > 1e-9, bottom, 0), 1 - 0.05 / slots)
        if interval is not None:
            effect = top.sum() / bottom.sum()
            left.append({"slot": k + 1, "effect": _round(effect), "interval": [_round(bound) for bound in interval]})
    fit = fit_clusters(x, y, block)
    even = not (np.abs(x) > 1e-9).any()
    return {"even": even, "left": left, "chance": None if fit is None else _round(fit.chance)}


def measure_evenness(observations: Observations, seed: int) -> dict[str, Any] | None:
    """Return how far the judge tells completions apart in each place, None where nothing is told apart.

    A liking that adds moves all ratings of a place alike and leaves their spread. `spread`: per place, the standard
    deviation of the ratings around the place's mean, over that of all places; 1 everywhere where the liking adds.
    `chance`: how often equal spreads would differ as much (F of the places together). Of the requests that show as many
    completions as most do.
    """
    size = observations.shown_size
    if size is None or len(size) == 0:
        return None
    common = int(np.bincount(size).argmax())
    here = size == common
    slot, prompt = observations.shown_slot[here].astype(np.int64), observations.shown_prompt[here]
    deviation = observations.shown_deviation[here].astype(np.float64)
    count = np.maximum(np.bincount(slot, minlength=common), 1)
    deviation -= (np.bincount(slot, weights=deviation, minlength=common) / count)[slot]
    square = deviation**2
    if square.mean() < 1e-12:
        return None
    fit = fit_clusters(
        demean(np.eye(common)[slot], prompt), demean(square, prompt), make_blocks(observations.prompts, seed)[prompt]
    )
    by_slot = np.bincount(slot, weights=square, minlength=common) / count
    return {
        "spread": [_round(np.sqrt(value / square.mean())) for value in by_slot],
        "chance": None if fit is None else _round(fit.chance),
    }


def _round(value: float) -> float:
    """Return what is told of a number: the order in which rows were added up is not."""
    return round(float(value), 9)


@dataclass(frozen=True, slots=True)
class ClusterFit:
    """A least-squares fit whose errors hang together within blocks.

    Attributes:
        effect: of each column. chance: p of F(rank, blocks - rank) that all effects are 0.
    """

    effect: FloatArray
    chance: float


def fit_clusters(x: FloatArray, y: FloatArray, block: IntArray) -> ClusterFit | None:
    """Return the fit of y on the columns of x (of least norm where they say the same twice); None where there are too
    few blocks for it, or x does not vary. Covariance: CR1, which is scaled for few blocks."""
    from scipy.stats import f

    level, axes = np.linalg.eigh(x.T @ x)
    known = level > 1e-9 * max(float(level.max(initial=0)), 1e-9)
    axes, level = axes[:, known], level[known]
    rank, (_, block) = len(level), np.unique(block, return_inverse=True)
    blocks = int(block.max(initial=-1)) + 1
    if rank == 0 or blocks < rank + 3:
        return None
    z = x @ axes
    b = (z.T @ y) / level
    scores = z * (y - z @ b)[:, None]
    sums = np.stack([np.bincount(block, weights=column) for column in scores.T], axis=1)
    scale = blocks / (blocks - 1) * blocks / (blocks - rank)
    covariance = scale * sums.T @ sums / np.outer(level, level)
    covariance += 1e-12 * max(float(np.mean(y**2)), 1e-12) * np.eye(rank)
    statistic = float(b @ np.linalg.solve(covariance, b)) * (blocks - rank) / (rank * (blocks - 1))
    return ClusterFit(axes @ b, float(f.sf(statistic, rank, blocks - rank)))


def demean(values: FloatArray, group: IntArray) -> FloatArray:
    """Return `values` minus the mean of their group; every column where there are several."""
    count = np.maximum(np.bincount(group), 1)
    if values.ndim == 1:
        return np.asarray(values - (np.bincount(group, weights=values) / count)[group])
    sums = np.stack([np.bincount(group, weights=column) for column in values.T], axis=1)
    return np.asarray(values - (sums / count[:, None])[group])


def _share_places(observations: Observations, slots: int) -> FloatArray:
    """Return, per completion, how much of its score comes from each place, shape (C, slots).

    A score is a mean over aspects of means over repetitions.
    """
    assert observations.slot is not None
    rated = ~np.isnan(observations.value)
    shares = np.full((observations.slot.shape[1], observations.slot.shape[2], slots), np.nan)
    for k in range(slots):
        shares[:, :, k] = nanmean(np.where(rated, (observations.slot == k).astype(np.float64), np.nan), axis=0)
    return np.nan_to_num(nanmean(shares, axis=1))
