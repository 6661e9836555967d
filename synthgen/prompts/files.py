"""Rows of data files: JSONL, JSON, CSV, TSV, text and Parquet; text formats also compressed (.gz, .bz2, .zst, .lz4)."""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.config.registry import Registry
from synthgen.errors import ConfigError, first_line
from synthgen.prompts.arrow import BATCH_ROWS, iterate_table
from synthgen.prompts.json_files import read_document, read_lines
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
LFS_POINTER = b"version https://git-lfs.github.com/"


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
        with self.path.open("rb") as file:
            if file.read(len(LFS_POINTER)) == LFS_POINTER:
                raise ConfigError(f"{self.path} is a pointer of Git LFS, not the file; fetch it with: git lfs pull")
        try:
            read: Reader = READERS.load(data_suffix(self.path), "suffix")
            yield from read(self.path, self.name)
        except (OSError, pa.ArrowException) as error:
            raise ConfigError(f"{self.path} cannot be read: {first_line(error)}") from error


def data_suffix(path: Path) -> str:
    """Return the suffix that tells the format: `.jsonl` for `a.jsonl.gz`."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _open(path: Path) -> IO[bytes]:
    """Open `path` for reading bytes, decompressed as its suffix says, without a byte order mark."""
    raw: Any = pa.input_stream(path)  # decompresses by the suffix
    file = io.BufferedReader(raw, buffer_size=1 << 20)
    if file.peek(3).startswith(codecs.BOM_UTF8):
        file.read(len(codecs.BOM_UTF8))
    return file


def read_jsonl(path: Path, name: str) -> Iterator[Row | BadRow]:
    return read_lines(path, name, _open)


def read_json(path: Path, name: str) -> Iterator[Row | BadRow]:
    return read_document(path, name, _open)


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
        header = _name_columns(header, name)
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


def _name_columns(header: list[str], name: str) -> list[str]:
    """Return the names of the columns; of several without one (spreadsheets leave them) all but the first get one."""
    twice = next((column for column in header if column and header.count(column) > 1), None)
    if twice is not None:
        raise ConfigError(f"{name} has two columns called {twice}; rename one of them")
    return [column or (f"column {i}" if "" in header[: i - 1] else "") for i, column in enumerate(header, start=1)]


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
