"""Pairs from a data set's `generations` alone: with other settings, long after the run, on any machine."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config import PairsConfig
from synthgen.config.stage_names import JUDGE
from synthgen.errors import ConfigError
from synthgen.pairs.combine import Fit, fit_scores, needs_fit
from synthgen.pairs.estimates import NO_LIMIT, settle
from synthgen.pairs.index import index_completions
from synthgen.pairs.pairing import UnitPairs, pair_scored, sort_generations
from synthgen.pairs.score_table import read_scores
from synthgen.pairs.settings import check_pairs
from synthgen.records import (
    CALLS_OF,
    PROMPTS_SCHEMA,
    SCORED_GENERATIONS_SCHEMA,
    count_answer_tokens,
    extend_generations,
    extend_schema,
    split_turns,
)


def pair_generations(
    generations: pa.Table,
    config: PairsConfig,
    *,
    run_seed: int = 0,
    prompts: pa.Table | None = None,
    fit_prompts: pa.Array | pa.ChunkedArray | None = None,
) -> UnitPairs:
    """Return the pairs and KTO rows that scored completions give under other `pairs` settings; nothing is asked anew.

    The same settings, seed and prompts give the rows of the run's own data set.

    Args:
        generations: SCORED_GENERATIONS_SCHEMA, the data set's config `generations` (all columns but `judgements` are
            read). All rows of a prompt must be there.
        run_seed: `run.seed`; breaks ties and draws at random.
        prompts: PROMPTS_SCHEMA, for the columns `source` and `metadata`; None: they are empty.
        fit_prompts: ids of the prompts of the run's first unit, on which scales and slopes are estimated; None: all.

    Raises:
        ConfigError: the settings cannot work.
        ValueError: the table lacks a column, or holds a completion twice.
    """
    missing = [name for name in SCORED_GENERATIONS_SCHEMA.names if name not in generations.column_names]
    if missing:
        raise ValueError(f"generations lacks the column {missing[0]}; give the data set's config generations")
    if config.max_flip_probability < NO_LIMIT:
        raise ConfigError(
            f"pairs.max_flip_probability={config.max_flip_probability} is estimated over a run's judgements, which a "
            "table of completions does not hold whole; give pairs.min_margin, as the run's report has it"
        )
    if config.target is not None:
        raise ConfigError(
            f"pairs.target={config.target} is the first pairs of a run, unit by unit, which a table of completions "
            "does not say; leave it out, and take as many rows as you want"
        )
    generations = split_turns(generations)
    of_prompts = (*config.prompt_must_pass, *config.prompt_must_fail)
    scored = read_scores(generations, of_prompts)
    scorers = list(scored.values)
    check_pairs(config, pc.unique(generations["generator"]).to_pylist(), scorers, _list_there(generations, of_prompts))
    schema = extend_generations(generations.column_names)
    generations = sort_generations(generations.select(schema.names).cast(schema))
    prompts = _make_prompts(generations) if prompts is None else prompts.sort_by("prompt_id")
    index = index_completions(generations, prompts["prompt_id"].combine_chunks())
    scored = read_scores(generations, of_prompts)
    if fit_prompts is not None and needs_fit(config, scorers):
        part = generations.filter(pc.is_in(generations["prompt_id"], pc.unique(fit_prompts)))
        fit = _fit(part, config)
    else:
        fit = _fit(generations, config) if needs_fit(config, scorers) else Fit()
    config = settle(config, scored.values.get(JUDGE), None)
    return pair_scored(prompts, generations, index, scored, config, run_seed, fit)


def _list_there(generations: pa.Table, names: Sequence[str]) -> list[str]:
    """Return those of `names` that are scorers of the table."""
    if "scores" not in generations.column_names:
        return []
    there = pc.unique(pc.struct_field(pc.list_flatten(generations["scores"]), "scorer")).to_pylist()
    return [name for name in names if name in there]


def _fit(generations: pa.Table, config: PairsConfig) -> Fit:
    scored = read_scores(generations, (*config.prompt_must_pass, *config.prompt_must_fail))
    tokens = count_answer_tokens(generations).cast(pa.float64()).to_numpy()
    return fit_scores(scored, config, list(scored.values), index_completions(generations), tokens)


def _make_prompts(generations: pa.Table) -> pa.Table:
    """Return PROMPTS_SCHEMA with what the completions tell of their prompts."""
    ids = generations["prompt_id"].combine_chunks()
    first = pc.index_in(pc.unique(ids), value_set=ids)
    rows = len(first)
    columns = {
        "prompt_id": ids.take(first),
        "messages": generations["prompt"].combine_chunks().take(first),
        "source": pa.repeat(pa.scalar("", pa.string()), rows),
        "source_row": pa.repeat(pa.scalar(-1, pa.int64()), rows),
        "reference": pa.nulls(rows, pa.string()),
        "metadata": pa.repeat(pa.scalar("{}", pa.string()), rows),
    }
    if "tools" in generations.column_names:
        columns |= {"tools": generations["tools"].combine_chunks().take(first)}
        columns |= {"calls": generations[f"prompt{CALLS_OF}"].combine_chunks().take(first)}
    return pa.table(columns, schema=extend_schema(PROMPTS_SCHEMA, list(columns)))
