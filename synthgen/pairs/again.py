"""Pairs from a data set's `generations` alone: with other settings, long after the run, on any machine."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config import PairsConfig
from synthgen.pairs.index import index_completions
from synthgen.pairs.pairing import UnitPairs, pair_scored, sort_generations
from synthgen.pairs.settings import check_pairs
from synthgen.records import PROMPTS_SCHEMA, SCORED_GENERATIONS_SCHEMA, extend_schema


def pair_generations(
    generations: pa.Table, config: PairsConfig, *, run_seed: int = 0, prompts: pa.Table | None = None
) -> UnitPairs:
    """Return the pairs and KTO rows that scored completions give under other `pairs` settings; nothing is asked anew.

    The same settings, seed and prompts give the rows of the run's own data set.

    Args:
        generations: SCORED_GENERATIONS_SCHEMA, the data set's config `generations` (all columns but `judgements` are
            read). All rows of a prompt must be there.
        run_seed: `run.seed`; breaks ties and draws at random.
        prompts: PROMPTS_SCHEMA, for the columns `source` and `metadata`; None: they are empty.

    Raises:
        ConfigError: the settings cannot work.
        ValueError: the table lacks a column, or holds a completion twice.
    """
    missing = [name for name in SCORED_GENERATIONS_SCHEMA.names if name not in generations.column_names]
    if missing:
        raise ValueError(f"generations lacks the column {missing[0]}; give the data set's config generations")
    check_pairs(config, pc.unique(generations["generator"]).to_pylist())
    schema = extend_schema(SCORED_GENERATIONS_SCHEMA, generations.column_names)
    generations = sort_generations(generations.select(schema.names).cast(schema))
    prompts = _make_prompts(generations) if prompts is None else prompts.sort_by("prompt_id")
    index = index_completions(generations, prompts["prompt_id"].combine_chunks())
    scores = pc.fill_null(generations["score"], float("nan")).to_numpy()
    return pair_scored(prompts, generations, index, scores, config, run_seed)


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
    return pa.table(columns, schema=PROMPTS_SCHEMA)
