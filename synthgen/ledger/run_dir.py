"""The run directory: the ledger of which (stage, unit) files exist. Nothing else says what is done.

config.yaml  prompts/  stages/<name>-<fingerprint>/unit-000000.parquet  failures/  dataset/  report.json  status.json

One file because it is the one place that knows the names of a run's files.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.errors import ConfigError, RunFailedError, StorageError, SynthgenError, first_line
from synthgen.ledger.read_ahead import read_small
from synthgen.ledger.storage import RETRY_S, GuardedStorage, Storage, open_storage
from synthgen.records import PROMPTS_SCHEMA, UnitCounts

logger = logging.getLogger(__name__)

PROMPTS = "prompts"
LABELLED = "labelled"
"""Name of the prompts of `judge-eval`, which lie in a directory of a stage's form."""
MANIFEST = "prompts/manifest.json"
PROBE = ".tmp-probe"
FIRST_CONTACT_S = 20.0
"""How long an object store may stumble when a run starts: more looks like a wrong address."""
COUNTS_KEY = b"synthgen.counts"
INPUTS_KEY = b"synthgen.inputs"
"""In a stage's file: JSON of input name → digest of the file that it was made from."""
PLACE_KEY = b"synthgen.place"
"""In a footer: where the file belongs. Files of earlier versions have none."""
DIGEST_KEY = b"synthgen.digest"
"""In a table that was read: digest of its file. Never written."""
UNIT_NAME = re.compile(r"unit-(\d{6,})\.parquet")
PART_NAME = re.compile(r"unit-(\d{6,})\.(\d+)-(\d+)\.parquet")


class CorruptUnitError(SynthgenError):
    """A unit's file cannot be used: it is torn, or made from an input that has changed. Its work is done again.

    Args:
        directory, unit: whose file it is.
        why: what is wrong, as a phrase that follows the file's name.
        rows: the range of the part, None for the whole unit.
        wrong: whether it was read well and is another file than it should be: reading it again does not help.
    """

    def __init__(
        self, directory: str, unit: int, why: str, rows: tuple[int, int] | None = None, *, wrong: bool = False
    ) -> None:
        super().__init__(f"{part_path(directory, unit, rows) if rows else unit_path(directory, unit)} {why}")
        self.directory = directory
        self.unit = unit
        self.why = why
        self.rows = rows
        self.wrong = wrong

    def __reduce__(self) -> tuple[Any, ...]:
        return (partial(CorruptUnitError, wrong=self.wrong), (self.directory, self.unit, self.why, self.rows))


class StaleUnitError(CorruptUnitError):
    """A unit's file was made from another version of its input."""

    def __init__(self, directory: str, unit: int, rows: tuple[int, int] | None = None) -> None:
        super().__init__(directory, unit, "was made from an older version of its input", rows, wrong=True)

    def __reduce__(self) -> tuple[Any, ...]:
        return (StaleUnitError, (self.directory, self.unit, self.rows))


class RunDir:
    """One run's directory, local or in an object store. Cheap to make, and picklable: replicas get it so.

    Args:
        retry_s: in an object store, how long what may pass is tried again, s.
        reads_only: whether it is only looked at: what is damaged stays where it lies, and counts as absent.
    """

    def __init__(self, url: str, retry_s: float = RETRY_S, *, reads_only: bool = False) -> None:
        self.storage: Storage = open_storage(url, retry_s=retry_s)
        self.url = self.storage.url
        self.retry_s = retry_s
        self.reads_only = reads_only
        self._passed_over: set[tuple[str, int]] = set()

    def __reduce__(self) -> tuple[Any, ...]:
        # Without the guard, which is the driver's own.
        return (partial(RunDir, reads_only=self.reads_only), (self.url, self.retry_s))

    def guard(self, change: Callable[[], None], read: Callable[[], None] | None = None) -> None:
        """Let `change` come before every change from now on, and `read` before every read; each may raise."""
        self.storage = GuardedStorage(self.storage, change, read)

    def check_writable(self) -> None:
        """Raise ConfigError unless files can be made here. What is there already stays as it is."""
        storage = self.storage.hurried(FIRST_CONTACT_S)
        try:
            storage.replace(PROBE, b"")
        except StorageError as error:
            raise ConfigError(
                f"run.dir={self.url} cannot be written: {error.why}; check the bucket, the endpoint and the rights of "
                "these credentials (synthgen doctor run.dir=… tries it)"
            ) from error
        except OSError as error:
            raise ConfigError(
                f"run.dir={self.url} cannot be written: {describe_os_error(error)}; choose another run.dir"
            ) from error
        with contextlib.suppress(OSError, StorageError):  # some stores let nobody delete
            storage.delete(PROBE)

    def read_or(self, default: bytes, path: str) -> bytes:
        """Return the file's bytes, or `default` where there is no such file."""
        try:
            return self.storage.read(path)
        except FileNotFoundError:
            return default

    def read_json(self, path: str, *keys: str) -> dict[str, Any] | None:
        """Return a JSON file that holds an object with these keys, or None where it is absent or anything else.

        Nothing that this project writes as JSON is the only copy of what it says, so a damaged file is as good as none.
        """
        data = self.read_or(b"", path)
        try:
            value = json.loads(data)
        except ValueError:
            value = None
        if isinstance(value, dict) and all(key in value for key in keys):
            return value
        if data:
            logger.warning("%s/%s is damaged, and taken as absent", self.url, path)
        return None

    def write_json(self, path: str, value: Any, *, indent: int | None = 2, patience_s: float | None = None) -> None:
        """Write `value` as JSON, whole, over what was there.

        Args:
            patience_s: how long a store that stumbles is waited for, s; None: `storage.retry_s`.
        """
        text = json.dumps(value, indent=indent, ensure_ascii=False, default=str)
        storage = self.storage if patience_s is None else self.storage.hurried(patience_s)
        storage.replace(path, (text + "\n").encode("utf-8", "backslashreplace"))

    def committed(self, directory: str) -> set[int]:
        """Return the units whose files are in `directory`; on a local disk, torn files are set aside and left out.

        Of a directory that is only looked at, those that were passed over are left out too (`pass_over`).
        """
        found: dict[int, str] = {}
        for path in self.storage.list(directory):
            head, _, name = path.rpartition("/")
            if head == directory and (match := UNIT_NAME.fullmatch(name)):
                found[int(match[1])] = path
        found = {unit: path for unit, path in found.items() if (directory, unit) not in self._passed_over}
        if self.storage.root is None:  # it never shows half a file
            return set(found)
        torn = [unit for unit, is_torn in zip(found, read_small(self._is_torn, found.values()), strict=True) if is_torn]
        for unit in torn:
            self._tell_torn(found[unit])
            if self.reads_only:
                self._passed_over.add((directory, unit))  # so that it is told once
            else:
                self.discard(directory, unit)
        return found.keys() - set(torn)

    def pass_over(self, error: CorruptUnitError) -> bool:
        """Count the unit that `error` is about as absent from now on. Return False where it did before.

        For who only looks: a run sets its file aside, and makes it again.
        """
        known = (error.directory, error.unit) in self._passed_over
        self._passed_over.add((error.directory, error.unit))
        return not known

    def read_unit(self, directory: str, unit: int) -> pa.Table:
        """Return the table of a committed unit; its schema's metadata hold the digest of the file (`digest_of`).

        Raises:
            FileNotFoundError: it is not committed (or an object store's listing was ahead of its reads).
            CorruptUnitError: the file is not a whole Parquet file.
        """
        return decode_unit(self.storage.read(unit_path(directory, unit)), directory, unit)

    def read_inputs(self, directory: str, unit: int) -> dict[str, str]:
        """Return the digests of the files that a committed unit was made from, by input name. Raises as `read_unit`."""
        with self._open(unit_path(directory, unit)) as source, _reporting_damage(directory, unit, None):
            return _read_inputs(pq.read_metadata(source).metadata)

    def digest_file(self, directory: str, unit: int) -> str | None:
        """Return the digest of a unit's file as it lies there, whatever it holds; None where there is none."""
        data = self.read_or(b"", unit_path(directory, unit))
        return digest_bytes(data) if data else None

    def replace_unit(self, directory: str, unit: int, data: bytes) -> None:
        """Write the file of a unit of prompts over what was there: only for units that no manifest speaks of, or whose
        manifest is written next."""
        self.storage.replace(unit_path(directory, unit), data)

    def read_counts(self, directory: str, unit: int) -> UnitCounts:
        """Return the numbers that were stored with a committed unit."""
        path = unit_path(directory, unit)
        with self._open(path) as source, _reporting_damage(directory, unit, None):
            return _read_counts(pq.read_metadata(source).metadata)

    def commit_unit(
        self,
        directory: str,
        unit: int,
        table: pa.Table,
        counts: UnitCounts | None = None,
        inputs: Mapping[str, str] | None = None,
    ) -> bool:
        """Write a unit's file. Return False where another replica was first: then nothing changed.

        Args:
            inputs: digests of the files that it was made from, by input name.
        """
        path = unit_path(directory, unit)
        return self._create(path, encode_unit(table, counts, inputs, {PLACE_KEY: path.encode()}))

    def commit_part(
        self,
        directory: str,
        unit: int,
        rows: tuple[int, int],
        table: pa.Table,
        counts: UnitCounts,
        inputs: Mapping[str, str] | None = None,
    ) -> bool:
        """Write the output of some rows of a unit that was split. See `commit_unit`."""
        path = part_path(directory, unit, rows)
        return self._create(path, encode_unit(table, counts, inputs, {PLACE_KEY: path.encode()}))

    def read_part(self, directory: str, unit: int, rows: tuple[int, int]) -> tuple[pa.Table, UnitCounts]:
        """Return what `commit_part` wrote. Raises as `read_unit` does."""
        table = decode_unit(self.storage.read(part_path(directory, unit, rows)), directory, unit, rows)
        return table, _read_counts(table.schema.metadata)

    def parts(self, directory: str) -> dict[int, list[tuple[int, int]]]:
        """Return the committed parts by unit, as half-open row ranges; torn ones as in `committed`."""
        found: dict[int, list[tuple[int, int]]] = {}
        for path in self.storage.list(f"{directory}/parts"):
            match = PART_NAME.fullmatch(path.rpartition("/")[2])
            if match:
                unit, rows = int(match[1]), (int(match[2]), int(match[3]))
                if self._is_torn(path):
                    self._tell_torn(path)
                    if not self.reads_only:
                        self.discard(directory, unit, rows)
                else:
                    found.setdefault(unit, []).append(rows)
        return found

    def write_failures(
        self, stage: str, unit: int, rows: list[dict[str, Any]], part: tuple[int, int] | None = None
    ) -> None:
        """Write what was quarantined in a unit: stage, ids, reason, retryable, message and the input."""
        lines = [json.dumps(row, ensure_ascii=False, default=str) for row in rows]
        if not rows:
            self.storage.delete(_failures_path(stage, unit, part))
            return
        data = ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")
        self.storage.replace(_failures_path(stage, unit, part), data)

    def delete_failures(self, stage: str, unit: int) -> None:
        """Remove the list of what was quarantined in a unit, if there is one."""
        self.storage.delete(_failures_path(stage, unit, None))

    def read_failures(self, stage: str, unit: int) -> list[dict[str, Any]]:
        """Return what `write_failures` wrote of a whole unit, empty where that is nothing."""
        lines = self.read_or(b"", _failures_path(stage, unit, None)).decode("utf-8", "replace").splitlines()
        found: list[dict[str, Any]] = []
        for line in lines:
            with contextlib.suppress(ValueError):  # torn: it is for people to read
                found.append(json.loads(line))
        return found

    def failed_units(self, stage: str) -> list[int]:
        """Return the units of a stage that have a file of failures, whatever configuration it is from."""
        names = [path.rpartition("/")[2] for path in self.storage.list(f"failures/{stage}")]
        matches = [re.match(r"unit-(\d{6,})[.]", name) for name in names]
        return sorted({int(match[1]) for match in matches if match})

    def discard(self, directory: str, unit: int, rows: tuple[int, int] | None = None) -> None:
        """Take the file of a unit, or of a part of it, out of the ledger; its bytes go to `failures/torn/`."""
        path = part_path(directory, unit, rows) if rows else unit_path(directory, unit)
        assert not self.reads_only, f"{path} was to be set aside, and {self.url} is only looked at"
        with contextlib.suppress(FileNotFoundError):  # its bytes are there already, from whoever was first
            self.storage.replace(f"failures/torn/{path.replace('/', '-')}", self.storage.read(path))
        self.storage.delete(path)
        stage = directory.removeprefix("stages/").rpartition("-")[0]
        if stage and rows is None:
            self.storage.delete(_failures_path(stage, unit, None))  # they are found anew

    def set_aside(self, error: CorruptUnitError) -> bool:
        """Discard the file that `error` is about, unless it can be read now: then it was the reading that went wrong.

        Returns:
            whether it was discarded.
        """
        if not error.wrong and self.can_be_read(error):
            return False
        self.discard(error.directory, error.unit, error.rows)
        return True

    def can_be_read(self, error: CorruptUnitError) -> bool:
        """Return whether the file that `error` is about is fine when it is read here and now."""
        try:
            if error.rows is None:
                self.read_unit(error.directory, error.unit)
            else:
                self.read_part(error.directory, error.unit, error.rows)
        except (CorruptUnitError, FileNotFoundError):
            return False
        return True

    def _open(self, path: str) -> IO[bytes]:
        return open(f"{self.url}/{path}", "rb") if self.storage.root else io.BytesIO(self.storage.read(path))

    def _is_torn(self, path: str) -> bool:
        """Whether a file on a local disk has no whole footer. What else may be wrong shows when it is read."""
        return self.storage.root is not None and not _has_footer(f"{self.url}/{path}")

    def _tell_torn(self, path: str) -> None:
        logger.warning("%s is torn; %s", path, "a run makes it again" if self.reads_only else "it is made again")

    def _create(self, path: str, data: bytes) -> bool:
        assert not self.reads_only, f"{path} was to be written, and {self.url} is only looked at"
        try:
            return self.storage.create(path, data)
        except OSError as error:
            raise RunFailedError(
                f"{self.url}/{path} could not be written: {describe_os_error(error)}; what was committed is kept, "
                "mend that and start the same command again"
            ) from error


def unit_path(directory: str, unit: int) -> str:
    """Return the path of a unit's file within the run directory."""
    return f"{directory}/unit-{unit:06d}.parquet"


def part_path(directory: str, unit: int, rows: tuple[int, int]) -> str:
    """Return the path of the file of a split unit's rows [rows[0], rows[1])."""
    return f"{directory}/parts/unit-{unit:06d}.{rows[0]}-{rows[1]}.parquet"


def stage_directory(name: str, fingerprint: str) -> str:
    """Return the directory of a stage's files within the run directory."""
    return f"stages/{name}-{fingerprint}"


def encode_unit(
    table: pa.Table,
    counts: UnitCounts | None,
    inputs: Mapping[str, str] | None = None,
    extra: Mapping[bytes, bytes] | None = None,
) -> bytes:
    """Return the bytes of a unit's Parquet file, with the counts and the digests of its inputs in the footer."""
    metadata: dict[bytes, bytes] = dict(extra or {})
    if counts:
        metadata[COUNTS_KEY] = json.dumps(asdict(counts)).encode()
    if inputs:
        metadata[INPUTS_KEY] = json.dumps(dict(inputs), sort_keys=True).encode()
    sink = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata(metadata), sink, compression="zstd", store_schema=True, write_page_checksum=True
    )
    return sink.getvalue()


def digest_of(table: pa.Table) -> str:
    """Return the digest of the file that a table was read from (`RunDir.read_unit`), empty for any other table."""
    metadata: Mapping[bytes, bytes] = table.schema.metadata or {}
    return metadata.get(DIGEST_KEY, b"").decode()


def digests_of(tables: Mapping[str, pa.Table]) -> dict[str, str]:
    """Return the digests of tables that were read, by name: what `commit_unit` takes as `inputs`."""
    return {name: digest_of(table) for name, table in tables.items()}


def inputs_of(table: pa.Table) -> dict[str, str]:
    """Return the digests of the files that a stage's table was made from, by input name; empty: it does not say."""
    return _read_inputs(table.schema.metadata)


def read_stored_counts(table: pa.Table) -> UnitCounts:
    """Return the numbers that were stored with a table that was read."""
    return _read_counts(table.schema.metadata)


def find_stale(tables: Mapping[str, pa.Table], accepts: Callable[[str, str, str], bool] | None = None) -> str | None:
    """Return the name of a table of a unit that was made from another version of one of the others, None if all fit.

    Args:
        accepts: (table, input, digest) -> whether a table holds although its input's file has another digest by now.
    """
    for name, table in tables.items():
        for source, digest in inputs_of(table).items():
            if source not in tables or digest_of(tables[source]) == digest:
                continue
            if accepts is None or not accepts(name, source, digest):
                return name
    return None


def describe_os_error(error: BaseException) -> str:
    """Return one short line for a failed file operation."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk is full"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error).strip().split("\n", 1)[0]


def _has_footer(path: str) -> bool:
    """Return whether a local file ends as a Parquet file does: footer length that fits, then `PAR1`."""
    with open(path, "rb") as handle:
        size = handle.seek(0, os.SEEK_END)
        if size < 12:
            return False
        handle.seek(-8, os.SEEK_END)
        tail = handle.read(8)
    return tail[4:] == b"PAR1" and int.from_bytes(tail[:4], "little") <= size - 12


def decode_unit(data: bytes, directory: str, unit: int, rows: tuple[int, int] | None = None) -> pa.Table:
    """Return the table of a unit's file. Raises CorruptUnitError, also for a whole file that belongs elsewhere."""
    with _reporting_damage(directory, unit, rows):
        table = pq.read_table(pa.BufferReader(data), use_threads=False, page_checksum_verification=True)
        _read_counts(table.schema.metadata)
        inputs_of(table)
    path = part_path(directory, unit, rows) if rows else unit_path(directory, unit)
    place = (table.schema.metadata or {}).get(PLACE_KEY, path.encode()).decode("utf-8", "replace")
    if place != path:
        raise CorruptUnitError(directory, unit, f"holds what belongs to {place}", rows)
    is_prompts = directory == PROMPTS or directory.startswith(stage_directory(LABELLED, ""))
    holds_prompts = table.schema.names[: len(PROMPTS_SCHEMA)] == PROMPTS_SCHEMA.names
    if holds_prompts and not is_prompts:  # these have no place in their footer
        raise CorruptUnitError(directory, unit, "holds prompts", rows)
    digest = digest_bytes(data).encode()
    return table.replace_schema_metadata({**(table.schema.metadata or {}), DIGEST_KEY: digest})


@contextlib.contextmanager
def _reporting_damage(directory: str, unit: int, rows: tuple[int, int] | None) -> Iterator[None]:
    """Turn what a damaged file raises, which is errors of every kind, into CorruptUnitError.

    What the machine raises (no memory, a disk that cannot be read) says nothing about the file, and passes.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise CorruptUnitError(directory, unit, f"is not a whole Parquet file: {first_line(error)}", rows) from error


def digest_bytes(data: bytes) -> str:
    """Return the digest of a file. Never another one: every unit that was finished before would be made again."""
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _read_inputs(metadata: Mapping[bytes, bytes] | None) -> dict[str, str]:
    inputs: dict[str, str] = json.loads((metadata or {}).get(INPUTS_KEY, b"{}"))
    return inputs


def _read_counts(metadata: Mapping[bytes, bytes] | None) -> UnitCounts:
    return UnitCounts(**json.loads((metadata or {}).get(COUNTS_KEY, b"{}")))


def _failures_path(stage: str, unit: int, part: tuple[int, int] | None) -> str:
    return f"failures/{stage}/unit-{unit:06d}{f'.{part[0]}-{part[1]}' if part else ''}.jsonl"
