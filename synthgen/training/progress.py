"""How far a training is: a line for people every few seconds, and `progress.json` for whoever started it.

The file holds `step`, `steps`, `seconds_per_step` (over this process's steps; None before the second), `eta_s`, `loss`,
and `curve`, what TRL logged at each of its `logging_steps`, also those of the process that was killed before this one.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthgen.observe.progress import format_duration

logger = logging.getLogger(__name__)

PROGRESS = "progress.json"
LINE_EVERY_S = 10.0
CURVES = ("loss", "rewards/margins", "rewards/accuracies", "learning_rate", "mean_token_accuracy")
"""What of TRL's log is kept for the report."""


def make_callback(output_dir: str, *, quiet: bool) -> Any:
    """Return a callback of transformers' Trainer that keeps `progress.json` and, unless `quiet`, logs lines."""
    from transformers import TrainerCallback

    class ProgressCallback(TrainerCallback):  # type: ignore[misc]
        """Counts steps of the main process."""

        def __init__(self) -> None:
            self._begun_at = self._told_at = time.monotonic()
            self._first = 0

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self._begun_at, self._first = time.monotonic(), state.global_step
            self._tell(state)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self._tell(state)

        def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self._tell(state)

        def _tell(self, state: Any) -> None:
            if not state.is_world_process_zero:
                return
            now = time.monotonic()
            taken = state.global_step - self._first
            progress = describe_progress(state.global_step, state.max_steps, taken, now - self._begun_at)
            progress["curve"] = [keep_curve(entry) for entry in state.log_history if "loss" in entry]
            progress["loss"] = progress["curve"][-1].get("loss") if progress["curve"] else None
            write_progress(Path(output_dir), progress)
            if not quiet and (now - self._told_at >= LINE_EVERY_S or state.global_step == state.max_steps):
                self._told_at = now
                logger.info("%s", format_progress(progress))

    return ProgressCallback()


def describe_progress(step: int, steps: int, taken: int, seconds: float) -> dict[str, Any]:
    """Return `step`, `steps`, `seconds_per_step` and `eta_s` after `taken` steps of this process in `seconds`."""
    rate = seconds / taken if taken else None
    return {
        "step": step,
        "steps": steps,
        "seconds_per_step": None if rate is None else round(rate, 3),
        "eta_s": None if rate is None else round(rate * max(0, steps - step), 1),
    }


def format_progress(progress: Mapping[str, Any]) -> str:
    """Return one line: `step 12 of 24, 6.1 s a step, loss 0.532, ETA 1m13s`."""
    parts = [f"step {progress['step']} of {progress['steps']}"]
    if progress.get("seconds_per_step") is not None:
        parts.append(f"{progress['seconds_per_step']:.1f} s a step")
    if progress.get("loss") is not None:
        parts.append(f"loss {progress['loss']:.3f}")
    if progress.get("eta_s") is not None:
        parts.append(f"ETA {format_duration(progress['eta_s'])}")
    return ", ".join(parts)


def keep_curve(entry: Mapping[str, Any]) -> dict[str, float]:
    """Return what of an entry of TRL's log is kept: its `step` and the numbers of CURVES that it has."""
    kept = {"step": float(entry.get("step", 0))}
    return kept | {name: float(entry[name]) for name in CURVES if isinstance(entry.get(name), int | float)}


def read_progress(output_dir: Path) -> dict[str, Any] | None:
    """Return what a training wrote last, None before it has written anything."""
    try:
        found: dict[str, Any] = json.loads((output_dir / PROGRESS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found


def write_progress(output_dir: Path, progress: Mapping[str, Any]) -> None:
    """Write `progress.json`, whole or not at all. What fails here is no reason to end a training."""
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        scratch = output_dir / f".{PROGRESS}.new"
        scratch.write_text(json.dumps(progress) + "\n", encoding="utf-8")
        os.replace(scratch, output_dir / PROGRESS)
    except OSError as error:
        logger.warning("%s was not written: %s", output_dir / PROGRESS, error)
