"""Confidence intervals. What is said of one prompt's completions is not independent, so prompts are what is counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Interval = tuple[float, float]

MAX_BLOCKS = 2_000
"""More prompts than this are put into so many random blocks, and blocks are counted: the interval stays valid and its
cost bounded."""


def make_blocks(prompts: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the block of each prompt, in [0, MAX_BLOCKS): one of its own, or a random one where there are too many."""
    if prompts <= MAX_BLOCKS:
        return np.arange(prompts)
    return np.random.default_rng(seed).integers(0, MAX_BLOCKS, prompts)


def sum_blocks(values: npt.NDArray[Any], block: npt.NDArray[np.int64]) -> FloatArray:
    """Return the sum of `values` per block. values and block are aligned."""
    return np.bincount(block, weights=values).astype(np.float64)


def ratio_interval(numerator: FloatArray, denominator: FloatArray, level: float = 0.95) -> Interval | None:
    """Return the interval of Σ numerator / Σ denominator over G independent blocks, None where it cannot be told.

    Student's t around the ratio, by the jackknife's variance: (G - 1) / G times the sum of squares of the G ratios that
    leave a block out, around the whole one (Tukey 1958; Efron, Tibshirani: An Introduction to the Bootstrap, 1993,
    chapter 11), with (Σd)² / Σd² - 1 degrees of freedom, d the denominators: blocks of unlike size count as fewer (Kish
    1965). It covers where percentiles of a bootstrap of few blocks do not.

    Args:
        numerator, denominator: sums per block, aligned; a mean has counts as its denominator.
        level: coverage.
    """
    from scipy.special import stdtrit

    used = denominator != 0
    top, bottom, blocks = numerator[used], denominator[used], int(used.sum())
    if blocks < 2 or bottom.sum() == 0:
        return None
    rest = bottom.sum() - bottom
    if (np.abs(rest) < 1e-12 * np.abs(bottom).max()).any():
        return None  # one block is all that tells anything
    ratio = float(top.sum() / bottom.sum())
    error = float(np.sqrt((blocks - 1) / blocks * (((top.sum() - top) / rest - ratio) ** 2).sum()))
    freedom = max(float(bottom.sum() ** 2 / (bottom**2).sum()) - 1, 1.0)
    reach = float(stdtrit(freedom, (1 + level) / 2)) * error
    return ratio - reach, ratio + reach


def share_interval(hits: FloatArray, trials: FloatArray, level: float = 0.95) -> Interval | None:
    """Return the interval of a share Σ hits / Σ trials whose trials come in blocks, None without any.

    Wilson's score interval (1927, JASA 22) for as many independent trials as tell as much: p·(1 - p) over the
    jackknife's variance of the share, less for few blocks, at most all trials (Korn, Graubard 1998, Survey
    Methodology 24); one per block where all or none is a
    hit, so that 20 of 20 is no certainty.

    Args:
        hits, trials: sums per block, aligned; a hit may be a half.
    """
    from scipy.special import ndtri, stdtrit

    used = trials > 0
    hits, trials = hits[used], trials[used]
    total, blocks = float(trials.sum()), int(used.sum())
    if blocks == 0:
        return None
    share = float(hits.sum()) / total
    independent = float(blocks)
    if blocks > 1 and 0 < share < 1:
        left_out = (hits.sum() - hits) / (total - trials)
        error = float(np.sqrt((blocks - 1) / blocks * ((left_out - share) ** 2).sum()))
        if error > 0:
            fewer = float(ndtri((1 + level) / 2) / stdtrit(blocks - 1, (1 + level) / 2)) ** 2
            independent = min(share * (1 - share) / error**2 * fewer, total)
        else:
            independent = total
    return _wilson(share, independent, level)


def wilson_interval(successes: float, trials: int, level: float = 0.95) -> Interval | None:
    """Return Wilson's score interval of a share of independent trials, None without any (Wilson 1927, JASA 22)."""
    return _wilson(successes / trials, trials, level) if trials else None


def _wilson(share: float, trials: float, level: float) -> Interval:
    from scipy.special import ndtri

    z = float(ndtri((1 + level) / 2))
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    reach = z / (1 + z**2 / trials) * float(np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2)))
    return max(0.0, centre - reach), min(1.0, centre + reach)
