"""A task's files, as a replica reads and writes them: inputs in, the unit's table out. Everything here blocks."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from synthgen.ledger.run_dir import PROMPTS, CorruptUnitError, RunDir, StaleUnitError, digests_of, inputs_of
from synthgen.records import Outcome, Request, RequestFailure, UnitCounts, add_counts, concat_units, extend_schema
from synthgen.runtime.retries import Kept, digest_kept, drop_kept, failed_prompts, merge_kept, read_kept, write_kept
from synthgen.runtime.scheduler import Task
from synthgen.stages.base import StageFiles

logger = logging.getLogger(__name__)

READ_TRIES = 5


@dataclass(slots=True)
class Served:
    """What serving a unit's requests gave, follow-ups included."""

    requests: list[Request]
    outcomes: list[Outcome]
    counts: UnitCounts = field(default_factory=UnitCounts)


@dataclass(slots=True)
class Made:
    """A unit that was made and not committed yet.

    Attributes:
        table: of the whole unit, counts: of it, as they are stored. session: what was done now.
        failures: lines of its file in `failures/`.
    """

    files: StageFiles
    task: Task
    tables: Mapping[str, pa.Table]
    table: pa.Table
    counts: UnitCounts
    session: UnitCounts
    failures: list[dict[str, Any]]


class UnitFiles:
    """Reads what a task needs from the run directory, and commits what was made."""

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir

    def read_inputs(self, files: StageFiles, task: Task) -> dict[str, pa.Table]:
        """Return the tables that a task reads, of a part those of its prompts. Raises CorruptUnitError."""
        tables: dict[str, pa.Table] = {}
        for name, directory in files.inputs.items():
            tables[name] = self._read_patiently(directory, task.unit)
        if task.rows is not None:
            low, high = task.rows
            tables[PROMPTS] = tables[PROMPTS].slice(low, high - low)
            return take_prompts(tables, tables[PROMPTS]["prompt_id"].to_pylist())
        return tables

    def read_kept(self, files: StageFiles, task: Task, tables: Mapping[str, pa.Table]) -> Kept | None:
        """Return what an earlier start kept of the unit, None where that is nothing or of other inputs."""
        if task.rows is not None or task.quarantine:
            return None
        kept = read_kept(self._run_dir, files.directory, task.unit)
        if kept is None or kept.fits(files.stage, tables):
            return kept
        logger.warning("%s unit %d: its inputs have changed; nothing is kept of it", task.stage, task.unit)
        return None

    def _read_patiently(self, directory: str, unit: int) -> pa.Table:
        table: pa.Table = _retry_missing(
            lambda: self._run_dir.read_unit(directory, unit),
            CorruptUnitError(directory, unit, "was committed but cannot be found"),
        )
        return table

    def make(
        self,
        files: StageFiles,
        task: Task,
        tables: Mapping[str, pa.Table],
        asked: Mapping[str, pa.Table],
        served: Served,
        kept: Kept | None,
    ) -> Made:
        """Return the unit as it is to be stored, with what an earlier start kept of it."""
        table = files.stage.collect(asked, served.requests, served.outcomes)
        schema = extend_schema(files.stage.schema, table.schema.names)
        if table.schema != schema:
            table = table.cast(schema)
        failures = _describe_failures(files.stage.name, task, served)
        passing = {line["reason"] for line in failures if line["retryable"]}
        session = _with_rows(served.counts, table, passing)
        if kept is None:
            return Made(files, task, tables, table, session, session, failures)
        whole = merge_kept(kept, table, tables[PROMPTS]["prompt_id"].to_pylist())
        counts = _with_rows(add_counts([kept.counts, session]), whole, passing | set(kept.counts.may_pass))
        old = self._run_dir.read_failures(files.stage.name, task.unit)
        failures = [line for line in old if not _is_about(line, kept.ask)] + failures
        return Made(files, task, tables, whole, counts, session, failures)

    def commit(self, made: Made) -> UnitCounts:
        """Write the unit's file, or its part's, and return what was done now."""
        files, task = made.files, made.task
        self.write_failures(made)
        inputs = digests_of(made.tables)
        if task.rows is None:
            self._run_dir.commit_unit(files.directory, task.unit, made.table, made.counts, inputs)
            if made.session is not made.counts:
                drop_kept(self._run_dir, files.directory, task.unit)
        else:
            self._run_dir.commit_part(files.directory, task.unit, task.rows, made.table, made.counts, inputs)
        return made.session

    def write_failures(self, made: Made) -> None:
        """Write the unit's file in `failures/`, where there is something to say."""
        if made.failures or made.session is not made.counts:  # those of a unit that is made again may be gone
            self._run_dir.write_failures(made.files.stage.name, made.task.unit, made.failures, made.task.rows)

    def keep(self, made: Made) -> None:
        """Keep the good rows for the next start, which asks the failed ones again."""
        ask = failed_prompts(made.table)
        if len(ask) < made.tables[PROMPTS].num_rows:
            kept = Kept(made.table, ask, digest_kept(made.files.stage, made.tables, ask), made.counts)
            write_kept(self._run_dir, made.files.directory, made.task.unit, kept)

    def merge(self, files: StageFiles, task: Task) -> UnitCounts:
        """Make the unit's file of the files of its parts."""
        inputs = digests_of({name: self._read_patiently(path, task.unit) for name, path in files.inputs.items()})
        tables, counts = [], []
        for rows in task.parts:
            table, part_counts = self._read_part(files.directory, task.unit, rows)
            if inputs_of(table) != inputs:
                raise StaleUnitError(files.directory, task.unit, rows)
            tables.append(table.replace_schema_metadata(None))
            counts.append(part_counts)
        self._run_dir.commit_unit(files.directory, task.unit, concat_units(tables), add_counts(counts), inputs)
        return UnitCounts()  # the parts were counted when they were committed

    def _read_part(self, directory: str, unit: int, rows: tuple[int, int]) -> tuple[pa.Table, UnitCounts]:
        part: tuple[pa.Table, UnitCounts] = _retry_missing(
            lambda: self._run_dir.read_part(directory, unit, rows),
            CorruptUnitError(directory, unit, "was committed but cannot be found", rows),
        )
        return part


def _retry_missing(read: Callable[[], Any], give_up: CorruptUnitError) -> Any:
    """Read what the scheduler says is there; a shared file system may show it a little later."""
    for attempt in range(READ_TRIES):
        try:
            return read()
        except FileNotFoundError:
            time.sleep(0.1 * 2**attempt)
    raise give_up


def _with_rows(counts: UnitCounts, table: pa.Table, passing: Collection[str]) -> UnitCounts:
    errors = Counter(error for error in table["error"].to_pylist() if error is not None)
    may_pass = {reason: rows for reason, rows in errors.items() if reason in passing}
    failed = sum(errors.values())
    return replace(counts, rows=table.num_rows, failed_rows=failed, failures=dict(errors), may_pass=may_pass)


def take_prompts(tables: Mapping[str, pa.Table], prompt_ids: Collection[str]) -> dict[str, pa.Table]:
    """Return the tables' rows of some prompts."""
    wanted = pa.array(sorted(prompt_ids), pa.string())
    return {name: table.filter(pa.compute.is_in(table["prompt_id"], wanted)) for name, table in tables.items()}


def _is_about(line: Mapping[str, Any], prompt_ids: Collection[str]) -> bool:
    """Whether a line of `failures/` is about one of the prompts: request ids begin with that of their prompt."""
    return str(line.get("request_id", "")).partition("/")[0] in prompt_ids


def _describe_failures(stage: str, task: Task, served: Served) -> list[dict[str, Any]]:
    """Return a record per request that failed, and per sample that failed while its siblings are there."""
    found: list[dict[str, Any]] = []
    for request, outcome in zip(served.requests, served.outcomes, strict=True):
        samples = [outcome] if isinstance(outcome, RequestFailure) else outcome
        for index, sample in enumerate(samples):
            if isinstance(sample, RequestFailure):
                record: dict[str, Any] = {
                    "stage": stage,
                    "unit": task.unit,
                    "request_id": request.request_id,
                    "reason": sample.reason,
                    "message": sample.message,
                    "retryable": sample.retryable,
                    "input": list(request.messages),
                }
                record |= {} if sample is outcome else {"sample_index": index}
                record |= {"raw": sample.raw} if sample.raw else {}
                found.append(record)
    return found
