"""`export.keep_columns`: columns of the prompts as columns of the data set, beside `metadata`, which has all of them.

A column has one type in all files, the smallest that holds what all prompts have (synthgen.export.infer): numbers stay
numbers, lists lists and objects structs. Where prompts disagree (a number here, a text there) it is text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.errors import ConfigError
from synthgen.export.infer import close_type, convert_value, infer_type, join_types
from synthgen.records import (
    KTO_SCHEMA,
    PAIRS_SCHEMA,
    PRINCIPLE_FIELD,
    REASONING_FIELDS,
    SCORED_GENERATIONS_SCHEMA,
    TOOL_CALLS_FIELD,
)

OF_FORMATS = (
    "chosen-model", "chosen-rating", "chosen_reasoning", "completions", "context", "conversations",
    "correct_answers", "generation_model", "incorrect_answers", "input", "instruction", "messages", "model_name",
    "non_preferred_output", "preferred_output", "rejected-model", "rejected-rating", "rejected_reasoning",
    "sample_index", "scores", "system",
)  # fmt: skip
"""Columns of some config that no schema of records.py names."""
_TAKEN = frozenset(
    {*PAIRS_SCHEMA.names, *KTO_SCHEMA.names, *SCORED_GENERATIONS_SCHEMA.names, *OF_FORMATS}
    | {field.name for field in (*REASONING_FIELDS, PRINCIPLE_FIELD, TOOL_CALLS_FIELD)}
    | {"tools"}
)


def check_names(names: Sequence[str]) -> None:
    """Raise ConfigError for names that the data set has already, or that are given twice."""
    taken = [name for name in names if name in _TAKEN]
    if taken:
        raise ConfigError(
            f"export.keep_columns={taken} are columns that the data set has itself; rename them in the prompts, or "
            "leave them out: the column metadata has them in any case"
        )
    if len(set(names)) < len(names):
        raise ConfigError(f"export.keep_columns={list(names)} names a column twice")


def check_columns(names: Sequence[str], prompts: Iterable[pa.Table]) -> None:
    """Raise ConfigError for names that no prompt has as a column. Reads no more of `prompts` than that takes."""
    missing, there = set(names), set[str]()
    for table in prompts:
        if not missing:
            return
        for text in table["metadata"].to_pylist():
            there.update(json.loads(text))
        missing -= there
    if missing:
        raise ConfigError(
            f"export.keep_columns={sorted(missing)}: no prompt has such a column; there are "
            f"{', '.join(sorted(there)) or 'none beside the prompt'}"
        )


def find_types(names: Sequence[str], prompts: Iterable[pa.Table]) -> dict[str, pa.DataType]:
    """Return the type of each column over all prompts."""
    types = dict.fromkeys(names, pa.null())
    for table in prompts:
        for text in table["metadata"].to_pylist():
            values = json.loads(text)
            for name in names:
                if (value := values.get(name)) is not None:
                    types[name] = join_types(types[name], infer_type(value))
    return {name: close_type(type_) for name, type_ in types.items()}


def add_columns(table: pa.Table, prompts: pa.Table, types: Mapping[str, pa.DataType]) -> pa.Table:
    """Return a config's table with the columns of the prompt of each row; one without prompt_id stays as it is."""
    if not types or "prompt_id" not in table.column_names:
        return table
    values: list[dict[str, Any]] = [json.loads(text) for text in prompts["metadata"].to_pylist()]
    place = pc.index_in(table["prompt_id"], prompts["prompt_id"].combine_chunks())
    for name, type_ in types.items():
        column = pa.array([convert_value(one.get(name), type_) for one in values], type_)
        table = table.append_column(name, column.take(place))
    return table
