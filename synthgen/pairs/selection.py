"""Scored completions in, the pairs to make and one bucket per prompt out: the policy, then the gates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from synthgen.config import PairsConfig
from synthgen.pairs.combine import UNFIT
from synthgen.pairs.counts import (
    ABOVE_MAX_MARGIN,
    BELOW_MIN_MARGIN,
    CUT_OFF,
    FEW_COMPLETIONS,
    FEW_SCORES,
    GENERATOR_ABSENT,
    LENGTH_GAP,
    LENGTH_RATIO,
    REJECTED_PASSED,
    SCORES_TOO_FAR,
    TOO_SIMILAR,
    PairCounts,
)
from synthgen.pairs.eligibility import FAULTS, find_whole
from synthgen.pairs.index import BoolArray, CompletionIndex, FloatArray, IntArray
from synthgen.pairs.policies import BY_GENERATOR, ON_POLICY, find_policy
from synthgen.pairs.ratings import SCORE_DECIMALS
from synthgen.pairs.similarity import find_alike
from synthgen.records import count_answer_tokens, join_calls

_TIE = "tie"


@dataclass(frozen=True, slots=True)
class Selection:
    """The pairs of some prompts, in the order of the prompts, a prompt's best pair first.

    Attributes:
        prompt, chosen, rejected: numbers of the prompt and of the completions, one element per pair; aligned.
        pair_index: 0-based number of the pair within its prompt.
        counts: what became of the prompts.
    """

    prompt: IntArray
    chosen: IntArray
    rejected: IntArray
    pair_index: IntArray
    counts: PairCounts


def select_pairs(
    generations: pa.Table,
    index: CompletionIndex,
    scores: FloatArray,
    faults: npt.NDArray[np.int8],
    config: PairsConfig,
    run_seed: int,
    may_be_rejected: BoolArray,
    unfit: npt.NDArray[np.int8],
) -> Selection:
    """Return the pairs that the policy proposes and the gates let through.

    Args:
        generations: GENERATIONS_SCHEMA.
        index: the index of `generations`, with every prompt that is to be counted.
        scores: score of each completion, NaN without one.
        faults: what `find_faults` returned, and `add_gate`.
        may_be_rejected: of each completion, whether `pairs.rejected_must_fail` lets it through.
        unfit: of each completion, why its prompt is left out (`find_unfit`).
    """
    by_score = config.policy != BY_GENERATOR
    prompt, prompts = index.prompt, len(index.prompt_ids)
    has_text = find_whole(generations, cut_off=True)
    is_whole = find_whole(generations, cut_off=config.reject_cut_off)
    is_scored = (is_whole & ~np.isnan(scores) if by_score else is_whole) & (unfit < 0)
    scored = _make_frame(generations, index, scores, faults, is_scored, run_seed, may_be_rejected)
    candidates = find_policy(config.policy)(scored, config)
    pair_prompt, chosen, rejected = (candidates[name].to_numpy() for name in ("prompt", "chosen", "rejected"))
    allowed = may_be_rejected[rejected]  # a package's own policy may not know of it
    pair_prompt, chosen, rejected = pair_prompt[allowed], chosen[allowed], rejected[allowed]

    buckets = _Buckets(prompts)
    for code, reason in enumerate(UNFIT):
        buckets.settle(_occurs(prompt[unfit == code], prompts), reason)
    buckets.settle(np.bincount(prompt[has_text], minlength=prompts) < 2, FEW_COMPLETIONS)
    buckets.settle(np.bincount(prompt[is_whole], minlength=prompts) < 2, CUT_OFF)
    buckets.settle(np.bincount(prompt[is_scored], minlength=prompts) < 2, FEW_SCORES)
    if config.policy == ON_POLICY:
        named = scored.filter(pl.col("generator") == config.generator)["prompt"].to_numpy()
        buckets.settle(~_occurs(named, prompts), GENERATOR_ABSENT)
    if by_score:
        buckets.settle(_has_no_spread(scored, prompts), _TIE)
    else:
        sides = (config.chosen_generator, config.rejected_generator)
        there = [scored.filter(pl.col("generator") == side)["prompt"].to_numpy() for side in sides]
        buckets.settle(~(_occurs(there[0], prompts) & _occurs(there[1], prompts)), GENERATOR_ABSENT)
    if config.max_score_std > 0:
        too_far = _find_far_apart(scored, prompts, config.max_score_std)
        buckets.settle(too_far, SCORES_TOO_FAR)
        near = ~too_far[pair_prompt]
        pair_prompt, chosen, rejected = pair_prompt[near], chosen[near], rejected[near]
    may_stand = scored if by_score else scored.filter(pl.col("generator") == config.chosen_generator)
    without, best_fault = ~_occurs(pair_prompt, prompts), _find_best_fault(may_stand, prompts)
    for code, fault in enumerate(FAULTS):
        buckets.settle(without & (best_fault == code), fault)
    if config.rejected_must_fail:
        buckets.settle(without, REJECTED_PASSED)

    for reason, passes in _run_gates(generations, scores, chosen, rejected, config):
        pair_prompt, chosen, rejected = pair_prompt[passes], chosen[passes], rejected[passes]
        buckets.settle(~_occurs(pair_prompt, prompts), reason)

    pair_index = _count_up(pair_prompt)
    kept = pair_index < config.max_pairs_per_prompt
    return Selection(
        pair_prompt[kept], chosen[kept], rejected[kept], pair_index[kept], buckets.count(pairs=int(kept.sum()))
    )


def _make_frame(
    generations: pa.Table,
    index: CompletionIndex,
    scores: FloatArray,
    faults: npt.NDArray[np.int8],
    is_scored: BoolArray,
    run_seed: int,
    may_be_rejected: BoolArray,
) -> pl.DataFrame:
    """Return the `scored` table of synthgen.pairs.policies, with `fault` beside its columns."""
    rows = np.flatnonzero(is_scored)
    frame = pl.DataFrame(
        {
            "prompt": index.prompt[rows],
            "completion": rows,
            "score": scores[rows],
            "may_be_chosen": faults[rows] < 0,
            "may_be_rejected": may_be_rejected[rows],
            "fault": faults[rows],
            "generator": pl.from_arrow(generations["generator"].take(pa.array(rows))),
            "draw": index.draw(run_seed)[rows],
        }
    )
    unknown = pl.col("score").is_nan()
    return frame.sort("prompt", unknown, "score", "draw", descending=[False, False, True, False])


def _run_gates(
    generations: pa.Table, scores: FloatArray, chosen: IntArray, rejected: IntArray, config: PairsConfig
) -> Iterator[tuple[str, BoolArray]]:
    """Yield (reason, which candidates pass) per gate; each mask is over those that passed the gates before it."""
    margin = np.round(scores[chosen] - scores[rejected], SCORE_DECIMALS)
    passes = margin >= config.min_margin
    if config.policy == BY_GENERATOR and not config.min_margin:  # whatever a score says, where there is one
        passes = np.ones(len(margin), dtype=bool)
    yield BELOW_MIN_MARGIN, passes
    chosen, rejected, margin = chosen[passes], rejected[passes], margin[passes]

    if config.max_margin > 0:
        passes = ~(margin > config.max_margin)  # NaN (unknown) passes
        yield ABOVE_MAX_MARGIN, passes
        chosen, rejected = chosen[passes], rejected[passes]

    tokens = count_answer_tokens(generations).cast(pa.float64()).to_numpy()
    if config.max_length_gap > 0:
        passes = ~(np.abs(tokens[chosen] - tokens[rejected]) > config.max_length_gap)  # NaN (unknown) passes
        yield LENGTH_GAP, passes
        chosen, rejected = chosen[passes], rejected[passes]

    if config.max_length_ratio > 0:
        left, right = np.maximum(tokens[chosen], 1), np.maximum(tokens[rejected], 1)
        passes = ~(np.maximum(left, right) / np.minimum(left, right) > config.max_length_ratio)  # NaN (unknown) passes
        yield LENGTH_RATIO, passes
        chosen, rejected = chosen[passes], rejected[passes]

    text = join_calls(generations)
    yield TOO_SIMILAR, ~find_alike(text.take(pa.array(chosen)), text.take(pa.array(rejected)), config.max_similarity)


class _Buckets:
    """One bucket per prompt. The first reason that a prompt is settled with stays."""

    def __init__(self, prompts: int) -> None:
        self._reasons: list[str] = [""]
        self._code = np.zeros(prompts, dtype=np.int8)  # index into _reasons; 0: not settled, the prompt has pairs

    def settle(self, prompts: BoolArray, reason: str) -> None:
        if reason not in self._reasons:
            self._reasons.append(reason)
        self._code[prompts & (self._code == 0)] = self._reasons.index(reason)

    def count(self, pairs: int) -> PairCounts:
        sizes = np.bincount(self._code, minlength=len(self._reasons)).tolist()
        by_reason = dict(zip(self._reasons, sizes, strict=True))
        with_pairs, ties = by_reason.pop(""), by_reason.pop(_TIE, 0)
        dropped = {reason: size for reason, size in sorted(by_reason.items()) if size}
        return PairCounts(len(self._code), pairs, with_pairs, ties, dropped)


def _occurs(prompt: IntArray, prompts: int) -> BoolArray:
    occurs = np.zeros(prompts, dtype=bool)
    occurs[prompt] = True
    return occurs


def _has_no_spread(scored: pl.DataFrame, prompts: int) -> BoolArray:
    """Return whether all scores of a prompt are equal. `scored` is sorted by prompt, then score."""
    prompt, score = scored["prompt"].to_numpy(), scored["score"].to_numpy()
    steps = (prompt[1:] == prompt[:-1]) & (score[1:] < score[:-1])
    return ~_occurs(prompt[1:][steps], prompts)


def _find_far_apart(scored: pl.DataFrame, prompts: int, most: float) -> BoolArray:
    """Return whether the scores of a prompt have a standard deviation (not of a sample) above `most`."""
    known = scored.filter(~pl.col("score").is_nan())
    spread = known.group_by("prompt").agg(pl.col("score").std(ddof=0).round(SCORE_DECIMALS))
    return _occurs(spread.filter(pl.col("score") > most)["prompt"].to_numpy(), prompts)


def _find_best_fault(scored: pl.DataFrame, prompts: int) -> npt.NDArray[np.int8]:
    """Return the fault of each prompt's best-scored completion that has one, else -1."""
    faulty = scored.filter(pl.col("fault") >= 0)
    faults = np.full(prompts, -1, dtype=np.int8)
    faults[faulty["prompt"].to_numpy()[::-1]] = faulty["fault"].to_numpy()[::-1]  # the first, assigned last, stays
    return faults


def _count_up(prompt: IntArray) -> IntArray:
    """Return each element's 0-based place among its equals; equal elements stand together."""
    starts = np.flatnonzero(np.diff(prompt, prepend=-1))
    sizes = np.diff(np.append(starts, len(prompt)))
    return np.arange(len(prompt)) - np.repeat(starts, sizes)
