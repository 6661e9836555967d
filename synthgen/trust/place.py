"""What is left of the places in the scores, and whether a judge's liking for a place is one that adds at all."""

from __future__ import annotations

from typing import Any

import numpy as np

from synthgen.pairs.index import FloatArray, IntArray
from synthgen.trust.intervals import make_blocks
from synthgen.trust.observations import Observations, nanmean


def measure_left(observations: Observations, seed: int) -> dict[str, Any] | None:
    """Return how the final scores go with the places, None where no request showed several completions.

    score = level of the prompt + Σ shown_k · left_k + quality, by least squares, shown_k how often a completion was
    shown in place k (of several aspects the mean). `left`: per place, in points of the score, with a 95% interval that
    holds for all places at once (Bonferroni; Student's t, standard errors robust within prompts: Cameron, Miller 2015,
    doi 10.3368/jhr.50.2.317). `chance`: how often scores that do not know the place would show as much (F of the
    places together). `even`: every completion stood in every place as often, so that nothing can be left.
    """
    if observations.slot is None:
        return None
    slots = int(observations.slot.max(initial=-1)) + 1
    if slots < 2:
        return None
    scores = observations.scores()
    shares = _share_places(observations, slots) * observations.value.shape[0]
    known = np.flatnonzero(~np.isnan(scores) & (shares.sum(axis=1) > 0))
    prompt = observations.prompt[known]
    y, x = demean(scores[known], prompt), demean(shares[known], prompt)
    fit = fit_clusters(x, y, make_blocks(observations.prompts, seed)[prompt])
    if fit is None:
        return {"even": not (np.abs(x) > 1e-9).any(), "left": [], "chance": None}
    low, high = fit.intervals(1 - 0.05 / slots)
    left = [
        {"slot": k + 1, "effect": _round(fit.effect[k]), "interval": [_round(low[k]), _round(high[k])]}
        for k in range(slots)
    ]
    return {"even": False, "left": left, "chance": _round(fit.chance)}


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


class ClusterFit:
    """A least-squares fit whose errors hang together within blocks.

    Attributes:
        effect: of each column. error: its standard error. blocks: how many.
        chance: p of F(rank, blocks - rank) that all effects are 0.
    """

    def __init__(self, effect: FloatArray, error: FloatArray, blocks: int, chance: float) -> None:
        self.effect, self.error, self.blocks, self.chance = effect, error, blocks, chance

    def intervals(self, level: float) -> tuple[FloatArray, FloatArray]:
        """Return the lower and the upper bound of each effect."""
        from scipy.special import stdtrit

        reach = float(stdtrit(self.blocks - 1, (1 + level) / 2)) * self.error
        return self.effect - reach, self.effect + reach


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
    error = np.sqrt(np.einsum("ij,jk,ik->i", axes, covariance, axes))
    return ClusterFit(axes @ b, error, blocks, float(f.sf(statistic, rank, blocks - rank)))


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
