"""Labels and judgements of the same pairs in, how well they agree out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from synthgen.config.stage_names import name_generations
from synthgen.judge_eval.labelled import LabelledSet
from synthgen.judge_eval.tables import GENERATOR, to_unit_tables
from synthgen.pairs.index import FloatArray
from synthgen.trust.comparisons import TIE
from synthgen.trust.intervals import share_interval
from synthgen.trust.observations import nanmean
from synthgen.trust.position import measure_position
from synthgen.trust.reduction import observe


def evaluate(
    labelled: LabelledSet, judgements: pa.Table, *, use_expected: bool = True, seed: int = 0
) -> dict[str, Any]:
    """Return how often the judge prefers the better text, as plain JSON values.

    A verdict is the judge's preference on one pair in one repetition: the sign of the difference of the two texts'
    values (expected ratings where they exist, averaged over aspects); equal values are a tie.

    Returns:
        `all` and `subsets` by name, each with
        `pairs`, and `judged`: those with at least one verdict;
        `accuracy`: mean over judged pairs of their verdicts, right 1, tie 0.5, wrong 0 (0.5 is chance), and
        `accuracy_interval`: 95%, Wilson;
        `consistent_accuracy`: share of all pairs for which the verdicts of all orders are right (LLMBar's and
        JudgeBench's rule; 0.25 is chance, a failed judgement counts against it); None with fewer than two orders;
        `agreement_between_orders`: share of the pairs with two verdicts or more for which all are the same;
        `kappa`: Cohen's kappa between verdicts and labels, which a coin has at 0;
        `tie_rate`: share of the verdicts; `failed_rate`: share of (pairs x orders) without a verdict.
        Beside them `orders`, `position` (measure_position) and `unreadable` rows of the file by reason.

    Args:
        labelled: the pairs.
        judgements: JUDGEMENTS_SCHEMA of the tables of `to_unit_tables`.
    """
    tables = to_unit_tables(labelled)
    units = [(tables[name_generations(GENERATOR)], judgements)]
    seen = observe(units, use_expected=use_expected)
    better = np.array([pair.better for pair in labelled.pairs])
    # Completions 2i and 2i + 1 are texts A and B of pair i. Shape (orders, pairs), positive where A is preferred.
    preference = nanmean(seen.value[:, 0::2, :] - seen.value[:, 1::2, :], axis=2)
    gain = np.where(better == 0, preference, -preference)
    verdict = np.where(np.isnan(gain), np.nan, np.where(np.abs(gain) < TIE, 0.5, gain > 0))
    subsets = np.array([pair.subset for pair in labelled.pairs])
    return {
        "orders": len(verdict),
        "all": _score_verdicts(verdict, seed),
        "subsets": {str(name): _score_verdicts(verdict[:, subsets == name], seed) for name in np.unique(subsets)},
        "position": measure_position(seen, seed),
        "unreadable": dict(labelled.unreadable),
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


def _score_verdicts(verdict: FloatArray, seed: int) -> Mapping[str, Any]:
    """Return the measures for verdicts of shape (orders, pairs): 1 right, 0.5 tie, 0 wrong, NaN none."""
    orders, pairs = verdict.shape
    given = ~np.isnan(verdict)
    several = given.sum(axis=0) >= 2
    judged = given.any(axis=0)
    per_pair = nanmean(verdict, axis=0)[judged]
    verdicts = verdict[given]
    right, tied = ((verdicts == 1).mean(), (verdicts == 0.5).mean()) if len(verdicts) else (0.0, 0.0)
    return {
        "pairs": pairs,
        "judged": int(judged.sum()),
        "accuracy": float(per_pair.mean()) if len(per_pair) else None,
        "accuracy_interval": _interval(per_pair, seed),
        "consistent_accuracy": float((verdict == 1).all(axis=0).mean()) if orders >= 2 else None,
        "agreement_between_orders": float(_all_same(verdict[:, several]).mean()) if several.any() else None,
        "kappa": cohens_kappa(float(right), float(tied)) if len(verdicts) else None,
        "tie_rate": float(tied) if len(verdicts) else None,
        "failed_rate": float(1 - given.mean()) if orders else 1.0,
    }


def _interval(per_pair: FloatArray, seed: int) -> list[float] | None:
    interval = share_interval(per_pair, np.ones(len(per_pair)))
    return interval and list(interval)


def _all_same(verdict: FloatArray) -> npt.NDArray[np.bool_]:
    return np.asarray(np.nanmax(verdict, axis=0) == np.nanmin(verdict, axis=0))
