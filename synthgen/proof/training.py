"""The trainings of a proof: data in, an adapter (or a model) out, each once. `trained.json` is written last."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.export.manifest import hash_file
from synthgen.ledger.storage import LocalStorage
from synthgen.proof.settings import ProofSettings
from synthgen.records import stable_hex
from synthgen.training.child import run_merge, run_training
from synthgen.training.progress import format_progress, read_progress

TRAINED = "trained.json"
CARD = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: train.parquet\n---\n"
"""What `datasets` reads the directory by."""
WEIGHTS = ("adapter_model.safetensors", "model.safetensors", "model.safetensors.index.json")


def write_rows(root: Path, name: str, rows: pa.Table) -> Path:
    """Write the rows of one training as a data set, and return its directory."""
    storage = LocalStorage(root)
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink)
    storage.replace(f"data/{name}/train.parquet", sink.getvalue().to_pybytes())
    storage.replace(f"data/{name}/README.md", CARD.encode())
    return root / "data" / name


def train_once(
    root: Path,
    name: str,
    settings: ProofSettings,
    *,
    check: Callable[[], None],
    told: Callable[[str], None],
) -> dict[str, Any]:
    """Train on `data/<name>` into `models/<name>` unless that is done, and return what came of it.

    `seconds` and `steps_per_s` are of the last process, `curve` of all; `weights` is a hash of the adapter.
    """
    storage = LocalStorage(root)
    output_dir = root / "models" / name
    if storage.exists(f"models/{name}/{TRAINED}"):
        found: dict[str, Any] = json.loads(storage.read(f"models/{name}/{TRAINED}"))
        _merge_once(root, name, settings, check)
        return found
    begun = time.monotonic()
    run_training(
        settings.prove.train.value,
        settings.train_overrides(root / "data" / name, output_dir),
        output_dir,
        launch=settings.prove.launch,
        told=lambda progress: told(f"{name}: {format_progress(progress)}"),
        check=check,
    )
    progress: Mapping[str, Any] = read_progress(output_dir) or {}
    trained = {
        "steps": progress.get("step"),
        "seconds_per_step": progress.get("seconds_per_step"),
        "seconds": round(time.monotonic() - begun, 1),
        "loss": progress.get("loss"),
        "curve": progress.get("curve") or [],
        "weights": stable_hex([hash_file(output_dir / one) for one in WEIGHTS if (output_dir / one).is_file()]),
    }
    storage.replace(f"models/{name}/{TRAINED}", (json.dumps(trained, indent=1) + "\n").encode())
    _merge_once(root, name, settings, check)
    return trained


def _merge_once(root: Path, name: str, settings: ProofSettings, check: Callable[[], None]) -> None:
    """Write the base with the adapter in it, where it answers so and is not there yet."""
    place = settings.find_place(root, name)
    if settings.merged and not place.is_dir():
        run_merge(root / "models" / name, place, settings.prove.dtype, check=check)


class Lines:
    """Tells how a training goes, a line every `interval_s` on stderr; `quiet`: nothing."""

    def __init__(self, interval_s: float, *, quiet: bool) -> None:
        self._interval_s = interval_s
        self._quiet = quiet
        self._told_at = time.monotonic()
        self._last = ""

    def __call__(self, line: str) -> None:
        """Say the line, if it is time to and it is new."""
        now = time.monotonic()
        if self._quiet or line == self._last or now - self._told_at < self._interval_s:
            return
        self._told_at, self._last = now, line
        print(f"synthgen: training on {line}", file=sys.stderr, flush=True)
