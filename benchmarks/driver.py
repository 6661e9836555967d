"""8. The driver's own limits: 100,000 units on instant echo engines at 1, 4 and 16 replicas.

All but the last units are finished already (hard links to one small file). Measured are the seconds from the start of
the session to the first request, units per second over the rest, CPU time of the driver, and its peak memory. A second
session that finds everything finished gives the CPU time of resuming; what the first took beyond it went into units.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.engines import Engines
from benchmarks.generate import Case, make_stages
from benchmarks.machine import peak_memory_mib, reset_peak_memory
from benchmarks.outcome import Outcome, Target
from benchmarks.rows import ECHO, complete
from synthgen.config import Config
from synthgen.flow import ResolvedStage
from synthgen.ledger.ingest import ingest_prompts
from synthgen.ledger.manifest import read_manifest, write_manifest
from synthgen.ledger.run_dir import PROMPTS, RunDir, unit_path
from synthgen.records import UnitCounts

UNITS, LEFT, UNIT_PROMPTS = 100_000, 2000, 8
REPLICAS = (1, 4, 16)
MOST_LINKS = 30_000
"""ext4 allows 65,000 links to a file."""


def measure(engines: Engines, quick: bool) -> Outcome:
    """Return what the driver does per second, and what it needs."""
    units, left = (200, 20) if quick else (UNITS, LEFT)
    rows: list[dict[str, Any]] = []
    for replicas in REPLICAS[:1] if quick else REPLICAS:
        config, stage = _configure(engines, replicas)
        _make_ledger(config, stage, units, left)
        engines.load(config, [stage])
        rows.append({"replicas": replicas, **_measure_run(engines, config, stage, units - left)})
        engines.free()
    best = max(row["units/s"] for row in rows)
    most_ms = max(0.001, *(row["of it per unit, ms"] for row in rows))
    notes = [
        f"{units:,} units of {UNIT_PROMPTS} prompts, {left:,} of them to do; engines answer at once.",
        f"Replicas and driver share this machine's cores: {best:,.0f} units/s is what all of them did together.",
        f"The driver itself could do {1e3 / most_ms:,.0f} units/s on a core.",
    ]
    targets = [
        Target("resume over finished units, s", max(row["first request, s"] for row in rows), 10.0, at_most=True),
        Target("peak memory of the driver, MiB", max(row["peak memory, MiB"] for row in rows), 1024, at_most=True),
    ]
    return Outcome("driver", f"a ledger of {units:,} units", rows, targets, notes)


def _configure(engines: Engines, replicas: int) -> tuple[Config, ResolvedStage]:
    model = "generators.main.model"
    config, stages = make_stages(
        engines, Case("echo", 1, UNIT_PROMPTS, 1), *ECHO, f"{model}.replicas={replicas}", "run.unit_size=8"
    )
    return config, stages[0]


def _make_ledger(config: Config, stage: ResolvedStage, units: int, left: int) -> None:
    """Write a run directory in which all units but the last `left` are finished."""
    run_dir = RunDir(config.run.dir)
    ingest_prompts(run_dir, config)
    tables = {PROMPTS: run_dir.read_unit(PROMPTS, 0)}
    requests = stage.files.stage.prepare(tables)
    table = stage.files.stage.collect(tables, requests, complete(stage, requests))
    run_dir.commit_unit(stage.files.directory, 0, table, UnitCounts(rows=table.num_rows))
    root = Path(config.run.dir)
    _link_units(root, PROMPTS, units)
    _link_units(root, stage.files.directory, units - left)
    made = read_manifest(run_dir)
    assert made is not None
    assert made.units is not None
    write_manifest(run_dir, replace(made, unit_rows=[UNIT_PROMPTS] * units, units=[made.units[0]] * units))


def _link_units(root: Path, directory: str, units: int) -> None:
    source = root / unit_path(directory, 0)
    copies = _copies(source)
    origin = source
    for unit in range(1, units):
        if unit % MOST_LINKS == 0:
            origin = next(copies)
        os.link(origin, root / unit_path(directory, unit))


def _copies(source: Path) -> Iterator[Path]:
    for number in itertools.count():
        copy = source.parent.parent / f"{source.parent.name}-{number}.copy"
        copy.write_bytes(source.read_bytes())
        yield copy


def _measure_run(engines: Engines, config: Config, stage: ResolvedStage, first_left: int) -> dict[str, Any]:
    reset_peak_memory()
    began, cpu = time.time(), time.process_time()
    done = engines.execute(config, [stage])
    cpu = time.process_time() - cpu
    memory = peak_memory_mib()
    run_dir = RunDir(config.run.dir)
    again = time.process_time()
    engines.execute(config, [stage])
    again = time.process_time() - again
    units = range(first_left, done)
    started = min(run_dir.read_counts(stage.files.directory, unit).started_at for unit in units)
    ended = max((Path(config.run.dir) / unit_path(stage.files.directory, unit)).stat().st_mtime for unit in units)
    return {
        "first request, s": round(started - began, 2),
        "units/s": round(len(units) / (ended - started), 1),
        "driver CPU, s": round(cpu, 2),
        "of it per unit, ms": round((cpu - again) / len(units) * 1e3, 3),
        "peak memory, MiB": round(memory),
    }
