"""Which columns of a source are read: by the configuration, the names that are usual, and what the columns hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from synthgen.config import PromptsConfig
from synthgen.errors import ConfigError
from synthgen.prompts.columns import KNOWN_COLUMNS, NAMED_KEYS, Columns, choose_columns, get_column, has_column
from synthgen.prompts.json_text import parse_messages
from synthgen.prompts.rows import Row, RowSource


def require_columns(
    config: PromptsConfig, sample: Sequence[Mapping[str, Any]], first: str, sources: Iterable[RowSource]
) -> None:
    """Raise ConfigError unless every column that the configuration names is in some row of some source.

    Args:
        sample: the first rows of the first source that has any; the sources are read only for names that are not there.
        first: the name of that source.
    """
    missing = {
        key: name
        for key in NAMED_KEYS
        if (name := getattr(config, key)) and not any(has_column(row, name) for row in sample)
    }
    for source in sources if missing else ():
        for row in _iterate_values(source):
            missing = {key: name for key, name in missing.items() if not has_column(row, name)}
            if not missing:
                return
    for key, name in missing.items():
        raise ConfigError(f"prompts.{key}={name} is not a column of {first}; it has {_list_names(sample)}")


def find_columns(
    config: PromptsConfig,
    source: RowSource,
    sample: Sequence[Mapping[str, Any]],
    rules: int,
    note: Callable[[str], None],
) -> Columns:
    """Return the columns to read from a source.

    Args:
        sample: its first rows; it is read whole only where they leave something open.
        rules: see RULES.
        note: told what a user should know.

    Raises:
        ConfigError: none of its columns has a known name.
    """
    columns = choose_columns(config, sample, rules)
    if columns is None:  # it may come later
        columns = choose_columns(config, _iterate_values(source), rules)
    if columns is None:
        raise ConfigError(
            f"prompts.column=null finds no prompts in {source.name}, whose columns are {_list_names(sample)}; "
            f"set prompts.column to one of them, or name it {KNOWN_COLUMNS[0]}"
        )
    if rules >= 1 and _holds_message_text(source, sample, columns, note):
        return replace(columns, as_text=True)
    return columns


def _holds_message_text(
    source: RowSource, sample: Sequence[Mapping[str, Any]], columns: Columns, note: Callable[[str], None]
) -> bool:
    """Whether the values of the prompts' column are message lists written as text, all of them."""
    column, calls = columns.prompt, columns.calls
    parsed = [parse_messages(value, calls=calls) for value in _iterate_filled(sample, column)]
    if not any(parsed):
        return False
    rest = _iterate_filled(_iterate_values(source), column)
    if None not in parsed and all(parse_messages(value, calls=calls) is not None for value in rest):
        note(f"{source.name}: the column {column} holds message lists written as text, and is read as messages")
        return True
    note(
        f"{source.name}: some values of the column {column} are message lists written as text and some are not; "
        "all are taken as plain text"
    )
    return False


def _iterate_filled(rows: Iterable[Mapping[str, Any]], column: str) -> Iterator[Any]:
    return (value for row in rows if (value := get_column(row, column)) not in (None, ""))


def _iterate_values(source: RowSource) -> Iterator[Mapping[str, Any]]:
    return (row.values for row in source.rows() if isinstance(row, Row))


def _list_names(rows: Iterable[Mapping[str, Any]]) -> str:
    return ", ".join(dict.fromkeys(name for row in rows for name in row))
