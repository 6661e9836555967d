"""Judgements in, how likely a preference turns round if it is judged again out, by its margin.

What is known is how often that happened: where texts were judged in several orders, or, with one order, in the requests
that hold a planted text beside them (synthgen.judge.canary).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from math import sqrt
from typing import Any, Literal

import numpy as np

from synthgen.pairs.index import FloatArray, IntArray
from synthgen.pairs.ratings import Ratings

Source = Literal["orders", "canaries"]

MIN_PROMPTS = 12
"""Prompts that were judged twice, below which nothing is said."""

PROBABILITIES = (0.05, 0.1, 0.2)
"""Flip probabilities whose margins the report gives."""

_TIE = 1e-6
_MAX_SLOPE = 50.0  # of margins in units of their standard deviation


@dataclass(frozen=True, slots=True)
class FlipCurve:
    """How likely a preference turns round if it is judged again: Φ(-slope · margin), one half at a margin of 0.

    Attributes:
        slope: per point of the score; 0: every margin is as likely to turn round as not.
        reliability: share of the variance of the scores within a prompt that is not noise.
        repeated: the same of a single order.
        orders: how many orders a score is the mean of.
        prompts, comparisons: what was judged twice: prompts, and pairs of texts.
        observed_rate: share of these that turned round from one order to the next (a tie counts half).
        source: where texts were judged twice.
    """

    slope: float
    reliability: float
    repeated: float
    orders: int
    prompts: int
    comparisons: int
    observed_rate: float
    source: Source

    def probability(self, margin: FloatArray) -> FloatArray:
        """Return how likely pairs of these margins turn round."""
        from scipy.special import ndtr

        return np.asarray(ndtr(-self.slope * np.abs(margin)))

    def margin(self, probability: float) -> float | None:
        """Return the margin from which on no more than `probability` (below one half) turn round; None: none does."""
        from scipy.special import ndtri

        return float(-ndtri(probability) / self.slope) if self.slope > 0 else None


def read_curve(described: Mapping[str, Any]) -> FlipCurve:
    """Return the curve that a report holds (`trust.flips`)."""
    return FlipCurve(**{one.name: described[one.name] for one in fields(FlipCurve)})


def estimate_flips(ratings: Ratings, use_expected: bool, prompt: IntArray, again: Ratings) -> FlipCurve | None:
    """Return the curve of some judgements, None where too few prompts were judged twice and differently.

    d and d' are the differences of two texts' scores in one order and in the next. A preference d turns round with the
    probability Φ(-c·|d|), c by maximum likelihood, a tie d' = 0 counting half; one flip and one that is none are added
    at the median |d|, so that what never turned round in few comparisons is not called certain.
    `repeated` r = Σ d·d' / ½ Σ (d² + d'²). A score is the mean of K orders, whose reliability is
    R = K r / (1 + (K-1) r) (Spearman, Brown 1910). With normal quality and noise, c = r / (σ·√(1 + r)), σ the noise of
    d; so the scores' slope is c·√K·(R / r)·√((1 + r) / (1 + R)).

    Args:
        ratings: real ones, what their places add taken out or not.
        prompt: number of each text's prompt (`ratings.completion` are texts).
        again: with one order only: ratings of the same texts in requests with a planted text.
    """
    pairs = _list_pairs(prompt)
    orders = int(ratings.repetition.max(initial=-1)) + 1
    source: Source = "orders" if orders > 1 else "canaries"
    if orders > 1:
        by_order = _spread(ratings, use_expected, len(prompt), orders)
        rounds = list(pairwise(by_order))
    else:
        rounds = _pair_with_canaries(ratings, again, use_expected, len(prompt))
    before, after, number = [], [], []
    for first, second in rounds:
        d, e = first[pairs[0]] - first[pairs[1]], second[pairs[0]] - second[pairs[1]]
        known = ~np.isnan(d) & ~np.isnan(e) & ((np.abs(d) > _TIE) | (np.abs(e) > _TIE))
        before.append(d[known])
        after.append(e[known])
        number.append(prompt[pairs[0]][known])
    if not before:
        return None
    d, e = np.concatenate(before), np.concatenate(after)
    prompts = len(np.unique(np.concatenate(number)))
    if prompts < MIN_PROMPTS:
        return None
    repeated = float((d * e).sum() / ((d**2 + e**2).sum() / 2))
    margin, turned = _list_outcomes(np.concatenate([d, e]), np.concatenate([e, d]))
    slope = _fit_slope(margin, turned)
    r = min(max(repeated, 0.0), 1.0)
    reliability = orders * r / (1 + (orders - 1) * r)
    gain = sqrt(orders) * (reliability / r) * sqrt((1 + r) / (1 + reliability)) if r > 0 else 0.0
    observed = float(turned.mean()) if len(turned) else 0.5
    return FlipCurve(slope * gain, reliability, repeated, orders, prompts, len(d), observed, source)


def _list_outcomes(before: FloatArray, after: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return |d| of each decided preference, and 1 where it turned round, 0.5 where a tie came of it, else 0."""
    decided = np.abs(before) > _TIE
    before, after = before[decided], after[decided]
    turned = np.where(np.abs(after) <= _TIE, 0.5, np.sign(before) != np.sign(after))
    return np.abs(before), turned.astype(np.float64)


def _fit_slope(margin: FloatArray, turned: FloatArray) -> float:
    """Return c ≥ 0 that maximises Σ turned·ln Φ(-c·margin) + (1 - turned)·ln Φ(c·margin)."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_ndtr

    if len(margin) == 0:
        return 0.0
    scale = float(np.sqrt(np.mean(margin**2)))
    typical = np.median(margin)
    x = np.append(margin, [typical, typical]) / scale
    weight = np.append(turned, [1.0, 0.0])

    def cost(slope: float) -> float:
        return -float((weight * log_ndtr(-slope * x) + (1 - weight) * log_ndtr(slope * x)).sum())

    found = minimize_scalar(cost, bounds=(0.0, _MAX_SLOPE), method="bounded", options={"xatol": 1e-6})
    return float(found.x) / scale if found.x > 1e-4 else 0.0


def _spread(ratings: Ratings, use_expected: bool, texts: int, orders: int) -> FloatArray:
    """Return the mean over aspects per order and text, NaN where an aspect lacks a rating, shape (orders, texts)."""
    value = ratings.values(use_expected)
    known = ~np.isnan(value)
    cell = (ratings.repetition.astype(np.int64) * texts + ratings.completion)[known]
    count = np.bincount(cell, minlength=orders * texts)
    total = np.bincount(cell, weights=value[known], minlength=orders * texts)
    mean = np.full(orders * texts, np.nan)
    whole = count == len(ratings.aspects)
    mean[whole] = total[whole] / count[whole]
    return mean.reshape(orders, texts)


def _pair_with_canaries(
    ratings: Ratings, again: Ratings, use_expected: bool, texts: int
) -> list[tuple[FloatArray, FloatArray]]:
    """Return per aspect the values of texts in their own request and in one with a planted text."""
    rounds = []
    for code, aspect in enumerate(ratings.aspects):
        if aspect not in again.aspects:
            continue
        both = []
        for part, number in ((ratings, code), (again, again.aspects.index(aspect))):
            column = np.full(texts, np.nan)
            here = part.aspect == number
            column[part.completion[here]] = part.values(use_expected)[here]
            both.append(column)
        rounds.append((both[0], both[1]))
    return rounds


def _list_pairs(prompt: IntArray) -> tuple[IntArray, IntArray]:
    """Return the two texts of every pair of a prompt's texts. Texts of a prompt stand together."""
    starts = np.flatnonzero(np.diff(prompt, prepend=-1))
    sizes = np.diff(np.append(starts, len(prompt)))
    lefts, rights = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for size in np.unique(sizes):
        left, right = np.triu_indices(size, k=1)
        first = starts[sizes == size][:, None]
        lefts.append((first + left).ravel())
        rights.append((first + right).ravel())
    return np.concatenate(lefts), np.concatenate(rights)
