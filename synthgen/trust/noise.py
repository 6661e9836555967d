"""How much of the scores is noise: what of their differences within a prompt comes back in another order."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from synthgen.pairs.index import FloatArray, IntArray
from synthgen.trust.comparisons import TIE
from synthgen.trust.intervals import make_blocks, ratio_interval, sum_blocks
from synthgen.trust.observations import Observations, nanmean

MIN_PROMPTS = 10
"""Prompts whose completions differ in both orders, below which nothing is said."""


def measure_noise(observations: Observations, seed: int) -> dict[str, Any] | None:
    """Return the reliability of the scores, None where nothing was judged twice or too little differs.

    A score is the mean of K repetitions; d_k is a repetition's value minus its mean over the prompt's completions, less
    what the place adds where it was shown (opposite orders take that out of the score too, so it is no noise).
    `repeated` r = Σ d_k·d_(k+1) / ½ Σ (d_k² + d_(k+1)²): the share of a repetition's differences that the next one
    repeats, 1 where it says the same, about 0 for chance, below 0 where it says the opposite (an intraclass
    correlation: Shrout, Fleiss 1979, doi 10.1037/0033-2909.86.2.420). `reliability` = K r / (1 + (K - 1) r), the share
    of the scores' differences that is not noise (Spearman, Brown 1910), 0 where r is negative. `interval`: 95%
    of `reliability`, over prompts; `repeated_interval`: the same of `repeated`.
    """
    deviations = _deviate(observations)
    repetitions = deviations.shape[0]
    if repetitions < 2:
        return None
    both = ~np.isnan(deviations[:-1]) & ~np.isnan(deviations[1:])
    moved = both & ((np.abs(deviations[:-1]) > TIE) | (np.abs(deviations[1:]) > TIE))
    prompt = np.broadcast_to(observations.prompt[None, :, None], both.shape)
    prompts = len(np.unique(prompt[moved]))
    if prompts < MIN_PROMPTS:
        return None
    if observations.slot is not None:
        for aspect in range(deviations.shape[2]):
            _take_out_place(deviations[:, :, aspect], observations.slot[:, :, aspect])
    before, after = deviations[:-1], deviations[1:]
    block = make_blocks(observations.prompts, seed)[prompt[both]]
    shared = sum_blocks((before * after)[both], block)
    spread = sum_blocks(((before**2 + after**2) / 2)[both], block)
    used = spread > TIE * TIE
    low, high = ratio_interval(shared[used], spread[used]) or (0.0, 0.0)
    repeated = float(_divide(shared.sum(keepdims=True), spread.sum(keepdims=True))[0])
    return {
        "repetitions": repetitions,
        "prompts": prompts,
        "repeated": repeated,
        "reliability": float(_lengthen(np.array([repeated]), repetitions)[0]),
        "interval": _lengthen(np.array([low, high]), repetitions).tolist(),
        "repeated_interval": [low, high],
    }


def _deviate(observations: Observations) -> FloatArray:
    """Return each value minus the mean of its prompt, aspect and repetition, NaN without one, shape (K, C, A)."""
    value = np.asarray(observations.value, dtype=np.float64)
    deviations = np.full(value.shape, np.nan)
    starts = np.flatnonzero(np.diff(observations.prompt, prepend=-1))
    sizes = np.diff(np.append(starts, len(observations.prompt)))
    for size in np.unique(sizes[sizes > 1]):
        rows = starts[sizes == size][:, None] + np.arange(size)
        here = value[:, rows, :]
        deviations[:, rows, :] = here - nanmean(here, axis=2)[:, :, None, :]
    return deviations


def _take_out_place(deviations: FloatArray, slot: IntArray) -> None:
    """Subtract the mean deviation of each slot, in place."""
    known = ~np.isnan(deviations) & (slot >= 0)
    where = slot[known]
    counts = np.bincount(where)
    means = np.bincount(where, weights=deviations[known]) / np.maximum(counts, 1)
    deviations[known] -= means[where]


def _lengthen(repeated: FloatArray, repetitions: int) -> FloatArray:
    """Return the reliability of a mean of `repetitions` values, each of which repeats so much (Spearman, Brown)."""
    positive = np.clip(repeated, 0, 1)
    return np.asarray(repetitions * positive / (1 + (repetitions - 1) * positive))


def _divide(top: npt.NDArray[Any], bottom: npt.NDArray[Any]) -> FloatArray:
    """Return top / bottom, 0 where the place explains every difference: nothing is left that could come back."""
    quotient = np.zeros(top.shape)
    np.divide(top, bottom, out=quotient, where=bottom > TIE)
    return quotient
