"""What the metrics go by: every rating and every completion of a run as numbers, no text."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from synthgen.pairs.index import FloatArray, IntArray

Float32Array = npt.NDArray[np.float32]


@dataclass(slots=True)
class Requests:
    """What became of the judge requests, canaries left out.

    Attributes:
        status: requests by status (ok, partial, invalid, error).
        errors: requests by reason of their failure.
        asked_again: requests that took more than one attempt.
        ratings: completions that the judge was asked to rate.
        valid_ratings: of these, those that it rated.
    """

    status: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    asked_again: int = 0
    ratings: int = 0
    valid_ratings: int = 0


@dataclass(slots=True)
class CanaryCount:
    """The canaries of one kind: `planted`; `conclusive`, those that show something; of these, `handled` ones."""

    planted: int = 0
    conclusive: int = 0
    handled: int = 0


@dataclass(frozen=True, slots=True)
class Observations:
    """All that the metrics go by. C completions stand prompt by prompt; A aspects; K repetitions.

    Attributes:
        aspects: names of the aspects, len A.
        generators: names of the generators.
        prompts: number of prompts.
        prompt: number of each completion's prompt, ascending, shape (C,).
        generator: number of each completion's generator, shape (C,).
        tokens: length of each completion, NaN where unknown, shape (C,).
        rating: drawn ratings, NaN where there is none, shape (K, C, A).
        expected: expected ratings, NaN where there is none, shape (K, C, A).
        value: what counts in the score, the one or the other, without what the place adds, shape (K, C, A).
        shown_prompt, shown_slot, shown_deviation: one element per valid rating of a request that shows several
            completions: its prompt, the 0-based slot, and the value minus the mean value of the request.
        requests: what became of the judge requests.
        canaries: what became of the planted tests, by kind.
        shown_size: how many completions that request showed, aligned with `shown_slot`; None: unknown.
        slot: the 0-based slot of each value among several completions, -1 without one, shape (K, C, A); None: unknown.
    """

    aspects: list[str]
    generators: list[str]
    prompts: int
    prompt: IntArray
    generator: IntArray
    tokens: Float32Array
    rating: Float32Array
    expected: Float32Array
    value: Float32Array
    shown_prompt: IntArray
    shown_slot: IntArray
    shown_deviation: Float32Array
    requests: Requests
    canaries: dict[str, CanaryCount]
    slot: IntArray | None = None
    shown_size: IntArray | None = None

    def scores(self) -> FloatArray:
        """Return the score of each completion, NaN without one, shape (C,): the mean of its `aspect_scores`."""
        return nanmean(self.aspect_scores(), axis=1)

    def aspect_scores(self) -> FloatArray:
        """Return the mean over repetitions per completion and aspect, NaN without a valid rating, shape (C, A)."""
        return nanmean(self.value, axis=0)


def nanmean(values: npt.NDArray[Any], axis: int) -> FloatArray:
    valid = ~np.isnan(values)
    count = valid.sum(axis=axis)
    means = np.full(count.shape, np.nan)
    np.divide(np.where(valid, values, 0).sum(axis=axis, dtype=np.float64), count, out=means, where=count > 0)
    return means
