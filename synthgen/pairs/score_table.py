"""The tables of scorers in, their values beside each completion out; and the column of a data set in, the same out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config.stage_names import JUDGE
from synthgen.pairs.combine import Scored
from synthgen.pairs.index import CompletionIndex, FloatArray, IntArray, combine, find_in
from synthgen.records import PROMPT_ROW, SCORES_TYPE


def gather_scores(
    index: CompletionIndex, judge: FloatArray | None, tables: Mapping[str, pa.Table], thresholds: Mapping[str, float]
) -> Scored:
    """Return the values of all scorers beside the completions.

    Args:
        index: the completions. judge: the judge's scores, None without a judge.
        tables: SCORER_SCHEMA by scorer; rows of other completions are left out. thresholds: what passes, by scorer.
            What a scorer says of a prompt, it says of each completion, and it is in the table alone.
    """
    rows = len(index.prompt)
    values: dict[str, FloatArray] = {} if judge is None else {JUDGE: judge}
    if not tables:
        return Scored(rows, values)
    entries: list[tuple[str, FloatArray, pa.Array, pa.Array]] = []
    nothing = pa.nulls(rows, pa.string())
    if judge is not None:
        entries.append((JUDGE, judge, nothing, nothing))
    for name, table in tables.items():
        of_prompts = bool(len(table)) and bool(pc.all(pc.equal(table["completion_id"], PROMPT_ROW)).as_py())
        order = _find_prompt_rows(index, table) if of_prompts else _find_rows(index, table)
        take = pa.array(order, mask=order < 0)
        found = {column: combine(table[column].take(take)) for column in ("value", "reason", "detail")}
        value = np.asarray(found["value"].to_numpy(zero_copy_only=False), dtype=np.float64)
        if not of_prompts:
            values[name] = value
        entries.append((name, value, found["reason"], found["detail"]))
    return Scored(rows, values, _nest(entries, rows, thresholds))


def read_scores(generations: pa.Table, of_prompts: Collection[str] = ()) -> Scored:
    """Return the values that a data set's `generations` hold (those of the judge alone where there were no scorers).

    Args:
        of_prompts: names of the scorers that looked at prompts.
    """
    if "scores" not in generations.column_names:
        return Scored(len(generations), {JUDGE: pc.fill_null(generations["score"], float("nan")).to_numpy()})
    table = combine(generations["scores"])
    flat, parent = pc.list_flatten(table), pc.list_parent_indices(table)
    values: dict[str, FloatArray] = {}
    for name in pc.unique(pc.struct_field(flat, "scorer")).to_pylist():
        if name in of_prompts:
            continue
        mine = pc.equal(pc.struct_field(flat, "scorer"), name)
        values[name] = np.full(len(generations), np.nan)
        rows = parent.filter(mine).to_numpy()
        values[name][rows] = pc.fill_null(pc.struct_field(flat, "value").filter(mine), float("nan")).to_numpy(
            zero_copy_only=False
        )
    return Scored(len(generations), values, table)


def _find_rows(index: CompletionIndex, table: pa.Table) -> IntArray:
    """Return the row of each completion in a scorer's table, -1 without one."""
    place = index.find(table["prompt_id"], combine(table["completion_id"]))
    order = np.full(len(index.prompt), -1)
    order[place[place >= 0]] = np.flatnonzero(place >= 0)
    return order


def _find_prompt_rows(index: CompletionIndex, table: pa.Table) -> IntArray:
    """Return the row of each completion's prompt in a scorer's table, -1 without one."""
    return find_in(index.prompt_ids, combine(table["prompt_id"])).astype(np.int64)[index.prompt]


def _nest(
    entries: Sequence[tuple[str, FloatArray, pa.Array, pa.Array]], rows: int, thresholds: Mapping[str, float]
) -> pa.ListArray:
    """Return SCORES_TYPE: per completion a struct of each scorer, in the order of `entries`."""
    order = np.arange(rows * len(entries)).reshape(len(entries), rows).T.ravel()

    def interleave(columns: Sequence[Any]) -> Any:
        return pa.concat_arrays(columns).take(pa.array(order))

    verdicts = [
        pa.array(values >= thresholds[name], mask=np.isnan(values))
        if name in thresholds
        else pa.nulls(rows, pa.bool_())
        for name, values, _, _ in entries
    ]
    columns = [
        interleave([pa.repeat(pa.scalar(name, pa.string()), rows) for name, *_ in entries]),
        interleave([pa.array(values, from_pandas=True) for _, values, *_ in entries]),
        interleave(verdicts),
        interleave([reason for *_, reason, _ in entries]),
        interleave([detail for *_, detail in entries]),
    ]
    structs = pa.StructArray.from_arrays(columns, fields=list(SCORES_TYPE.value_type))
    offsets = pa.array(np.arange(rows + 1) * len(entries), pa.int32())
    return pa.ListArray.from_arrays(offsets, structs, type=SCORES_TYPE)
