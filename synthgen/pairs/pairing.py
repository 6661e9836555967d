"""A unit's prompts, completions and judgements in; the rows of the data set and what became of each prompt out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config import PairsConfig
from synthgen.pairs.counts import PairCounts
from synthgen.pairs.eligibility import find_faults, find_whole
from synthgen.pairs.index import BoolArray, CompletionIndex, FloatArray, IntArray, combine, index_completions
from synthgen.pairs.ratings import drop_canaries, flatten_ratings
from synthgen.pairs.scores import average_aspects, average_repetitions
from synthgen.pairs.selection import select_pairs
from synthgen.pairs.tables import build_generations, build_kto, build_pairs


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
    judgements: pa.Table,
    config: PairsConfig,
    *,
    use_expected: bool,
    run_seed: int,
) -> UnitPairs:
    """Return the rows that these prompts give to the data set; the same whatever the order of the rows passed in.

    Any number of units may be passed at once, as long as a column's text stays under 2 GiB.

    Args:
        prompts: PROMPTS_SCHEMA.
        generations: GENERATIONS_SCHEMA, the tables of all generators one below the other.
        judgements: JUDGEMENTS_SCHEMA; canaries are left out.
        use_expected: score by expected ratings where they exist (`judge.expected`).
        run_seed: `run.seed`; breaks ties and draws at random.

    Raises:
        ValueError: the tables do not belong together.
    """
    prompts = prompts.sort_by("prompt_id")
    generations = sort_generations(generations)
    index = index_completions(generations, combine(prompts["prompt_id"]))
    judgements = drop_canaries(judgements)
    ratings = flatten_ratings(index, judgements)
    scores = average_aspects(average_repetitions(ratings, len(generations), use_expected))
    scored = build_generations(prompts, generations, judgements, scores, index.prompt, ratings)
    return pair_scored(prompts, scored, index, scores, config, run_seed)


def pair_scored(
    prompts: pa.Table,
    generations: pa.Table,
    index: CompletionIndex,
    scores: FloatArray,
    config: PairsConfig,
    run_seed: int,
) -> UnitPairs:
    """Return what completions give whose scores are known.

    Args:
        prompts: PROMPTS_SCHEMA, by prompt_id.
        generations: SCORED_GENERATIONS_SCHEMA, in the order of `sort_generations`.
        index: of `generations`, with the prompts as numbered in `prompts`. scores: of each completion, NaN without one.
    """
    faults = find_faults(generations, config.drop_refusals)
    selection = select_pairs(generations, index, scores, faults, config, run_seed)
    rows, labels = _label_completions(generations, scores, faults < 0, config)
    return UnitPairs(
        pairs=build_pairs(prompts, generations, scores, selection, config.policy),
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
    generations: pa.Table, scores: FloatArray, may_be_chosen: BoolArray, config: PairsConfig
) -> tuple[IntArray, BoolArray]:
    """Return the rows of the completions that KTO trains on, and whether each is desirable.

    A desirable completion is one that may be chosen and scores at least `pairs.kto.high`; an undesirable one scores at
    most `pairs.kto.low` (Kahneman-Tversky Optimization needs no pairs, arXiv 2402.01306).
    """
    has_text = find_whole(generations, cut_off=config.reject_cut_off)
    desirable = has_text & may_be_chosen & (scores >= config.kto.high)
    rows = np.flatnonzero(desirable | (has_text & (scores <= config.kto.low)))
    return rows, desirable[rows]
