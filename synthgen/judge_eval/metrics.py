"""Verdicts on labelled pairs in, how often they are right out: by our own rules, by LLMBar's and by JudgeBench's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from synthgen.pairs.index import FloatArray
from synthgen.trust.intervals import share_interval
from synthgen.trust.observations import nanmean

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What a judge said of each pair. All arrays have the shape (repetitions, pairs).

    Attributes:
        right: 1 right, 0.5 tie, 0 wrong, NaN none.
        a_first, a_second: whether text A was shown first, and second, in a judgement, readable or not. Neither: nothing
            was asked. Both: by different aspects.
    """

    right: FloatArray
    a_first: BoolArray
    a_second: BoolArray

    def take(self, pairs: BoolArray) -> Verdicts:
        """Return the verdicts on some of the pairs."""
        return Verdicts(self.right[:, pairs], self.a_first[:, pairs], self.a_second[:, pairs])

    @property
    def asked(self) -> BoolArray:
        """Whether there was a judgement at all."""
        return np.asarray(self.a_first | self.a_second)

    @property
    def in_both_orders(self) -> BoolArray:
        """Whether each pair was asked about in both orders."""
        return np.asarray(self.a_first.any(axis=0) & self.a_second.any(axis=0))


def score_verdicts(verdicts: Verdicts) -> Mapping[str, Any]:
    """Return the measures of `evaluate` for some pairs."""
    right, asked = verdicts.right, verdicts.asked
    repetitions, pairs = right.shape
    given = ~np.isnan(right)
    judged, several = given.any(axis=0), given.sum(axis=0) >= 2
    per_pair = nanmean(right, axis=0)[judged]
    said = right[given]
    shares = ((said == 1).mean(), (said == 0.5).mean()) if len(said) else (0.0, 0.0)
    both = verdicts.in_both_orders
    # Pairs of which a judgement is missing in the file count among the failed ones, as those that cannot be read do.
    missing = np.where(given, right, 0.0)
    consistent = (right[:, both] == 1) | ~asked[:, both]
    balance = np.where(given, np.sign(right - 0.5), 0.0).sum(axis=0)
    return {
        "pairs": pairs,
        "judged": int(judged.sum()),
        "accuracy": float(per_pair.mean()) if len(per_pair) else None,
        "accuracy_interval": _interval(per_pair),
        "accuracy_failed_wrong": float(missing.mean()) if missing.size else None,
        "consistent_accuracy": float(consistent.all(axis=0).sum() / pairs) if both.any() else None,
        "judgebench_accuracy": float((balance > 0).mean()) if both.any() else None,
        "judgebench_interval": _interval((balance > 0).astype(np.float64)) if both.any() else None,
        "llmbar_agreement": float(_all_same(right[:, several & both]).mean()) if (several & both).any() else None,
        "agreement_between_orders": float(_all_same(right[:, several]).mean()) if several.any() else None,
        "kappa": cohens_kappa(float(shares[0]), float(shares[1])) if len(said) else None,
        "tie_rate": float(shares[1]) if len(said) else None,
        "failed_rate": float(1 - given.mean()) if repetitions else 1.0,
    }


def cohens_kappa(right: float, tied: float) -> float:
    """Return Cohen's kappa of verdicts (first, second, tie) with labels (first, second), both orders taken together.

    kappa = (p_o - p_e) / (1 - p_e) (Cohen 1960, doi 10.1177/001316446002000104). Over both orders each label is first
    and second equally often, whence p_e = (1 - tied) / 2, whichever place the judge prefers.

    Args:
        right, tied: shares of the verdicts.
    """
    expected = (1 - tied) / 2
    return (right - expected) / (1 - expected)


def _interval(per_pair: FloatArray) -> list[float] | None:
    interval = share_interval(per_pair, np.ones(len(per_pair)))
    return interval and list(interval)


def _all_same(right: FloatArray) -> BoolArray:
    return np.asarray(np.nanmax(right, axis=0) == np.nanmin(right, axis=0))
