"""From Arrow tables to rows of plain Python values, whatever the types: JSON is decoded, odd dates become text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from synthgen.errors import ConfigError
from synthgen.prompts.rows import BadRow, Row

BATCH_ROWS = 1024  # rows of a table that are Python objects at once

Decoder = Callable[[Any], Any]


def iterate_table(table: pa.Table | pa.RecordBatch, source: str, first_index: int) -> Iterator[Row | BadRow]:
    """Yield the rows of an Arrow table, numbered from `first_index`.

    Values of the extension type `arrow.json` are decoded at any depth: `datasets` from 4.7 on stores message lists
    whose turns have unequal keys in it.

    Raises:
        ConfigError: two columns, or two fields of a struct, have one name.
    """
    _refuse_twice_named(table.schema, source)
    decoders = {field.name: decoder for field in table.schema if (decoder := _make_decoder(field.type))}
    for start in range(0, table.num_rows, BATCH_ROWS):
        batch = table.slice(start, BATCH_ROWS)
        for index, row in enumerate(_convert(batch), first_index + start):
            if row is None:
                yield BadRow(source, index + 1, "not_utf8", "a text column is not UTF-8", "")
                continue
            for name, decode in decoders.items():
                row[name] = decode(row[name])
            yield Row(index, index + 1, row)


def _refuse_twice_named(schema: pa.Schema, source: str) -> None:
    names = schema.names
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"{source} has two columns called {twice}; rename one of them")
    for field in schema:
        inner = _find_twice_named(field.type)
        if inner is not None:
            raise ConfigError(
                f"{source}: in the column {field.name} a struct has two fields called {inner}; rename one"
            )


def _find_twice_named(kind: pa.DataType) -> str | None:
    if isinstance(kind, pa.StructType):
        names: list[str] = [kind.field(i).name for i in range(kind.num_fields)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            return twice
    return next((found for inner in _inner_types(kind) if (found := _find_twice_named(inner))), None)


def _inner_types(kind: pa.DataType) -> list[pa.DataType]:
    if isinstance(kind, pa.DictionaryType):
        return [kind.value_type]
    if isinstance(kind, pa.BaseExtensionType):
        return [kind.storage_type]
    return [kind.field(i).type for i in range(kind.num_fields)]


def _make_decoder(kind: pa.DataType) -> Decoder | None:
    """Return what turns a value of this type, as `to_pylist` gives it, into one without JSON text; None: as it is."""
    if isinstance(kind, pa.BaseExtensionType):
        if kind.extension_name == "arrow.json":
            return _decode_json
        return _make_decoder(kind.storage_type)
    if isinstance(kind, pa.DictionaryType):
        return _make_decoder(kind.value_type)
    if isinstance(kind, pa.StructType):
        fields = {
            field.name: decoder
            for field in (kind.field(i) for i in range(kind.num_fields))
            if (decoder := _make_decoder(field.type))
        }
        return _StructDecoder(fields) if fields else None
    inner = [_make_decoder(other) for other in _inner_types(kind)]
    if pa.types.is_map(kind):
        # One inner type: the struct of key and value, which `to_pylist` gives as tuples.
        entries = inner[0] if inner else None
        return _MapDecoder(entries.fields) if isinstance(entries, _StructDecoder) else None
    return _ListDecoder(inner[0]) if inner and inner[0] is not None else None


class _StructDecoder:
    def __init__(self, fields: dict[str, Decoder]) -> None:
        self.fields = fields

    def __call__(self, value: Any) -> Any:
        if value is None:
            return None
        return value | {name: decode(value[name]) for name, decode in self.fields.items()}


class _MapDecoder:
    def __init__(self, fields: dict[str, Decoder]) -> None:
        self.fields = fields

    def __call__(self, value: Any) -> Any:
        if value is None:
            return None
        key, item = self.fields.get("key", _keep), self.fields.get("value", _keep)
        return [(key(left), item(right)) for left, right in value]


class _ListDecoder:
    def __init__(self, item: Decoder) -> None:
        self.item = item

    def __call__(self, value: Any) -> Any:
        return None if value is None else [self.item(one) for one in value]


def _decode_json(value: Any) -> Any:
    if not isinstance(value, str | bytes):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):  # no JSON under JSON's name: it stays text
        return value


def _keep(value: Any) -> Any:
    return value


def _convert(batch: pa.Table | pa.RecordBatch) -> Sequence[dict[str, Any] | None]:
    """The rows of a batch; None for one with text that is not UTF-8."""
    try:
        rows: list[dict[str, Any] | None] = batch.to_pylist()
    except (ValueError, OverflowError, NotImplementedError):  # something in it has no Python value: find out what
        return [_convert_row(batch, index) for index in range(batch.num_rows)]
    return rows


def _convert_row(batch: pa.Table | pa.RecordBatch, index: int) -> dict[str, Any] | None:
    try:
        return {name: _convert_scalar(batch.column(name)[index]) for name in batch.schema.names}
    except UnicodeDecodeError:
        return None


def _convert_scalar(scalar: Any) -> Any:
    """The Python value of a scalar; a point in time that Python has none for (the year 12000) as text."""
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        raise
    except (ValueError, OverflowError, NotImplementedError):
        if isinstance(scalar, pa.MapScalar):
            return [(_convert_scalar(entry[0]), _convert_scalar(entry[1])) for entry in scalar.values]
        if isinstance(scalar, pa.StructScalar):
            return {name: _convert_scalar(value) for name, value in scalar.items()}
        if isinstance(scalar, pa.ListScalar):
            return [_convert_scalar(value) for value in scalar.values]
        return _show_time(scalar)


def _show_time(scalar: Any) -> str | None:
    kind = scalar.type
    if pa.types.is_date32(kind):
        return str(np.datetime64(scalar.value, "D"))
    if pa.types.is_date64(kind):
        return str(np.datetime64(scalar.value, "ms"))
    if pa.types.is_timestamp(kind):
        return str(np.datetime64(scalar.value, kind.unit))
    if pa.types.is_duration(kind):
        return f"{scalar.value} {kind.unit}"
    return None
