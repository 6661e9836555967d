"""5b. Pairing and exporting a million completions against plain pyarrow reading and writing the same tables.

The plain side reads every unit file and writes the tables of the data set with `pyarrow.parquet.write_table`, one file
each, as a script would. Neither side's rows pass through Python. Memory is the process's peak, above what it held.
"""

from __future__ import annotations

import gc
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.engines import Engines
from benchmarks.machine import peak_memory_mib, reset_peak_memory
from benchmarks.outcome import Outcome, Target, interleave, median, ratios, spread
from benchmarks.rows import ECHO, complete
from benchmarks.work import make_config
from synthgen.config import Config
from synthgen.export import export_dataset
from synthgen.flow import ResolvedStage, load_flow, resolve_flow
from synthgen.ledger.ingest import ingest_prompts
from synthgen.ledger.run_dir import PROMPTS, RunDir, unit_path
from synthgen.records import Tables, UnitCounts
from synthgen.stages.base import tables_by_kind

UNIT_PROMPTS = 1024
BASE_UNITS = 16
SIZES, QUICK_SIZES = (500_000, 1_000_000), (4096, 8192)
"""Completions; memory must not grow from one to the other."""
REPETITIONS = 3


def measure(engines: Engines, quick: bool) -> Outcome:
    """Return the time of the export over that of plain pyarrow, and its memory at both sizes."""
    sizes = QUICK_SIZES if quick else SIZES
    config, stages, units = _make_units(engines, sizes[-1])
    run_dir = RunDir(config.run.dir)
    _compare(run_dir, config, stages, 1, [], 1)  # imports, thread pools
    rows: list[dict[str, Any]] = []
    for size in sizes:
        count = max(1, size * units // sizes[-1])
        memory: list[float] = []
        seconds = _compare(run_dir, config, stages, count, memory, 1 if quick else REPETITIONS)
        relative = ratios(seconds["export"], seconds["pyarrow"])
        rows.append(
            {
                "completions": count * UNIT_PROMPTS * config.generators["main"].n,
                "export, s": spread(seconds["export"], 1),
                "pyarrow, s": spread(seconds["pyarrow"], 1),
                "export / pyarrow": spread(relative, 2),
                "peak memory, MiB": round(max(memory)),
            }
        )
    growth = rows[-1]["peak memory, MiB"] / max(1, rows[0]["peak memory, MiB"])
    targets = [
        Target("export / plain pyarrow", median(relative, 2), 1.5, at_most=True),
        Target("memory at the larger size over that at the smaller", round(growth, 2), 1.25, at_most=True),
    ]
    return Outcome("export", "pairing and exporting echo completions", rows, targets)


def _compare(
    run_dir: RunDir, config: Config, stages: list[ResolvedStage], units: int, memory: list[float], repetitions: int
) -> dict[str, list[float]]:
    directories = {PROMPTS: PROMPTS} | {stage.name: stage.files.directory for stage in stages}

    def read_tables(unit: int) -> Tables:
        return {name: run_dir.read_unit(directory, unit) for name, directory in directories.items()}

    made = tables_by_kind(stage.files.stage for stage in stages)

    def export() -> float:
        gc.collect()
        pa.default_memory_pool().release_unused()
        held = psutil.Process().memory_info().rss / 2**20
        reset_peak_memory()
        began = time.perf_counter()
        export_dataset(run_dir.storage, range(units), read_tables, made, config)
        elapsed = time.perf_counter() - began
        memory.append(peak_memory_mib() - held)
        return elapsed

    def plain() -> float:
        root = Path(config.run.dir)
        written = root.parent / "plain.parquet"
        began = time.perf_counter()
        for unit in range(units):
            for directory in directories.values():
                pq.read_table(root / unit_path(directory, unit))
        elapsed = time.perf_counter() - began
        for path in sorted((root / "dataset").rglob("*.parquet")):
            table = pq.read_table(path)  # not counted: the export never reads what it wrote
            began = time.perf_counter()
            pq.write_table(table, written)
            elapsed += time.perf_counter() - began
            del table
        return elapsed

    cases: dict[str, Callable[[], float]] = {"export": export, "pyarrow": plain}
    return interleave(cases, repetitions)


def _make_units(engines: Engines, completions: int) -> tuple[Config, list[ResolvedStage], int]:
    """Write a run directory of echo completions: the work of BASE_UNITS units, again and again under fresh prompt ids.

    So many different texts do not fit into a Parquet dictionary, as those of a real run do not.
    """
    config = make_config(engines.new_directory(), BASE_UNITS * UNIT_PROMPTS, *ECHO, f"run.unit_size={UNIT_PROMPTS}")
    run_dir = RunDir(config.run.dir)
    ingest_prompts(run_dir, config)
    stages = resolve_flow(load_flow(config))
    units = max(1, completions // (UNIT_PROMPTS * config.generators["main"].n))
    for base in range(min(BASE_UNITS, units)):
        tables: dict[str, pa.Table] = {PROMPTS: run_dir.read_unit(PROMPTS, base)}
        directories = {PROMPTS: PROMPTS}
        for stage in stages:
            requests = stage.files.stage.prepare(tables)
            tables[stage.name] = stage.files.stage.collect(tables, requests, complete(stage, requests))
            directories[stage.name] = stage.files.directory
        for unit in range(base, units, BASE_UNITS):
            for name, table in tables.items():
                if unit >= BASE_UNITS or name != PROMPTS:
                    renamed = _rename_prompts(table, unit) if unit >= BASE_UNITS else table
                    run_dir.commit_unit(directories[name], unit, renamed, UnitCounts(rows=renamed.num_rows))
    return config, stages, units


def _rename_prompts(table: pa.Table, unit: int) -> pa.Table:
    """Return a unit's table under prompt ids of its own."""
    ids = table["prompt_id"].combine_chunks().dictionary_encode()
    fresh = [hashlib.sha256(f"{unit}/{old}".encode()).hexdigest()[:20] for old in ids.dictionary.to_pylist()]
    place = table.schema.get_field_index("prompt_id")
    column = pa.array(fresh, pa.string()).take(ids.indices)
    return table.set_column(place, table.schema.field(place), column)
