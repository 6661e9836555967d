"""A unit's prompts, completions and judgements in; the rows of the data set and what became of each prompt out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config import PairsConfig
from synthgen.config.own_files import public_own
from synthgen.config.stage_names import JUDGE
from synthgen.pairs.combine import (
    FAIL,
    PASS,
    Fit,
    Scored,
    combine_scores,
    find_gated,
    find_unfit,
    fit_scores,
    read_cuts,
    resolve_weights,
)
from synthgen.pairs.counts import PairCounts
from synthgen.pairs.eligibility import add_gate, find_faults, find_whole
from synthgen.pairs.estimates import Estimates, settle
from synthgen.pairs.index import BoolArray, CompletionIndex, FloatArray, IntArray, combine, index_completions
from synthgen.pairs.place import take_out_place
from synthgen.pairs.ratings import drop_canaries, flatten_ratings
from synthgen.pairs.score_table import gather_scores
from synthgen.pairs.scores import average_aspects, average_repetitions
from synthgen.pairs.selection import select_pairs
from synthgen.pairs.tables import build_generations, build_kto, build_pairs, fill_scores
from synthgen.records import count_answer_tokens


@dataclass(frozen=True, slots=True)
class UnitPairs:
    """What some units give to the data set. All tables are sorted by prompt_id.

    Attributes:
        pairs: PAIRS_SCHEMA; a prompt's pairs by pair_index.
        kto: KTO_SCHEMA; a prompt's rows by generator, then sample_index.
        generations: SCORED_GENERATIONS_SCHEMA; a prompt's rows by generator, then sample_index.
        counts: what became of the prompts.
    """

    pairs: pa.Table
    kto: pa.Table
    generations: pa.Table
    counts: PairCounts


def pair_unit(
    prompts: pa.Table,
    generations: pa.Table,
    judgements: pa.Table | None,
    config: PairsConfig,
    *,
    use_expected: bool,
    run_seed: int,
    scores: Mapping[str, pa.Table] | None = None,
    thresholds: Mapping[str, float] | None = None,
    fit: Fit | None = None,
    estimates: Estimates | None = None,
) -> UnitPairs:
    """Return the rows that these prompts give to the data set; the same whatever the order of the rows passed in.

    Any number of units may be passed at once, as long as a column's text stays under 2 GiB.

    Args:
        prompts: PROMPTS_SCHEMA.
        generations: GENERATIONS_SCHEMA, the tables of all generators one below the other.
        judgements: JUDGEMENTS_SCHEMA; canaries are left out. None: there is no judge.
        use_expected: score by expected ratings where they exist (`judge.expected`).
        run_seed: `run.seed`; breaks ties and draws at random.
        scores: SCORER_SCHEMA by scorer, of those beside the judge. thresholds: from which value on they pass.
        fit: what was estimated on the run's first unit (`fit_unit`).
        estimates: of the run's first part; None: places add nothing, KTO cuts by these prompts, no margin is raised.

    Raises:
        ValueError: the tables do not belong together.
    """
    prompts = prompts.sort_by("prompt_id")
    generations, index, scored = _gather(
        prompts, generations, judgements, scores or {}, thresholds or {}, estimates, use_expected=use_expected
    )
    config = settle(config, scored.values.get(JUDGE), estimates)
    return pair_scored(prompts, generations, index, scored, config, run_seed, fit or Fit())


def fit_unit(
    prompts: pa.Table,
    generations: pa.Table,
    judgements: pa.Table | None,
    config: PairsConfig,
    *,
    use_expected: bool,
    scores: Mapping[str, pa.Table],
    estimates: Estimates | None = None,
) -> Fit:
    """Return what scores need to know beforehand, of a run's first unit. See `pair_unit` for the arguments."""
    generations, index, scored = _gather(
        prompts, generations, judgements, scores, dict.fromkeys(scores, 0.0), estimates, use_expected=use_expected
    )
    return fit_scores(scored, config, list(scored.values), index, _count_tokens(generations))


def _gather(
    prompts: pa.Table,
    generations: pa.Table,
    judgements: pa.Table | None,
    scores: Mapping[str, pa.Table],
    thresholds: Mapping[str, float],
    estimates: Estimates | None,
    *,
    use_expected: bool,
) -> tuple[pa.Table, CompletionIndex, Scored]:
    """Return the completions in order, their index, and what all scorers gave them."""
    generations = sort_generations(generations)
    index = index_completions(generations, combine(prompts["prompt_id"]))
    ratings, judged = None, None
    if judgements is not None:
        judgements = drop_canaries(judgements)
        ratings = flatten_ratings(index, judgements)
        if estimates is not None and estimates.place is not None:
            ratings = take_out_place(ratings, estimates.place)
        judged = average_aspects(average_repetitions(ratings, len(generations), use_expected))
    scored = gather_scores(index, judged, scores, thresholds)
    return build_generations(prompts, generations, index.prompt, judgements, ratings, scored.table), index, scored


def pair_scored(
    prompts: pa.Table,
    generations: pa.Table,
    index: CompletionIndex,
    scored: Scored,
    config: PairsConfig,
    run_seed: int,
    fit: Fit,
) -> UnitPairs:
    """Return what completions give whose scores are known.

    Args:
        prompts: PROMPTS_SCHEMA, by prompt_id.
        generations: SCORED_GENERATIONS_SCHEMA, in the order of `sort_generations`.
        index: of `generations`, with the prompts as numbered in `prompts`. scored: what all scorers gave them.
        config: what `settle` returned.
        fit: what was estimated beforehand.
    """
    weights = resolve_weights(config, list(scored.values))
    scores = combine_scores(scored, weights, fit, index, _count_tokens(generations))
    unfit = find_unfit(scored, config)
    scores = np.where(unfit >= 0, np.nan, scores)  # of prompts that are left out nothing is made
    generations = fill_scores(generations, scores)
    faults = find_faults(generations, config.drop_refusals)
    gated = add_gate(faults, find_gated(scored, config.chosen_must_pass, PASS, config))
    may_be_rejected = find_gated(scored, config.rejected_must_fail, FAIL, config)
    selection = select_pairs(generations, index, scores, gated, config, run_seed, may_be_rejected, unfit)
    rows, labels = _label_completions(generations, scores, faults < 0, config, scored, weights)
    return UnitPairs(
        pairs=build_pairs(prompts, generations, scores, selection, public_own(config.policy)),
        kto=build_kto(prompts, generations, scores, index.prompt, rows, labels),
        generations=generations,
        counts=selection.counts,
    )


def sort_generations(generations: pa.Table) -> pa.Table:
    """Return the rows by prompt, generator and sample; as they are where they are in that order."""
    keys = ("prompt_id", "generator", "sample_index")
    order = pc.sort_indices(generations, sort_keys=[(name, "ascending") for name in keys])
    in_order = bool((np.diff(order.to_numpy().astype(np.int64)) == 1).all())
    return generations if in_order else generations.take(order)


def _label_completions(
    generations: pa.Table,
    scores: FloatArray,
    may_be_chosen: BoolArray,
    config: PairsConfig,
    scored: Scored,
    weights: Mapping[str, float],
) -> tuple[IntArray, BoolArray]:
    """Return the rows of the completions that KTO trains on, and whether each is desirable.

    A desirable completion is one that may be chosen and scores at least `pairs.kto.high`; an undesirable one scores at
    most `pairs.kto.low` (Kahneman-Tversky Optimization needs no pairs, arXiv 2402.01306). Where the judge has no part
    in the score, one that passes all scorers that have is desirable, and one that fails all of them is not.
    """
    has_text = find_whole(generations, cut_off=config.reject_cut_off)
    if JUDGE in weights:
        high, low = read_cuts(config)
        good, bad = scores >= high, scores <= low
    else:
        known = ~np.isnan(scores)
        good, bad = (known & find_gated(scored, list(weights), verdict, config) for verdict in (PASS, FAIL))
    desirable = has_text & may_be_chosen & good
    rows = np.flatnonzero(desirable | (has_text & bad))
    return rows, desirable[rows]


def _count_tokens(generations: pa.Table) -> FloatArray:
    return np.asarray(count_answer_tokens(generations).cast(pa.float64()).to_numpy())
