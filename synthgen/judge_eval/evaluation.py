"""Labels and judgements of the same pairs in, how well they agree out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config.stage_names import name_generations
from synthgen.judge_eval.labelled import LabelledSet
from synthgen.judge_eval.metrics import Verdicts, score_verdicts
from synthgen.judge_eval.tables import GENERATOR, make_pair_id, to_unit_tables
from synthgen.trust.comparisons import TIE
from synthgen.trust.observations import Observations, nanmean
from synthgen.trust.position import measure_position
from synthgen.trust.reduction import observe


def evaluate(
    labelled: LabelledSet, judgements: pa.Table, *, use_expected: bool = True, seed: int = 0
) -> dict[str, Any]:
    """Return how often each judge prefers the better text, as plain JSON values.

    A verdict is the judge's preference on one pair in one repetition: the sign of the difference of the two texts'
    values (expected ratings where they exist, averaged over aspects); equal values are a tie.

    Returns:
        Of the judge (of several: of the first, and `judges` by name has each), `all` and `subsets` by name, each with
        `pairs`, and `judged`: those with at least one verdict;
        `accuracy`: mean over judged pairs of their verdicts, right 1, tie 0.5, wrong 0 (0.5 is chance; LLMBar's
        average accuracy, where nothing ties and fails), `accuracy_interval`: 95%, Wilson;
        `accuracy_failed_wrong`: the same of all judgements, failed ones wrong;
        `consistent_accuracy`: share of all pairs that were asked about in both orders and rightly judged in each
        (0.25 is chance, a failed judgement counts against it);
        `judgebench_accuracy`: JudgeBench's rule, share of all pairs with more right verdicts than wrong ones, so that
        right and tie counts as right (`judgebench_interval`: 95%, Wilson);
        `llmbar_agreement`: LLMBar's positional agreement, share of the pairs with verdicts in both orders that are the
        same, and `agreement_between_orders`: of those with several verdicts in whichever orders;
        these are None where no pair was asked about in both orders;
        `kappa`: Cohen's kappa between verdicts and labels, which a coin has at 0;
        `tie_rate`: share of the verdicts; `failed_rate`: share of (pairs x repetitions) without a verdict.
        Beside them `judge_model`, `orders` (repetitions), `position` (measure_position, of the pairs that were asked
        about in both orders alone: else it would be quality), `failures` by reason, `notes` on what the judgements
        cannot tell, `agreement_between_judges` by pair of names, and `unreadable` rows of the file by reason.

    Args:
        labelled: the pairs.
        judgements: JUDGEMENTS_SCHEMA of the tables of `to_unit_tables`.
    """
    names = sorted(set(judgements["judge_model"].to_pylist())) or ["none"]
    results, verdicts = {}, {}
    for name in names:
        own = judgements.filter(pc.equal(judgements["judge_model"], name))
        results[name], verdicts[name] = _evaluate_judge(labelled, own, name, use_expected, seed)
    found = {**results[names[0]], "unreadable": dict(labelled.unreadable)}
    if len(names) > 1:
        found["judges"] = results
        found["agreement_between_judges"] = [
            {"judges": [left, right], **_compare(verdicts[left], verdicts[right])}
            for left, right in combinations(names, 2)
        ]
    return found


def _evaluate_judge(
    labelled: LabelledSet, judgements: pa.Table, name: str, use_expected: bool, seed: int
) -> tuple[dict[str, Any], Verdicts]:
    tables = to_unit_tables(labelled)
    texts = tables[name_generations(GENERATOR)]
    seen = observe([(texts, judgements)], use_expected=use_expected)
    verdicts = _read_verdicts(labelled, seen)
    subsets = np.array([pair.subset for pair in labelled.pairs])
    both = verdicts.in_both_orders
    ids = pa.array([make_pair_id(pair) for pair, twice in zip(labelled.pairs, both, strict=True) if twice], pa.string())
    fair = judgements.filter(pc.is_in(judgements["prompt_id"], ids))
    failures = dict(sorted(seen.requests.errors.items()))
    result = {
        "judge_model": name,
        "orders": len(verdicts.right),
        "all": score_verdicts(verdicts),
        "subsets": {str(subset): score_verdicts(verdicts.take(subsets == subset)) for subset in np.unique(subsets)},
        "position": measure_position(observe([(texts, fair)], use_expected=use_expected), seed) if both.any() else None,
        "failures": failures,
        "notes": list(_note(labelled, verdicts)),
    }
    return result, verdicts


def _read_verdicts(labelled: LabelledSet, seen: Observations) -> Verdicts:
    """Return the verdicts. Completions 2i and 2i + 1 are texts A and B of pair i."""
    better = np.array([pair.better for pair in labelled.pairs])
    preference = nanmean(seen.value[:, 0::2, :] - seen.value[:, 1::2, :], axis=2)  # positive where A is preferred
    gain = np.where(better == 0, preference, -preference)
    right = np.where(np.isnan(gain), np.nan, np.where(np.abs(gain) < TIE, 0.5, gain > 0))
    assert seen.slot is not None
    slot = seen.slot[:, 0::2, :]  # of text A, by aspect
    return Verdicts(right, (slot == 0).any(axis=2), (slot == 1).any(axis=2))


def _note(labelled: LabelledSet, verdicts: Verdicts) -> Iterator[str]:
    """Yield what the judgements cannot tell."""
    asked, a_first = verdicts.asked, verdicts.a_first
    if not asked.any():
        return
    both = verdicts.in_both_orders
    twice = ~both & (asked.sum(axis=0) > 1)
    if twice.any():
        yield (
            f"{int(twice.sum()):,} pairs were judged several times in one order and never in the other: they say "
            "nothing of consistency"
        )
    single = ~both & asked.any(axis=0)
    if single.all() or (single.any() and not both.any()):
        first = a_first[:, single] == (np.array([pair.better for pair in labelled.pairs])[single] == 0)
        share = float(first[asked[:, single]].mean())
        if share in (0.0, 1.0):
            place = "first" if share == 1.0 else "second"
            yield f"the better text was always shown {place}: accuracy cannot be told from a liking for that place"
        else:
            yield "no pair was judged in both orders: what a liking for a place does is not known"
    elif single.any():
        yield f"{int(single.sum()):,} pairs were judged in one order only"
    if (absent := int((~asked.any(axis=0)).sum())) > 0:
        yield f"{absent:,} pairs have no judgement"


def _compare(left: Verdicts, right: Verdicts) -> dict[str, Any]:
    """Return the share of pairs of which two judges say the same, their verdicts added up."""
    sides = [np.sign(nanmean(one.right, axis=0) - 0.5) for one in (left, right)]
    known = ~np.isnan(sides[0]) & ~np.isnan(sides[1])
    same = (sides[0] == sides[1])[known]
    return {"pairs": int(known.sum()), "share": float(same.mean()) if known.any() else None}
