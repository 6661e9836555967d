"""From a row of the prompt table to the input columns of a task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

DEFAULT_INPUTS: Mapping[str, Any] = {"instructions": ["instruction"]}
"""Where an input comes from that `task.inputs` does not name; any other one comes from the column of its own name."""


class MissingInputError(Exception):
    """A row has no value for a required input."""

    def __init__(self, name: str, column: str) -> None:
        super().__init__(f"task.inputs.{name}: the prompt has no value in the column {column!r}")
        self.name = name
        self.column = column


def list_columns(prompt: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a row of PROMPTS_SCHEMA that a task's inputs can come from; None stands for no value.

    `instruction` is the last user turn, `system_prompt` the system turn, `messages` the conversation, `tools` what may
    be called in it; `prompt_id`, `source` and `reference` are the table's own; every other column of the source has its
    own name. The source's column `x` is always at `metadata.x` too, if one of these names hides it.
    """
    calls = json.loads(prompt.get("calls") or "[]") or [None] * len(prompt["messages"])
    messages: list[dict[str, Any]] = [
        {**turn, **(more or {})} for turn, more in zip(prompt["messages"], calls, strict=True)
    ]
    metadata: dict[str, Any] = json.loads(prompt["metadata"])
    own = {
        "instruction": next((turn["content"] for turn in reversed(messages) if turn["role"] == "user"), None),
        "system_prompt": next((turn["content"] for turn in messages if turn["role"] == "system"), None),
        "messages": messages,
        "prompt_id": prompt["prompt_id"],
        "source": prompt["source"],
        "reference": prompt["reference"],
        "tools": json.loads(prompt["tools"]) if prompt.get("tools") else None,
    }
    own = {name: value for name, value in own.items() if value is not None}
    return {**{f"metadata.{name}": value for name, value in metadata.items()}, **metadata, **own}


def select_inputs(columns: Mapping[str, Any], wanted: Mapping[str, bool], mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Return the task's input columns.

    Args:
        columns: what `list_columns` returned.
        wanted: the task's inputs, and whether each is required; an optional one without a value is left out.
        mapping: `task.inputs`: a column's name, or a list of names that becomes a list of values.

    Raises:
        MissingInputError: a required input has no value.
    """
    inputs: dict[str, Any] = {}
    for name, required in wanted.items():
        source = find_source(name, mapping)
        names = source if isinstance(source, list) else [source]
        missing = next((column for column in names if columns.get(column) is None), None)
        if missing is None:
            inputs[name] = [columns[column] for column in names] if isinstance(source, list) else columns[source]
        elif required:
            raise MissingInputError(name, missing)
    return inputs


def find_source(name: str, mapping: Mapping[str, Any]) -> str | list[str]:
    """Return the column, or the list of columns, that an input comes from."""
    source: str | list[str] = mapping.get(name, DEFAULT_INPUTS.get(name, name))
    return source
