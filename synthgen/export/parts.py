"""Shards on their way to the run directory: written as their rows come, named when it is known how many there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from tempfile import TemporaryFile
from typing import IO

import pyarrow as pa

from synthgen.export.files import JSON_LINES, ROOT, ExportedFile, config_directory, shard_path
from synthgen.export.parquet import JsonLinesFile, ParquetFile
from synthgen.storage import Storage


class Parts:
    """The files of an export while it runs; a context manager that frees them.

    A file's name holds the number of shards, which is known at the end. Until then the files lie without a name on
    disk (in the run directory where that is local, since /tmp may be memory): memory does not grow with the data set.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        if storage.root is not None:
            storage.root.mkdir(parents=True, exist_ok=True)
        self._stack = ExitStack()
        self._finished: list[_Part] = []
        self._open: dict[tuple[str, str], _Part] = {}

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return 1 + max([part.shard for part in (*self._finished, *self._open.values())], default=-1)

    def add(self, shard: int, tables: Mapping[tuple[str, str], pa.Table]) -> None:
        """Write rows of shard number `shard`, a table per (config, split); shards come one after the other."""
        for (config, split), table in tables.items():
            part = self._open.get((config, split))
            if part is None or part.shard != shard:
                if part is not None:
                    self._finish(part)
                file = self._stack.enter_context(TemporaryFile(dir=self._storage.root))  # noqa: SIM115 (closed with the stack)
                part = self._open[config, split] = _Part(config, split, shard, table.schema, file)
            part.add(table)

    def write(self, configs: Iterable[str]) -> tuple[ExportedFile, ...]:
        """Give all files their names, and remove what other settings, or fewer units, left in the directories of
        `configs`."""
        shards = self.shards
        for part in self._open.values():
            self._finish(part)
        files = tuple(self._write(shards))
        kept = {file.path for file in files}
        for name in configs:
            for path in self._storage.list(f"{ROOT}/{config_directory(name)}"):
                if path not in kept:
                    self._storage.delete(path)
        return files

    def _finish(self, part: _Part) -> None:
        part.sink.close()
        self._finished.append(part)

    def _write(self, shards: int) -> Iterator[ExportedFile]:
        for part in self._finished:
            path = shard_path(part.config, part.split, part.shard, shards)
            part.file.seek(0)
            data = part.file.read()
            part.file.close()
            self._storage.replace(path, data)
            yield ExportedFile(path, part.config, part.split, part.rows, part.memory_bytes, len(data))


class _Part:
    """A shard's rows of one split of a config, in a file that has no name yet."""

    def __init__(self, config: str, split: str, shard: int, schema: pa.Schema, file: IO[bytes]) -> None:
        self.config = config
        self.split = split
        self.shard = shard
        self.file = file
        self.sink = JsonLinesFile(file, schema) if config == JSON_LINES else ParquetFile(file, schema)
        self.rows = 0
        self.memory_bytes = 0

    def add(self, table: pa.Table) -> None:
        self.sink.write(table)
        self.rows += table.num_rows
        self.memory_bytes += table.nbytes
