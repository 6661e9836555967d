"""`run.reuse`: units put together of rows that other run directories hold, before any engine starts.

Prompt by prompt: a unit all of whose prompts are found is committed as it is, and no engine is asked; of one that is
found in part, the rows are kept as those of a unit are whose failed rows are asked again (synthgen.runtime.retries), so
that a replica asks for the missing prompts alone. Each unit is written in the order of the flow, what it is made from
first, so that a kill leaves units that hold; the next start takes what is missing then. A unit's footer says how many
of its rows came from where.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, count, islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config import Config
from synthgen.errors import ConfigError
from synthgen.flow import ResolvedStage
from synthgen.ledger.ingest import PromptLedger
from synthgen.ledger.run_dir import PROMPTS, RunDir, digests_of
from synthgen.prompts import PromptSource
from synthgen.prompts.source import make_table
from synthgen.records import UnitCounts, concat_units, extend_schema
from synthgen.runtime.other_runs import OtherRun, digest_inputs
from synthgen.runtime.retries import MAY_PASS, Kept, digest_kept, list_kept, read_kept, write_kept
from synthgen.stages.given import GivenStage, RecordedStage


@dataclass(frozen=True, slots=True)
class Taken:
    """What a stage takes from other runs.

    Attributes:
        prompts: by the URL of the run. units: that are whole with them.
    """

    prompts: Counter[str] = field(default_factory=Counter)
    units: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a unit's table: the rows of all prompts but `open`, in order. `file`: it is committed."""

    table: pa.Table
    open: frozenset[str]
    file: bool = False


def open_others(config: Config) -> tuple[list[OtherRun], list[str]]:
    """Return the directories of `run.reuse`, in their order, and what a user should know, a line each.

    Rows are taken from the first that has them. One that is gone by now ends no run that has begun.

    Raises:
        ConfigError: one of them holds no run, or is the run's own.
    """
    own = RunDir(config.run.dir, config.storage.retry_s, reads_only=True)
    found, notes = [], []
    for url in config.run.reuse:
        run_dir = RunDir(url, config.storage.retry_s, reads_only=True)
        if run_dir.url == own.url:
            raise ConfigError(
                f"run.reuse={run_dir.url} is run.dir itself, whose units are reused in any case; leave it out"
            )
        try:
            found.append(OtherRun(run_dir, config.run.retry_failed))
        except ConfigError as error:
            if not own.committed(PROMPTS):
                raise
            notes.append(f"{error}; the run goes on without it")
    return found, notes


def take_rows(
    run_dir: RunDir, others: Sequence[OtherRun], stages: Sequence[ResolvedStage], units: Iterable[int]
) -> dict[str, Taken]:
    """Write what `others` hold of units that are not there yet, and return what was taken, by stage.

    Returns:
        nothing where all units are there.

    Raises:
        CorruptUnitError: a file of this run is damaged.
    """
    done = {stage.name: run_dir.committed(stage.files.directory) for stage in stages}
    tables = ((unit, run_dir.read_unit(PROMPTS, unit)) for unit in units)
    return _Reuse(run_dir, others, stages, done, write=True).fill(tables)


def survey_rows(
    run_dir: RunDir,
    others: Sequence[OtherRun],
    stages: Sequence[ResolvedStage],
    prompts: Iterable[tuple[int, pa.Table]],
    done: Mapping[str, set[int]],
) -> dict[str, Taken]:
    """Return what `take_rows` would take, and write nothing.

    Args:
        prompts: units and their tables. done: units that are there and hold, by stage.
    """
    return _Reuse(run_dir, others, stages, done, write=False).fill(prompts)


def describe_taken(
    taken: Mapping[str, Taken], others: Sequence[OtherRun], stages: Sequence[ResolvedStage]
) -> list[str]:
    """Return a line for each run: how many prompts of which stage come from it, or why none does."""
    lines = []
    for other in others if taken else ():
        counts = {name: one.prompts[other.url] for name, one in taken.items() if one.prompts[other.url]}
        lost = [one.name for one in stages if not other.holds(one) and not _is_given(one)]
        parts = [f"{name} of {count:,} prompts" for name, count in counts.items()]
        said = f"taken from {other.url}: {', '.join(parts)}" if parts else f"nothing is taken from {other.url}"
        why = f"; it holds no {' and no '.join(lost)} of this configuration" if lost else ""
        lines.append(said + why)
    return lines


def forecast_rows(
    config: Config,
    run_dir: RunDir,
    stages: Sequence[ResolvedStage],
    prompts: PromptLedger,
    done: Mapping[str, set[int]],
) -> tuple[PromptLedger, dict[str, Taken]]:
    """Return what a start would take from other runs, by stage, and the prompts as that start would cut them.

    The prompts that the run directory does not hold yet are read from their source, all of them.

    Args:
        prompts: as far as they are known. done: units that are there and hold, by stage.
    """
    rows: dict[int, int] = {}

    def read() -> Iterator[tuple[int, pa.Table]]:
        for unit, table in _read_prompts(config, run_dir, prompts):
            rows[unit] = table.num_rows
            yield unit, table

    taken = survey_rows(run_dir, open_others(config)[0], stages, read(), done)
    return replace(prompts, unit_rows=[rows[unit] for unit in sorted(rows)]), taken


def _read_prompts(config: Config, run_dir: RunDir, prompts: PromptLedger) -> Iterator[tuple[int, pa.Table]]:
    """Yield (unit, prompts): those that are there, then what the source adds; damaged units get the first of that."""
    there = [unit for unit in sorted(run_dir.committed(PROMPTS)) if unit < len(prompts.units)]
    known: set[bytes] = set()
    for unit in there:
        table = run_dir.read_unit(PROMPTS, unit)
        known.update(bytes.fromhex(prompt_id) for prompt_id in table["prompt_id"].to_pylist())
        yield unit, table
    if there and sum(prompts.unit_rows) == len(known):
        return
    size = config.run.unit_size
    new = (row for row in PromptSource(config.prompts).prompts() if bytes.fromhex(row[0]) not in known)
    lost = sorted(set(range(len(prompts.units))).difference(there)) if there else []
    for unit in chain(lost, count(len(prompts.units) if there else 0)):
        if not (batch := list(islice(new, prompts.unit_rows[unit] if unit in lost else size))):
            return
        yield unit, make_table(batch)


class _Reuse:
    def __init__(
        self,
        run_dir: RunDir,
        others: Sequence[OtherRun],
        stages: Sequence[ResolvedStage],
        done: Mapping[str, set[int]],
        *,
        write: bool,
    ) -> None:
        self._run_dir = run_dir
        self._others = others
        self._stages = stages
        self._done = done
        self._write = write
        self._kept = {stage.name: set(list_kept(run_dir, stage.files.directory)) for stage in stages}
        self._split = {stage.name: set(run_dir.parts(stage.files.directory)) for stage in stages}
        self._taken = {stage.name: Taken() for stage in stages}

    def fill(self, prompts: Iterable[tuple[int, pa.Table]]) -> dict[str, Taken]:
        whole = True
        for unit, table in prompts:
            if all(unit in self._done[stage.name] for stage in self._stages):
                continue
            whole = False
            known = {PROMPTS: _Known(table, frozenset(), file=True)}
            for stage in self._stages:
                known[stage.name] = self._know(stage, unit, known)
        return {} if whole else self._taken

    def _know(self, stage: ResolvedStage, unit: int, known: Mapping[str, _Known]) -> _Known:
        directory, ids = stage.files.directory, known[PROMPTS].table["prompt_id"].to_pylist()
        nothing = _Known(stage.files.stage.schema.empty_table(), frozenset(ids))
        if unit in self._done[stage.name]:
            return _Known(self._run_dir.read_unit(directory, unit), frozenset(), file=True)
        if unit in self._kept[stage.name]:  # of an earlier start
            kept = read_kept(self._run_dir, directory, unit)
            return nothing if kept is None else _Known(_leave_out(kept.table, kept.ask), kept.ask)
        if unit in self._split[stage.name] or _is_given(stage):
            return nothing
        return self._take(stage, unit, known, ids) or nothing

    def _take(self, stage: ResolvedStage, unit: int, known: Mapping[str, _Known], ids: Sequence[str]) -> _Known | None:
        tables = {name: known[name].table for name in stage.files.inputs}
        open_above = frozenset[str]().union(*(known[name].open for name in stage.files.inputs))
        keys = digest_inputs(stage.files.stage, tables, [one for one in ids if one not in open_above])
        found = list(self._find(stage, keys))
        if not found:
            return None
        schema = extend_schema(
            stage.files.stage.schema, [name for _, _, _, rows in found for name in rows.column_names]
        )
        table = concat_units([rows for _, _, _, rows in found]).select(schema.names).cast(schema).combine_chunks()
        missing = frozenset(ids) - {prompt_id for _, _, prompt_id, _ in found}
        taken = self._taken[stage.name]
        for other, _, _, _ in found:
            taken.prompts[other.url] += 1
        if not missing:
            taken.units.add(unit)
        if not self._write:
            return _Known(table, missing)
        counts = _count(found, stage)
        failures = _list_failures(found, stage, unit)
        if failures:
            self._run_dir.write_failures(stage.name, unit, failures)
        if missing:
            write_kept(
                self._run_dir,
                stage.files.directory,
                unit,
                Kept(table, missing, digest_kept(stage.files.stage, tables, missing), counts),
            )
            return _Known(table, missing)
        self._run_dir.commit_unit(stage.files.directory, unit, table, counts, digests_of(tables))
        return _Known(self._run_dir.read_unit(stage.files.directory, unit), frozenset(), file=True)

    def _find(self, stage: ResolvedStage, keys: Mapping[str, str]) -> Iterator[_Found]:
        """Yield (run, unit, prompt, rows) of each prompt that a run holds, in the order of the prompts."""
        for prompt_id, key in keys.items():
            for other in self._others:
                found = other.find(stage, prompt_id)
                if found is not None and found[1].keys[prompt_id] == key:
                    number, unit = found
                    rows = unit.table.take(pa.array(unit.rows[prompt_id], pa.int64()))
                    yield other, number, prompt_id, rows
                    break


_Found = tuple[OtherRun, int, str, pa.Table]


def _count(found: Sequence[_Found], stage: ResolvedStage) -> UnitCounts:
    """Return the numbers of rows that were taken: no request and no token is this run's."""
    sources: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    passing: set[str] = set(MAY_PASS)
    for other, _, prompt_id, rows in found:
        sources[other.url] += rows.num_rows
        failures.update(error for error in rows["error"].to_pylist() if error is not None)
        if failures and (unit := other.find(stage, prompt_id)) is not None:
            passing |= set(unit[1].counts.may_pass)
    return UnitCounts(
        rows=sum(sources.values()),
        failed_rows=failures.total(),
        failures=dict(failures),
        may_pass={reason: rows for reason, rows in failures.items() if reason in passing},
        reused=dict(sources),
    )


def _list_failures(found: Sequence[_Found], stage: ResolvedStage, unit: int) -> list[dict[str, Any]]:
    """Return the lines of `failures/` of the failed rows that were taken."""
    failed: defaultdict[tuple[int, int], set[str]] = defaultdict(set)
    runs: dict[int, OtherRun] = {}
    for other, number, prompt_id, rows in found:
        if rows["error"].null_count < rows.num_rows:
            runs[id(other)] = other
            failed[id(other), number].add(prompt_id)
    return [
        {**line, "unit": unit}
        for (run, number), prompts in failed.items()
        for line in runs[run].read_failures(stage.name, number, prompts)
    ]


def _leave_out(table: pa.Table, prompts: Iterable[str]) -> pa.Table:
    return table.filter(pc.invert(pc.is_in(table["prompt_id"], pa.array(sorted(prompts), pa.string()))))


def _is_given(stage: ResolvedStage) -> bool:
    return isinstance(stage.files.stage, GivenStage | RecordedStage)
