"""Rows of JSON files: lines of objects, a list of them, or an object that holds columns."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from synthgen.errors import ConfigError
from synthgen.prompts.messages import ROLE_KEYS
from synthgen.prompts.rows import BadRow, Row, clip

_SPACE = re.compile(r"[ \t\r\n]*")
Open = Callable[[Path], IO[bytes]]


class _TwiceError(ValueError):
    """An object has a key twice; which of the values is meant, nobody can say."""


def read_lines(path: Path, name: str, open_file: Open) -> Iterator[Row | BadRow]:
    """Yield a row per line that is not blank."""
    with open_file(path) as file:
        for index, line in enumerate(file):
            if line.strip():
                yield _parse_line(line, name, index)


def read_document(path: Path, name: str, open_file: Open) -> Iterator[Row | BadRow]:
    """Yield the rows of a list, an object with such a list, an object of columns, or lines (the wrong suffix)."""
    with open_file(path) as file:
        lines = (line for line in file if line.strip())
        first = next(lines, b"")
        several = next(lines, None) is not None
    if several and isinstance(_parse_line(first, name, 0), Row):
        yield from read_lines(path, name, open_file)
        return
    with open_file(path) as file:
        content = file.read()
    try:
        values = _load_all(content.decode())
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is malformed JSON: {error}") from error
    value = values[0] if len(values) == 1 else values
    rows = _list_rows(value) if isinstance(value, dict) else [value] if isinstance(value, str) else value
    if not isinstance(rows, list):
        raise ConfigError(f"{path} must hold a list of objects, or an object with such a list under `data`")
    for index, row in enumerate(rows):
        yield _make_row(row, name, index)


def _list_rows(value: Mapping[str, Any]) -> list[Any]:
    """The rows of an object: those under `data`, those that its columns make, or itself."""
    data, columns = value.get("data"), value.get("columns")
    if isinstance(data, list):
        if isinstance(columns, list) and all(isinstance(row, list) and len(row) == len(columns) for row in data):
            return [dict(zip(columns, row, strict=True)) for row in data]  # pandas: orient="split"
        return data
    lists = [other for other in value.values() if isinstance(other, list)]
    if len(lists) == len(value) == 1 and all(isinstance(row, Mapping) and not _is_turn(row) for row in lists[0]):
        return lists[0]
    if lists and len(lists) == len(value) and len({len(other) for other in lists}) == 1:
        conversation = any(_is_turn(item) for other in lists for item in other)
        return [value] if conversation else [dict(zip(value, row, strict=True)) for row in zip(*lists, strict=True)]
    keys = next((other.keys() for other in value.values() if isinstance(other, Mapping)), ())
    numbered = bool(keys) and all(key.isdecimal() for key in keys)
    if numbered and all(isinstance(other, Mapping) and other.keys() == keys for other in value.values()):
        return [{name: other[key] for name, other in value.items()} for key in keys]  # pandas' `to_json`
    return [value]


def _is_turn(value: Any) -> bool:
    return isinstance(value, Mapping) and any(key in value for key in ROLE_KEYS)


def _parse_line(line: bytes, name: str, index: int) -> Row | BadRow:
    try:
        return _make_row(_loads(line), name, index)
    except UnicodeDecodeError as error:
        return BadRow(name, index + 1, "not_utf8", f"not UTF-8: byte 0x{line[error.start]:02x}", clip(line))
    except json.JSONDecodeError as error:
        message = f"malformed JSON: {error.msg} at column {error.colno}"
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, brackets a thousand deep
        message = f"malformed JSON: {error}"
    return BadRow(name, index + 1, "malformed_json", message, clip(line))


def _loads(data: bytes) -> Any:
    return _DECODER.decode(data.decode())


def _load_all(text: str) -> list[Any]:
    """The JSON values of a text; mostly one, but some tools write one after another, each over several lines."""
    values: list[Any] = []
    start = _SPACE.match(text).end()  # type: ignore[union-attr]
    while start < len(text) or not values:
        value, end = _DECODER.raw_decode(text, start)
        values.append(value)
        start = _SPACE.match(text, end).end()  # type: ignore[union-attr]
    return values


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return made


_DECODER = json.JSONDecoder(object_pairs_hook=_make_object)


def _make_row(value: Any, name: str, index: int) -> Row | BadRow:
    """A JSON value as a row; a bare string is a prompt."""
    if isinstance(value, str):
        return Row(index, index + 1, {"text": value})
    if isinstance(value, dict):
        return Row(index, index + 1, value)
    message = f"a row must be an object or a string, not {type(value).__name__}"
    return BadRow(name, index + 1, "not_an_object", message, clip(json.dumps(value)))
