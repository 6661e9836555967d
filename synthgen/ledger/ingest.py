"""Ingestion: from the prompt source to `prompts/unit-….parquet`. Units are only ever appended, never rewritten.

A run that is started again with more prompts keeps its units and adds new ones, so that finished work stays valid; one
whose prompts differ from those of the run directory is refused. The manifest is written last: it means complete.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from synthgen.config import Config
from synthgen.errors import ConfigError
from synthgen.ledger.run_dir import MANIFEST, PROMPTS, CorruptUnitError, RunDir
from synthgen.prompts import PromptSource

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PromptLedger:
    """The prompts of a run: rows per unit (len: number of units), and what reading them found."""

    unit_rows: list[int]
    stats: dict[str, Any]

    @property
    def rows(self) -> int:
        """Prompts in all."""
        return sum(self.unit_rows)


def ingest_prompts(run_dir: RunDir, config: Config) -> PromptLedger:
    """Return the run's prompts, reading the source only where the run directory does not hold them yet.

    Raises:
        ConfigError: the source cannot be read, or holds other prompts than the run directory.
    """
    source = PromptSource(config.prompts)
    fingerprint = source.fingerprint()
    manifest = run_dir.read_json(MANIFEST)
    present = run_dir.committed(PROMPTS)
    if manifest and manifest["fingerprint"] == fingerprint and present >= set(range(len(manifest["unit_rows"]))):
        return PromptLedger(manifest["unit_rows"], manifest["stats"])
    known: list[int] = manifest["unit_rows"] if manifest else _rows_of(run_dir, present)
    unit_rows = _append(run_dir, config, source, known, present)
    stats = asdict(source.stats)
    left_out = [asdict(row) for row in (*source.bad_rows, *source.excluded_rows)]
    if left_out:
        run_dir.write_failures(PROMPTS, 0, left_out)
    run_dir.write_json(MANIFEST, {"fingerprint": fingerprint, "unit_rows": unit_rows, "stats": stats})
    return PromptLedger(unit_rows, stats)


def _rows_of(run_dir: RunDir, present: set[int]) -> list[int]:
    """Return the sizes of the leading units that an ingestion which was killed had written."""
    rows: list[int] = []
    while len(rows) in present and (stored := _read_whole(run_dir, len(rows))) is not None:
        rows.append(stored.num_rows)
    return rows


def _read_whole(run_dir: RunDir, unit: int) -> pa.Table | None:
    """Return a unit that was written before, or None where its file is damaged: then it is set aside."""
    try:
        return run_dir.read_unit(PROMPTS, unit)
    except CorruptUnitError as error:
        logger.warning("%s; it is set aside and read from the source again", error)
        run_dir.discard(PROMPTS, unit)
        return None


def _append(run_dir: RunDir, config: Config, source: PromptSource, known: list[int], present: set[int]) -> list[int]:
    size = config.run.unit_size
    unit_rows: list[int] = []
    for table in _slices(source, known, size):
        unit = len(unit_rows)
        stored = _read_whole(run_dir, unit) if unit < len(known) and unit in present else None
        if stored is None:
            run_dir.commit_unit(PROMPTS, unit, table)
        elif stored["prompt_id"].combine_chunks() != table["prompt_id"].combine_chunks():
            _refuse(run_dir, config, sum(known))
        unit_rows.append(table.num_rows)
    if len(unit_rows) < len(known):
        _refuse(run_dir, config, sum(known))
    if not unit_rows:
        raise ConfigError(f"prompts.path={config.prompts.path} holds no usable prompt")
    return unit_rows


def _refuse(run_dir: RunDir, config: Config, held: int) -> None:
    limit = f" with prompts.limit={config.prompts.limit}" if config.prompts.limit is not None else ""
    raise ConfigError(
        f"run.dir={run_dir.url} holds {held} prompts that are not the first ones of prompts.path={config.prompts.path}"
        f"{limit}; a run can grow but not change: choose another run.dir"
    )


def _slices(source: PromptSource, known: list[int], size: int) -> Iterator[pa.Table]:
    """Yield the source's prompts as tables of the known sizes first, then of `size` rows (the last may be shorter)."""
    wanted = iter(known)
    need = next(wanted, size)
    held: list[pa.Table] = []
    rows = 0
    for table in source.tables(rows_per_table=max(size, 1024)):
        held.append(table)
        rows += table.num_rows
        if rows < need:
            continue
        joined = pa.concat_tables(held).combine_chunks()
        position = 0
        while rows - position >= need:
            yield joined.slice(position, need)
            position += need
            need = next(wanted, size)
        held = [joined.slice(position)]
        rows -= position
    if rows:
        yield pa.concat_tables(held).combine_chunks()
