"""Other run directories as sources of rows (`run.reuse`): which of their rows a prompt may take, and from where.

A row of theirs holds here when three things are the same: the stage's fingerprint (the directory's name has it), the
prompt's id, and what the stage read of the prompt and of the tables upstream. So a judgement is taken only with the
very completions that it judged, whatever unit they stood in. What a table upstream says of tokens that were read is no
part of that, and neither is the name of the file that a prompt came from.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from synthgen.config import RetryFailed
from synthgen.errors import ConfigError
from synthgen.flow import ResolvedStage
from synthgen.ledger.manifest import read_manifest
from synthgen.ledger.run_dir import PROMPTS, CorruptUnitError, RunDir, digest_of, inputs_of, read_stored_counts
from synthgen.records import EDITABLE, Tables, UnitCounts, stable_hex
from synthgen.runtime.retries import MAY_PASS, failed_prompts
from synthgen.runtime.units import fit_schema
from synthgen.stages.base import LLMStage, prompt_parts

logger = logging.getLogger(__name__)

CACHED_UNITS = 128
"""Units of another run that are held at once: where its prompts stand in another order, a unit here needs many."""
_NOT_READ = frozenset({"prompt_tokens", "cached_tokens"})
"""Columns of a table upstream that say what reading took."""


@dataclass(frozen=True, slots=True)
class OtherUnit:
    """A unit of another run that a stage may take rows from.

    Attributes:
        table: the stage's. keys: `digest_inputs` of the prompts whose rows may be taken.
        rows: places in the table by prompt. counts: as they were stored with it.
    """

    table: pa.Table
    keys: Mapping[str, str]
    rows: Mapping[str, Sequence[int]]
    counts: UnitCounts


@dataclass
class OtherRun:
    """One directory of `run.reuse`, which is only read.

    Raises:
        ConfigError: there is no run in it.
    """

    run_dir: RunDir
    retry: RetryFailed
    _committed: dict[str, set[int]] = field(default_factory=dict)
    _cache: OrderedDict[tuple[str, int], OtherUnit | None] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self._manifest = read_manifest(self.run_dir)
        units = sorted(self.run_dir.committed(PROMPTS))
        if not units:
            raise ConfigError(f"run.reuse={self.url} holds no prompts of a run; give the run.dir of one")
        self._places: dict[bytes, int] = {}
        for unit in units:
            try:
                ids = self.run_dir.read_unit(PROMPTS, unit)["prompt_id"].to_pylist()
            except CorruptUnitError as error:
                logger.warning("run.reuse=%s: %s; nothing is taken from there", self.url, error)
                continue
            self._places.update((bytes.fromhex(prompt_id), unit) for prompt_id in ids)

    @property
    def url(self) -> str:
        """Where it lies."""
        return self.run_dir.url

    def holds(self, stage: ResolvedStage) -> bool:
        """Return whether anything is there of this very stage."""
        return bool(self._list_committed(stage.files.directory))

    def find(self, stage: ResolvedStage, prompt_id: str) -> tuple[int, OtherUnit] | None:
        """Return the unit that holds a prompt's rows of a stage, with its number; None: there are none to be taken."""
        number = self._places.get(bytes.fromhex(prompt_id))
        if number is None or number not in self._list_committed(stage.files.directory):
            return None
        unit = self._read_cached(stage, number)
        return None if unit is None or prompt_id not in unit.keys else (number, unit)

    def read_failures(self, stage: str, unit: int, prompts: Container[str]) -> list[dict[str, Any]]:
        """Return what was quarantined of these prompts."""
        lines = self.run_dir.read_failures(stage, unit)
        return [line for line in lines if str(line.get("request_id", "")).partition("/")[0] in prompts]

    def _list_committed(self, directory: str) -> set[int]:
        if directory not in self._committed:
            # Of another run nothing is set aside: torn files are found when they are read.
            names = (path.removeprefix(f"{directory}/") for path in self.run_dir.storage.list(directory))
            numbers = (name.removeprefix("unit-").removesuffix(".parquet") for name in names if "/" not in name)
            self._committed[directory] = {int(number) for number in numbers if number.isdecimal()}
        return self._committed[directory]

    def _read_cached(self, stage: ResolvedStage, number: int) -> OtherUnit | None:
        key = (stage.name, number)
        if key in self._cache:
            self._cache.move_to_end(key)
        else:
            self._cache[key] = self._read(stage, number)
            while len(self._cache) > CACHED_UNITS:
                self._cache.popitem(last=False)
        return self._cache[key]

    def _read(self, stage: ResolvedStage, number: int) -> OtherUnit | None:
        files = stage.files
        try:
            tables = {name: self.run_dir.read_unit(path, number) for name, path in files.inputs.items()}
            table = self.run_dir.read_unit(files.directory, number)
            table = fit_schema(table, files.stage.schema, files.directory, number)
        except (CorruptUnitError, FileNotFoundError) as error:
            logger.warning("run.reuse=%s: %s; nothing is taken from there", self.url, error)
            return None
        if not self._is_current(stage, number, table, tables):
            return None
        counts = read_stored_counts(table)
        table = table.replace_schema_metadata(None)
        refused = failed_prompts(table, _asked_again(counts, self.retry))
        rows: dict[str, list[int]] = {}
        for row, prompt_id in enumerate(table["prompt_id"].to_pylist()):
            rows.setdefault(prompt_id, []).append(row)
        keys = digest_inputs(files.stage, tables, [one for one in rows if one not in refused])
        return OtherUnit(table, keys, rows, counts)

    def _is_current(self, stage: ResolvedStage, number: int, table: pa.Table, tables: Tables) -> bool:
        """Return whether a table was made from the files that its run has now, in what the stage reads of them."""
        parts = prompt_parts(stage.files.stage)
        said = self._manifest.units if self._manifest else None
        for name, digest in inputs_of(table).items():
            if name not in tables or digest_of(tables[name]) == digest:
                continue
            if name != PROMPTS or not said or number >= len(said) or not said[number].accepts(digest, parts):
                return False
        return True


def digest_inputs(stage: LLMStage, tables: Tables, prompt_ids: Sequence[str]) -> dict[str, str]:
    """Return for each of these prompts a digest of what the stage reads of it: of itself, and of its rows upstream."""
    columns = [column for part in prompt_parts(stage) for column in EDITABLE.get(part, (part,)) if column != "source"]
    wanted = set(prompt_ids)
    read: dict[str, list[Any]] = {prompt_id: [] for prompt_id in prompt_ids}
    for name in stage.inputs:
        table = tables[name].select(["prompt_id", *columns]) if name == PROMPTS else tables[name]
        table = table.filter(pa.compute.is_in(table["prompt_id"], pa.array(sorted(wanted), pa.string())))
        for row in table.to_pylist():
            # A column that is null is the same as none: older files lack some.
            fields = {key: value for key, value in row.items() if value is not None and key not in _NOT_READ}
            read[row["prompt_id"]].append([name, fields])
    return {prompt_id: stable_hex(rows) for prompt_id, rows in read.items()}


def _asked_again(counts: UnitCounts, retry: RetryFailed) -> frozenset[str]:
    """Return the reasons of failed rows that are not taken, but asked again here."""
    if retry is RetryFailed.never:
        return frozenset()
    if retry is RetryFailed.always:
        return frozenset(counts.failures)
    return frozenset(counts.may_pass) | (MAY_PASS & set(counts.failures))
