"""Where a data set has what was thought before its answers (`export.reasoning`): completions in, completions out."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config import ExportConfig, ExportReasoning
from synthgen.pairs import UnitPairs
from synthgen.records import MESSAGES_TYPE, REASONING_FIELDS, count_answer_tokens


def take_thoughts(generations: pa.Table, config: ExportConfig) -> pa.Table:
    """Return the completions with the columns of REASONING_FIELDS, or without, whatever the units have."""
    if config.reasoning is ExportReasoning.drop:
        return hide_thoughts(generations)
    for field in REASONING_FIELDS:
        if field.name not in generations.column_names:
            generations = generations.append_column(field, pa.nulls(generations.num_rows, field.type))
    return generations


def hide_thoughts(generations: pa.Table) -> pa.Table:
    """Return the completions without what was thought before them: `output_tokens` are those of the answer."""
    thoughts = [field.name for field in REASONING_FIELDS if field.name in generations.column_names]
    if not thoughts:
        return generations
    place = generations.schema.get_field_index("output_tokens")
    answers = generations.set_column(place, generations.schema.field(place), count_answer_tokens(generations))
    return answers.drop_columns(thoughts)


def put_inline(rows: UnitPairs, config: ExportConfig) -> UnitPairs:
    """Return the rows with each thought in its assistant's turn instead of beside it; `generations` stay."""
    if config.reasoning is not ExportReasoning.inline:
        return rows
    pairs, kto = rows.pairs, rows.kto
    for side in ("chosen", "rejected"):
        pairs = _move(pairs, side, f"{side}_reasoning", config.reasoning_key)
    return replace(rows, pairs=pairs, kto=_move(kto, "completion", "reasoning", config.reasoning_key))


def read_thoughts(turns: pa.ChunkedArray, key: str) -> pa.ChunkedArray | None:
    """Return the thoughts in columns of one assistant turn each; None: their turns have no such field."""
    if turns.type.value_type.get_field_index(key) < 0:
        return None
    return pc.struct_field(pc.list_flatten(turns), key)


def extend_turns(turns: pa.ListArray, thoughts: pa.Array, key: str) -> pa.ListArray:
    """Return conversations whose turns have one more field; thoughts[i] is of turn i, counted through all of them."""
    flat = turns.flatten()
    fields = [*MESSAGES_TYPE.value_type, pa.field(key, pa.string())]
    columns = [flat.field(0), flat.field(1), thoughts]
    offsets = pc.subtract(turns.offsets, turns.offsets[0])
    extended = pa.StructArray.from_arrays(columns, fields=fields)
    return pa.ListArray.from_arrays(offsets, extended)


def bare_turns(turns: pa.ChunkedArray, key: str) -> pa.ChunkedArray:
    """Return conversations whose turns have role and content alone."""
    if turns.type.value_type.get_field_index(key) < 0:
        return turns
    whole = turns.combine_chunks()
    flat = whole.flatten()
    offsets = pc.subtract(whole.offsets, whole.offsets[0])
    bare = pa.StructArray.from_arrays([flat.field(0), flat.field(1)], fields=list(MESSAGES_TYPE.value_type))
    return pa.chunked_array([pa.ListArray.from_arrays(offsets, bare, type=MESSAGES_TYPE)])


def _move(table: pa.Table, turns: str, thoughts: str, key: str) -> pa.Table:
    place = table.schema.get_field_index(turns)
    moved = extend_turns(table[turns].combine_chunks(), table[thoughts].combine_chunks(), key)
    return table.set_column(place, pa.field(turns, moved.type, nullable=False), moved).drop_columns([thoughts])
