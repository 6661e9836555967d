"""What became of the prompts, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PROMPT_FAILED = "prompt_failed"
PROMPT_PASSED = "prompt_passed"
FEW_COMPLETIONS = "few_completions"
CUT_OFF = "cut_off"
FEW_SCORES = "few_scores"
GENERATOR_ABSENT = "generator_absent"
BELOW_MIN_MARGIN = "below_min_margin"
ABOVE_MAX_MARGIN = "above_max_margin"
SCORES_TOO_FAR = "scores_too_far"
LENGTH_GAP = "length_gap"
LENGTH_RATIO = "length_ratio"
TOO_SIMILAR = "too_similar"
REJECTED_PASSED = "rejected_passed"
BEYOND_TARGET = "beyond_target"


@dataclass(frozen=True, slots=True)
class PairCounts:
    """What became of the prompts. Every prompt is in exactly one bucket:
    prompts == prompts_with_pairs + ties + sum(dropped.values()).

    Attributes:
        prompts: prompts looked at.
        pairs: pairs made.
        prompts_with_pairs: prompts that gave at least one pair.
        ties: prompts whose completions all have the same score.
        dropped: prompts without a pair by the first reason that applies, in this order:
            `prompt_failed`: the prompt does not pass what `pairs.prompt_must_pass` names;
            `prompt_passed`: it does not fail what `pairs.prompt_must_fail` names;
            `few_completions`: fewer than two completions have a text (failed requests, n = 1);
            `cut_off`: fewer than two of these were ended by the model itself (unless `pairs.reject_cut_off`);
            `few_scores`: fewer than two have a score (failed judgements);
            `generator_absent`: (policy on_policy) the named generator has no scored completion, (by_generator) one of
            the two has no completion;
            (ties are looked for here)
            `chosen_cut_off`, `chosen_empty`, `chosen_refusal`, `chosen_failed` (`pairs.chosen_must_pass`): none that
            may be chosen scores above another; the reason is that of the best-scored one that may not;
            `rejected_passed`: none that `pairs.rejected_must_fail` lets through scores below one that may be chosen;
            `below_min_margin`: no candidate reaches `pairs.min_margin`;
            `above_max_margin`: every candidate that was left exceeds `pairs.max_margin`;
            `scores_too_far`: the prompt's scores differ by more than `pairs.max_score_std`;
            `length_gap`: every candidate that was left exceeds `pairs.max_length_gap`;
            `length_ratio`: every candidate that was left exceeds `pairs.max_length_ratio`;
            `too_similar`: every candidate that was left is identical or more alike than `pairs.max_similarity`;
            `beyond_target`: its pairs come after the last of `pairs.target`.
    """

    prompts: int = 0
    pairs: int = 0
    prompts_with_pairs: int = 0
    ties: int = 0
    dropped: dict[str, int] = field(default_factory=dict)

    def __add__(self, other: PairCounts) -> PairCounts:
        """Return the counts of both, which must be of different prompts."""
        dropped = Counter(self.dropped) + Counter(other.dropped)
        return PairCounts(
            prompts=self.prompts + other.prompts,
            pairs=self.pairs + other.pairs,
            prompts_with_pairs=self.prompts_with_pairs + other.prompts_with_pairs,
            ties=self.ties + other.ties,
            dropped={reason: dropped[reason] for reason in sorted(dropped)},
        )


def describe_losses(pairs: Mapping[str, Any]) -> str:
    """Return why prompts gave no pair, the commonest reason first; `pairs` is the report's."""
    reasons = {"ties": pairs.get("ties", 0), **pairs.get("dropped_by_reason", {})}
    counts = [f"{count:,} {reason}" for reason, count in sorted(reasons.items(), key=lambda item: -item[1]) if count]
    return f"of {pairs.get('prompts', 0):,} prompts {', '.join(counts) or 'none was judged'}"


def describe_lengths(lengths: Mapping[str, Any]) -> str | None:
    """Return what the settings on length did to the sides of the pairs, None where there are none."""
    before, after = lengths.get("before"), lengths.get("after")
    if not before or not after:
        return None
    sides = [f"{one['chosen_tokens']:.0f} and {one['rejected_tokens']:.0f}" for one in (after, before)]
    longer = [f"{one['longer_chosen_share']:.0%}" for one in (after, before)]
    return (
        f"chosen and rejected sides have {sides[0]} tokens, without the settings on length {sides[1]}; the chosen side "
        f"is the longer one in {longer[0]}, without them in {longer[1]}"
    )
