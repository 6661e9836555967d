"""Shards on their way to the run directory: written as their rows come, named when it is known how many there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa

from synthgen.export.files import JSON_LINES, ROOT, ExportedFile, config_directory, shard_path
from synthgen.export.parquet import JsonLinesFile, ParquetFile
from synthgen.export.swap import STAGING_PREFIX, clear_left_over
from synthgen.ledger.storage import Storage

WRITERS = 2
"""Files that are written at a time: encoding Parquet is two fifths of an export's work, and happens outside of
Python's lock."""


class Parts:
    """The files of an export while it runs; a context manager that frees them.

    A file's name holds the number of shards, which is known at the end. Until then the files wait in a directory of
    their own on disk (in the run directory where that is local, since /tmp may be memory): neither memory nor open
    files grow with the data set.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        clear_left_over(storage)
        self._directory = TemporaryDirectory(prefix=STAGING_PREFIX, dir=storage.root)
        self._writers = ThreadPoolExecutor(WRITERS)
        self._finished: list[_Part] = []
        self._open: dict[tuple[str, str], _Part] = {}

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, *_: object) -> None:
        self._writers.shutdown()
        for part in self._open.values():
            part.abandon()
        self._directory.cleanup()

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return 1 + max([part.shard for part in (*self._finished, *self._open.values())], default=-1)

    def add(self, shard: int, tables: Mapping[tuple[str, str], pa.Table]) -> None:
        """Write rows of shard number `shard`, a table per (config, split), WRITERS at a time; shards come in order."""
        for (config, split), table in tables.items():
            part = self._open.get((config, split))
            if part is None or part.shard != shard:
                if part is not None:
                    self._finish(part)
                path = Path(self._directory.name) / f"{config}-{split}-{shard}"
                self._open[config, split] = _Part(config, split, shard, table.schema, path)
        list(self._writers.map(lambda key: self._open[key].add(tables[key]), tables))

    def write(self, configs: Iterable[str]) -> tuple[ExportedFile, ...]:
        """Give all files their names, and remove what other settings, or fewer units, left in the directories of
        `configs`."""
        shards = self.shards
        for part in self._open.values():
            self._finish(part)
        self._open.clear()
        files = tuple(self._write(shards))
        kept = {file.path for file in files}
        for name in configs:
            for path in self._storage.list(f"{ROOT}/{config_directory(name)}"):
                if path not in kept:
                    self._storage.delete(path)
        return files

    def _finish(self, part: _Part) -> None:
        part.sink.close()
        part.file.close()
        self._finished.append(part)

    def _write(self, shards: int) -> Iterator[ExportedFile]:
        for part in self._finished:
            path = shard_path(part.config, part.split, part.shard, shards)
            data = part.path.read_bytes()
            part.path.unlink()
            self._storage.replace(path, data)
            yield ExportedFile(path, part.config, part.split, part.rows, part.memory_bytes, len(data))


class _Part:
    """A shard's rows of one split of a config, in a file that has no name yet."""

    def __init__(self, config: str, split: str, shard: int, schema: pa.Schema, path: Path) -> None:
        self.config = config
        self.split = split
        self.shard = shard
        self.path = path
        self.file = path.open("xb")
        kind = JsonLinesFile if config == JSON_LINES else ParquetFile
        self.sink: JsonLinesFile | ParquetFile = kind(self.file, schema)
        self.rows = 0
        self.memory_bytes = 0

    def abandon(self) -> None:
        """Close the file, whatever it holds."""
        with suppress(OSError, ValueError):  # a full disk takes no footer either; unclosed, pyarrow tries it at its end
            self.sink.close()
        with suppress(OSError):
            self.file.close()

    def add(self, table: pa.Table) -> None:
        self.sink.write(table)
        self.rows += table.num_rows
        self.memory_bytes += table.nbytes
