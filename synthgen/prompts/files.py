"""Rows of data files: JSONL, JSON, CSV, TSV, text and Parquet; text formats also compressed (.gz, .bz2, .zst, .lz4)."""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.config.registry import Registry
from synthgen.errors import ConfigError, first_line
from synthgen.prompts.rows import BadRow, Row, clip

Reader = Callable[[Path, str], Iterator[Row | BadRow]]
READERS = Registry(
    "synthgen.prompt_readers",
    {
        ".jsonl": "synthgen.prompts.files:read_jsonl",
        ".ndjson": "synthgen.prompts.files:read_jsonl",
        ".json": "synthgen.prompts.files:read_json",
        ".csv": "synthgen.prompts.files:read_csv",
        ".tsv": "synthgen.prompts.files:read_tsv",
        ".txt": "synthgen.prompts.files:read_text",
        ".parquet": "synthgen.prompts.files:read_parquet",
    },
)
"""Reader by file suffix (what is before the suffix of a compression), called with the file and what rows call it."""

COMPRESSIONS = (".gz", ".bz2", ".zst", ".lz4")
BATCH_ROWS = 1024  # rows of a Parquet file that are Python objects at once


@dataclass(frozen=True, slots=True)
class FileSource:
    """One data file. `name` is what the user calls it: the file's name, or its path below the directory given."""

    path: Path
    name: str

    def identity(self) -> list[Any]:
        """Return name, size and SHA-256 of the bytes."""
        try:
            with self.path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be read: {error.strerror}") from error
        return ["file", self.name, self.path.stat().st_size, digest]

    def rows(self) -> Iterator[Row | BadRow]:
        """Yield the file's rows; none where it has no bytes."""
        if self.path.stat().st_size == 0:
            return
        try:
            read: Reader = READERS.load(data_suffix(self.path), "suffix")
            yield from read(self.path, self.name)
        except (OSError, pa.ArrowInvalid) as error:
            raise ConfigError(f"{self.path} cannot be read: {first_line(error)}") from error


def data_suffix(path: Path) -> str:
    """Return the suffix that tells the format: `.jsonl` for `a.jsonl.gz`."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def iterate_table(table: pa.Table | pa.RecordBatch, source: str, first_index: int) -> Iterator[Row | BadRow]:
    """Yield the rows of an Arrow table, numbered from `first_index`."""
    for start in range(0, table.num_rows, BATCH_ROWS):
        batch = table.slice(start, BATCH_ROWS)
        values: Sequence[dict[str, Any] | None]
        try:
            values = batch.to_pylist()
        except UnicodeDecodeError:  # some string is not UTF-8: find out whose
            values = [_convert_row(batch.slice(i, 1)) for i in range(batch.num_rows)]
        for index, row in enumerate(values, first_index + start):
            if row is None:
                yield BadRow(source, index + 1, "not_utf8", "a text column is not UTF-8", "")
            else:
                yield Row(index, index + 1, row)


def _convert_row(row: pa.Table | pa.RecordBatch) -> dict[str, Any] | None:
    try:
        values: dict[str, Any] = row.to_pylist()[0]
    except UnicodeDecodeError:
        return None
    return values


def _open(path: Path) -> IO[bytes]:
    """Open `path` for reading bytes, decompressed as its suffix says, without a byte order mark."""
    raw: Any = pa.input_stream(path)  # decompresses by the suffix
    file = io.BufferedReader(raw, buffer_size=1 << 20)
    if file.peek(3).startswith(codecs.BOM_UTF8):
        file.read(len(codecs.BOM_UTF8))
    return file


def read_jsonl(path: Path, name: str) -> Iterator[Row | BadRow]:
    with _open(path) as file:
        for index, line in enumerate(file):
            if line.strip():
                yield _parse_line(line, name, index)


def _parse_line(line: bytes, name: str, index: int) -> Row | BadRow:
    try:
        return _make_row(json.loads(line.decode()), name, index)
    except UnicodeDecodeError as error:
        return BadRow(name, index + 1, "not_utf8", f"not UTF-8: byte 0x{line[error.start]:02x}", clip(line))
    except json.JSONDecodeError as error:
        message = f"malformed JSON: {error.msg} at column {error.colno}"
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, brackets a thousand deep
        message = f"malformed JSON: {error}"
    return BadRow(name, index + 1, "malformed_json", message, clip(line))


def _make_row(value: Any, name: str, index: int) -> Row | BadRow:
    """A JSON value as a row; a bare string is a prompt."""
    if isinstance(value, str):
        return Row(index, index + 1, {"text": value})
    if isinstance(value, dict):
        return Row(index, index + 1, value)
    message = f"a row must be an object or a string, not {type(value).__name__}"
    return BadRow(name, index + 1, "not_an_object", message, clip(json.dumps(value)))


def read_json(path: Path, name: str) -> Iterator[Row | BadRow]:
    """A list of rows, an object with such a list under `data`, or JSONL under the wrong suffix."""
    with _open(path) as file:
        first = next((line for line in file if line.strip()), b"")
    row = _parse_line(first, name, 0)
    if isinstance(row, Row) and not isinstance(row.values.get("data"), list):
        yield from read_jsonl(path, name)
        return
    with _open(path) as file:
        content = file.read()
    try:
        value = json.loads(content.decode())
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is malformed JSON: {error}") from error
    rows = value.get("data", [value]) if isinstance(value, dict) else value
    if not isinstance(rows, list):
        raise ConfigError(f"{path} must hold a list of objects, or an object with such a list under `data`")
    for index, row in enumerate(rows):
        yield _make_row(row, name, index)


def read_csv(path: Path, name: str) -> Iterator[Row | BadRow]:
    return _read_delimited(path, name, delimiter=",")


def read_tsv(path: Path, name: str) -> Iterator[Row | BadRow]:
    return _read_delimited(path, name, delimiter="\t")


def _read_delimited(path: Path, name: str, delimiter: str) -> Iterator[Row | BadRow]:
    csv.field_size_limit(sys.maxsize)
    with _open(path) as file:
        reader = csv.reader(
            (line.decode("utf-8", "surrogateescape") for line in file), delimiter=delimiter, strict=True
        )
        try:
            header = next(reader, [])
        except csv.Error as error:
            raise ConfigError(f"{path} has a malformed CSV header: {error}") from error
        for index in itertools.count():
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                # A quote that is never closed swallows lines: each counts.
                for bad_line in range(line, reader.line_num + 1):
                    yield BadRow(name, bad_line, "malformed_csv", f"malformed CSV: {error}", "")
                continue
            if cells:
                yield _make_csv_row(cells, header, name, index, line)


def _make_csv_row(cells: list[str], header: list[str], name: str, index: int, line: int) -> Row | BadRow:
    text = ",".join(cells)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        byte = ord(text[error.start]) & 0xFF
        return BadRow(name, line, "not_utf8", f"not UTF-8: byte 0x{byte:02x}", clip(text))
    if len(cells) != len(header):
        message = f"{len(cells)} fields, the header has {len(header)}"
        return BadRow(name, line, "malformed_csv", message, clip(text))
    return Row(index, line, dict(zip(header, cells, strict=True)))


def read_text(path: Path, name: str) -> Iterator[Row | BadRow]:
    """One prompt per line."""
    with _open(path) as file:
        for index, line in enumerate(file):
            if not line.strip():
                continue
            try:
                yield Row(index, index + 1, {"text": line.decode().rstrip("\r\n")})
            except UnicodeDecodeError as error:
                yield BadRow(name, index + 1, "not_utf8", f"not UTF-8: byte 0x{line[error.start]:02x}", clip(line))


def read_parquet(path: Path, name: str) -> Iterator[Row | BadRow]:
    index = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=BATCH_ROWS):
            yield from iterate_table(batch, name, index)
            index += batch.num_rows
