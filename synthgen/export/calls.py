"""Where a data set has tools and what turns call: as TRL reads them, in the turns themselves, whatever was beside them.

On the way a table's column of conversations `prompt` has a column `prompt.calls` beside it: JSON lists that are aligned
with the turns (`read_call_fields`). At the end each turn is one JSON object, which `datasets` (from 4.7 on) gives as a
dictionary with the keys that it has: a struct would give every turn the keys of all, and a chat template that looks for
`tool_calls` finds them in turns that call nothing. Tables of runs without tools are left as they are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.pairs import UnitPairs
from synthgen.records import CALLS_OF, TOOL_CALLS_FIELD, canonical_json, number_calls, spell_calls

TURNS_TYPE = pa.list_(pa.json_())
"""Conversations whose turns are JSON objects."""


def take_calls(generations: pa.Table, prompts: pa.Table) -> pa.Table:
    """Return the completions with the column `tool_calls` wherever the run's prompts have tools."""
    if "tools" not in prompts.column_names or TOOL_CALLS_FIELD.name in generations.column_names:
        return generations
    return generations.append_column(TOOL_CALLS_FIELD, pa.nulls(generations.num_rows, pa.string()))


def has_calls(table: pa.Table) -> bool:
    """Return whether a table is of a run with tools."""
    return any(name.endswith(CALLS_OF) for name in table.column_names)


def put_in_turns(table: pa.Table) -> pa.Table:
    """Return a config's table with calls in the turns that make them, and no column beside them."""
    for helper in [name for name in table.column_names if name.endswith(CALLS_OF)]:
        name = helper.removesuffix(CALLS_OF)
        turns = merge_turns(table[name].to_pylist(), table[helper].to_pylist())
        place = table.schema.get_field_index(name)
        table = table.set_column(place, pa.field(name, TURNS_TYPE), turns).drop_columns([helper])
    return table


def merge_turns(conversations: Sequence[Sequence[Any]], calls: Sequence[str | None]) -> pa.Array:
    """Return conversations of the type TURNS_TYPE; calls[i] is aligned with conversation i, None: it calls nothing."""
    merged = [_merge(turns, called) for turns, called in zip(conversations, calls, strict=True)]
    return pa.array([[canonical_json(turn) for turn in turns] for turns in merged], pa.list_(pa.string())).cast(
        TURNS_TYPE
    )


def spell_in_turns(rows: UnitPairs) -> UnitPairs:
    """Return the rows as formats that know no tools take them: what a turn calls is a part of its text."""
    if not has_calls(rows.generations):
        return rows
    generations = rows.generations
    texts = [
        text if text is None else spell_calls(text, json.loads(calls or "[]"))
        for text, calls in zip(generations["text"].to_pylist(), generations["tool_calls"].to_pylist(), strict=True)
    ]
    place = generations.schema.get_field_index("text")
    generations = generations.set_column(place, generations.schema.field("text"), pa.array(texts, pa.string()))
    return replace(rows, pairs=_spell(rows.pairs), kto=_spell(rows.kto), generations=_spell(generations))


def spell_sample(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row for people: what turns call is a part of their text."""
    for helper in [name for name in row if name.endswith(CALLS_OF)]:
        turns, calls = row[helper.removesuffix(CALLS_OF)], row.pop(helper)
        turns[:] = [_spell_turn(turn, called) for turn, called in zip(turns, _read(calls, turns), strict=True)]
    return row


def write_openai(turns: Sequence[Any], calls: str | None) -> list[str]:
    """Return a conversation's turns as JSON, as OpenAI's training takes them: arguments as text, an id for each."""
    return [canonical_json(turn) for turn in number_calls(_merge(turns, calls))]


def join_turn_calls(conversations: pa.ChunkedArray, calls: pa.ChunkedArray, answers: pa.ChunkedArray) -> pa.Array:
    """Return, for conversations with one more turn, the aligned lists of what all turns call.

    Args:
        calls: of the conversations. answers: of the one turn behind each.
    """
    lengths = pc.list_value_length(conversations).to_pylist()
    joined = []
    for length, before, last in zip(lengths, calls.to_pylist(), answers.to_pylist(), strict=True):
        turns = [*(json.loads(before) if before else [None] * length), *(json.loads(last) if last else [None])]
        joined.append(canonical_json(turns) if any(turns) else None)
    return pa.array(joined, pa.string())


def decode_json(value: Any, type_: pa.DataType) -> Any:
    """Return a row's value with what is JSON in it as objects, which Arrow gives as text."""
    if value is None:
        return None
    if isinstance(type_, pa.JsonType):
        return json.loads(value)
    if isinstance(type_, pa.ListType):
        return [decode_json(one, type_.value_type) for one in value]
    if isinstance(type_, pa.StructType):
        return {field.name: decode_json(value[field.name], field.type) for field in type_}
    return value


def _spell(table: pa.Table) -> pa.Table:
    for helper in [name for name in table.column_names if name.endswith(CALLS_OF)]:
        name = helper.removesuffix(CALLS_OF)
        place = table.schema.get_field_index(name)
        field = table.schema.field(name)
        conversations = [
            [_spell_turn(turn, called) for turn, called in zip(turns, _read(calls, turns), strict=True)]
            for turns, calls in zip(table[name].to_pylist(), table[helper].to_pylist(), strict=True)
        ]
        table = table.set_column(place, field, pa.array(conversations, field.type)).drop_columns([helper])
    return table.drop_columns(["tools"])


def _merge(turns: Sequence[Any], calls: str | None) -> list[Any]:
    return [
        {key: value for key, value in turn.items() if value is not None} | (called or {})
        for turn, called in zip(turns, _read(calls, turns), strict=True)
    ]


def _spell_turn(turn: Any, called: Any) -> Any:
    calls = (called or {}).get("tool_calls")
    return {**turn, "content": spell_calls(turn["content"], calls)} if calls else turn


def _read(calls: str | None, turns: Sequence[Any]) -> list[Any]:
    return json.loads(calls) if calls else [None] * len(turns)
