"""Which prompts are held out, and what is trained on. Pure functions of tables; the same rows give the same choice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config import ProveTrain
from synthgen.export import is_test
from synthgen.records import (
    CALLS_OF,
    PROMPTS_SCHEMA,
    Message,
    Tool,
    concat_units,
    extend_schema,
    list_conversations,
    list_tools,
    make_prompt_id,
    split_turns,
    stable_hash,
)

LEAST_ROWS = 2_000
ROWS_PER_STEP = 64
"""Rows to train on beyond these, and so many per step, would be rendered and tokenized for nothing."""


def hold_out(prompts: Iterable[pa.Table], fraction: float, most: int, seed: int) -> pa.Table:
    """Return up to `most` of the prompts that are held out, by a hash of their ids; PROMPTS_SCHEMA.

    Args:
        fraction: share that is held out: the split `test` of an export with this `export.test_fraction`.
    """
    kept: list[tuple[int, pa.Table]] = []
    for table in prompts:
        held = table.filter(is_test(table["prompt_id"], fraction))
        held = held.select(extend_schema(PROMPTS_SCHEMA, held.column_names).names)
        kept += [
            (stable_hash(seed, "held out", prompt_id), held.slice(row, 1))
            for row, prompt_id in enumerate(held["prompt_id"].to_pylist())
        ]
        kept = sorted(kept, key=lambda item: item[0])[:most]
    if not kept:
        return PROMPTS_SCHEMA.empty_table()
    whole = concat_units(table for _, table in kept).replace_schema_metadata(None)
    schema = extend_schema(PROMPTS_SCHEMA, whole.column_names)
    return whole.select(schema.names).cast(schema)


def add_prompt_ids(rows: pa.Table) -> pa.Table:
    """Return a data set's rows with `prompt_id`, which `export.columns=minimal` leaves out."""
    if "prompt_id" in rows.column_names:
        return rows
    ids = [make_prompt_id(messages, tools) for messages, tools in _list_prompts(rows)]
    return rows.append_column("prompt_id", pa.array(ids, pa.string()))


def _list_prompts(rows: pa.Table) -> Iterator[tuple[list[Message], tuple[Tool, ...]]]:
    split = split_turns(rows)
    calls = {"calls": split[f"prompt{CALLS_OF}"]} if f"prompt{CALLS_OF}" in split.column_names else {}
    yield from zip(list_conversations(pa.table({"messages": split["prompt"], **calls})), list_tools(split), strict=True)


def select_rows(rows: pa.Table, fraction: float, method: ProveTrain, steps: int, seed: int) -> pa.Table:
    """Return the rows to train on, none of a prompt that is held out: in the order of a hash of their prompts.

    For SFT a prompt's first pair alone: its chosen side is the best of n.
    """
    rows = add_prompt_ids(rows)
    rows = rows.filter(pc.invert(is_test(rows["prompt_id"], fraction)))
    if method is ProveTrain.sft and "pair_index" in rows.column_names:
        rows = rows.filter(pc.equal(rows["pair_index"], 0))
    keys = [stable_hash(seed, "train", prompt_id) for prompt_id in rows["prompt_id"].to_pylist()]
    order = sorted(range(len(keys)), key=lambda row: (keys[row], row))
    taken = rows.take(pa.array(order[: max(LEAST_ROWS, ROWS_PER_STEP * steps)], pa.int64()))
    tools = ["tools"] if "tools" in taken.column_names else []
    return taken.select([*list_columns(method), *tools]).combine_chunks()


def list_columns(method: ProveTrain) -> list[str]:
    """Return the columns that a method trains on, and the prompt's id."""
    sides = ["completion", "label"] if method is ProveTrain.kto else ["chosen", "rejected"]
    return ["prompt_id", "prompt", *sides]


def shuffle_sides(rows: pa.Table, method: ProveTrain, seed: int) -> pa.Table:
    """Return the same rows where chance says which side was chosen: half of the pairs, drawn at random, turned round.

    Of single completions (KTO) the labels are dealt anew, as many desirable ones as before.
    """
    draw = np.random.default_rng([seed, len(rows)])
    if method is ProveTrain.kto:
        place = rows.schema.get_field_index("label")
        dealt = rows["label"].take(pa.array(draw.permutation(len(rows)))).combine_chunks()
        return rows.set_column(place, "label", dealt)
    turned = np.zeros(len(rows), dtype=bool)
    turned[draw.permutation(len(rows))[: len(rows) // 2]] = True
    mask = pa.array(turned)
    chosen, rejected = rows["chosen"].combine_chunks(), rows["rejected"].combine_chunks()
    for name, there, other in (("chosen", chosen, rejected), ("rejected", rejected, chosen)):
        rows = rows.set_column(rows.schema.get_field_index(name), name, pc.if_else(mask, other, there))
    return rows
