"""What the page lets people read: a seeded sample of the data set's first shard, pairs with the judge's words."""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.ledger.run_dir import RunDir, describe_os_error
from synthgen.records import tell_turns

logger = logging.getLogger(__name__)

DATA = "dataset/data/"
GENERATIONS = "dataset/generations/"
SIDES = ("chosen", "rejected")
PAIR_COLUMNS = (
    "prompt_id", "source", "pair_policy", "score_margin", "prompt",
    *(f"{side}{part}" for side in SIDES for part in ("", "_model", "_score", "_tokens", "_completion_id")),
)  # fmt: skip
TASK_COLUMNS = frozenset(
    {"prompt_id", "prompt", "sample_index", "model_name", "raw_text", "error", "source", "metadata"}
)
"""Columns of a task's data set that are not the task's own (synthgen.export.task)."""


def sample_pairs(run_dir: RunDir, limit: int = 300, seed: int = 0) -> list[dict[str, Any]]:
    """Return up to `limit` rows of the data set's first shard, in the shard's order; the same for the same `seed`.

    Pairs have the columns of PAIR_COLUMNS that the data set has, and as `chosen_judgements` and `rejected_judgements`
    what the judge said of the two completions. Rows of a task have all of its columns. The list is empty where there is
    no row, or where the shard is damaged: the page says what it can, and whoever reads the data set itself says what is
    wrong with it.
    """
    try:
        return _sample_pairs(run_dir, limit, seed)
    except (pa.ArrowInvalid, pa.ArrowKeyError, FileNotFoundError, KeyError, OSError) as error:
        logger.warning("%s/dataset is not whole, so the page has no samples: %s", run_dir.url, describe_os_error(error))
        return []


def _sample_pairs(run_dir: RunDir, limit: int, seed: int) -> list[dict[str, Any]]:
    for path in run_dir.storage.list(DATA.rstrip("/")):
        if not path.endswith(".parquet"):
            continue
        shard = _open(run_dir, path)
        if not {"chosen", "raw_text"} & set(shard.schema_arrow.names):
            return []  # the data set of a pipeline of the user's own
        if shard.metadata.num_rows:
            rows = range(shard.metadata.num_rows)
            wanted = sorted(random.Random(seed).sample(rows, min(limit, len(rows))))
            pairs = [row for table in _take(shard, wanted) for row in table.to_pylist()]
            # Shards are cut by prompts: the completions of a shard's pairs are in the shard of the same name.
            generations = GENERATIONS + path.removeprefix(DATA)
            named = "chosen_completion_id" in shard.schema_arrow.names  # not with export.columns=minimal
            if named and run_dir.storage.exists(generations):
                _add_judgements(_open(run_dir, generations), pairs)
            return pairs
    return []


def make_sample(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page shows of a row: prompt turns and completions, plain values only.

    Args:
        row: a row of PAIRS_SCHEMA, with or without judgements; a row of a task's data set; or one that has its
            `completions` already, as mappings of `text` and optionally `role`, `model`, `score`, `tokens`, `judgements`
            and `facts` (name and value of what else is known of it).
    """
    completions = row.get("completions")
    if completions is None and "raw_text" in row:
        completions = [task_completion(row)]
    elif completions is None:
        completions = [
            {
                "role": side,
                "text": "\n".join(turn["content"] for turn in tell_turns(row.get(side) or [])),
                "model": row.get(f"{side}_model"),
                "score": row.get(f"{side}_score"),
                "tokens": row.get(f"{side}_tokens"),
                "judgements": row.get(f"{side}_judgements"),
            }
            for side in SIDES
        ]
    return {
        "prompt_id": row.get("prompt_id"),
        "source": row.get("source"),
        "policy": row.get("pair_policy"),
        "margin": row.get("score_margin"),
        "prompt": tell_turns(row.get("prompt") or []),
        "completions": [_completion(completion) for completion in completions],
    }


def task_completion(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the completion of a row that a task made; what the task read out of its text are its facts."""
    text = row["raw_text"] if row.get("error") is None else f"(failed: {row['error']}) {row['raw_text'] or ''}"
    own = [(name, value) for name, value in row.items() if name not in TASK_COLUMNS and value not in (None, text)]
    return {"text": text, "model": row.get("model_name"), "facts": [(name, str(value)) for name, value in own]}


def _completion(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "role": values.get("role"),
        "text": str(values.get("text") or ""),
        "model": values.get("model"),
        "score": values.get("score"),
        "tokens": values.get("tokens"),
        "facts": [list(fact) for fact in values.get("facts") or []],
        "ratings": [
            {key: judgement.get(key) for key in ("aspect", "repetition", "rating", "expected", "rationale")}
            for judgement in values.get("judgements") or []
        ],
    }


def _open(run_dir: RunDir, path: str) -> pq.ParquetFile:
    root = run_dir.storage.root
    return pq.ParquetFile(root / path if root else pa.BufferReader(run_dir.storage.read(path)))


def _take(shard: pq.ParquetFile, wanted: Sequence[int]) -> Iterator[pa.Table]:
    """Yield the rows with the numbers `wanted` (ascending), one row group in memory at a time."""
    names = shard.schema_arrow.names
    columns = [name for name in names if "chosen" not in names or name in PAIR_COLUMNS]
    sizes = [shard.metadata.row_group(group).num_rows for group in range(shard.num_row_groups)]
    for group, start in enumerate(itertools.accumulate(sizes[:-1], initial=0)):
        inside = [row - start for row in wanted if start <= row < start + sizes[group]]
        if inside:
            yield shard.read_row_group(group, columns=columns, use_threads=False).take(inside)


def _add_judgements(shard: pq.ParquetFile, pairs: Sequence[dict[str, Any]]) -> None:
    wanted = pa.array({pair["prompt_id"] for pair in pairs})
    found: dict[tuple[str, str], list[Any]] = {}
    for group in range(shard.num_row_groups):
        table = shard.read_row_group(group, columns=["prompt_id", "completion_id", "judgements"], use_threads=False)
        for row in table.filter(pa.compute.is_in(table["prompt_id"], wanted)).to_pylist():
            found[row["prompt_id"], row["completion_id"]] = row["judgements"]
    for pair in pairs:
        for side in SIDES:
            key = (pair["prompt_id"], pair[f"{side}_completion_id"])
            pair[f"{side}_judgements"] = found.get(key, [])
