"""What a run directory takes on the disk so far, per prompt: what `plan` forecasts the rest by."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from typing import Any

from synthgen.export.files import ROOT
from synthgen.export.finished import read_last_report
from synthgen.ledger.manifest import read_manifest
from synthgen.ledger.run_dir import PROMPTS, RunDir, unit_path


def measure_disk(run_dir: RunDir) -> dict[str, Any]:
    """Return what the directories that no stage owns take per prompt, and the room that is left, as of StageLedger."""
    found: dict[str, Any] = {}
    manifest = read_manifest(run_dir)
    if manifest is not None and (rows := sum(manifest.unit_rows)):
        found["prompt_file_bytes"] = sum(run_dir.storage.measure(PROMPTS).values()) / rows
    report = read_last_report(run_dir) or {}
    exported = report.get("prompts", {}).get("kept")
    if isinstance(exported, int) and exported and (size := sum(run_dir.storage.measure(ROOT).values())):
        found["dataset_bytes"] = size / exported
    root = run_dir.storage.root
    if root is not None:
        with contextlib.suppress(OSError):
            place = next(path for path in (root, *root.parents) if path.exists())
            found["free_bytes"] = shutil.disk_usage(place).free
    return found


def measure_units(run_dir: RunDir, directory: str, done: Sequence[int], unit_rows: Sequence[int]) -> float | None:
    """Return the bytes of finished units' files per prompt, None where there are none."""
    sizes = run_dir.storage.measure(directory) if done else {}
    total = sum(sizes.get(unit_path(directory, unit), 0) for unit in done)
    prompts = sum(unit_rows[unit] for unit in done)
    return total / prompts if total and prompts else None
