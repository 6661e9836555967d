"""Training, quantizing and evaluating in a process of its own: its memory, and a GPU's, is free again afterwards.

The process ends with the one that started it, whatever ends that, and goes on from its last checkpoint the next time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from synthgen.errors import RunFailedError
from synthgen.training.parent import FOLLOW
from synthgen.training.progress import read_progress

PATIENT = {"OMP_WAIT_POLICY": "PASSIVE"}
"""On a CPU: threads that wait for each other sleep. Those that spin take from a busy machine what they wait for."""
LOOK_EVERY_S = 0.5
END_S = 20.0
"""How long a training that is told to end may take, s."""
LAST_LINES = 5


def run_training(
    method: str,
    overrides: Sequence[str],
    output_dir: Path,
    *,
    launch: Sequence[str],
    told: Callable[[Mapping[str, Any]], None],
    check: Callable[[], None],
) -> None:
    """Run `python -m synthgen.training <method> <overrides>` to its end.

    Args:
        launch: what starts Python instead of this interpreter, such as `accelerate launch --config_file fsdp.yaml`.
        told: called with what `progress.json` holds, about twice a second.
        check: called as often; what it raises ends the training.

    Raises:
        RunFailedError: it failed; the message has its last line, and the log's path.
    """
    output_dir.mkdir(parents=True, exist_ok=True)

    def look() -> None:
        check()
        if (progress := read_progress(output_dir)) is not None:
            told(progress)

    command = [*(launch or [sys.executable]), "-m", "synthgen.training", method, *overrides]
    log = output_dir / "train.log"
    ended = run_child(command, log, look)
    if ended is not None:
        raise RunFailedError(f"training failed ({ended[0]}): {ended[1]}; see {log}")


def run_merge(adapter: Path, place: Path, dtype: str, *, check: Callable[[], None]) -> None:
    """Write the base of an adapter with the adapter in its weights to `place`, whole or not at all.

    Raises:
        RunFailedError: it failed; the message has its last line, and the log's path.
    """
    log = adapter / "merge.log"
    command = [sys.executable, "-m", "synthgen.training", "merge", str(adapter), str(place), dtype]
    ended = run_child(command, log, check)
    if ended is not None:
        raise RunFailedError(f"the adapter could not be merged ({ended[0]}): {ended[1]}; see {log}")


def run_child(
    command: Sequence[str], log: Path, look: Callable[[], None], environment: Mapping[str, str] | None = None
) -> tuple[str, str] | None:
    """Run a program of ours that follows its parent to its end, and return how it failed and its last line, or None.

    Args:
        log: what it says is added to it. look: called about twice a second; what it raises ends the program.
        environment: further variables.
    """
    with open(log, "ab") as stream:
        started = stream.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env={**PATIENT, **os.environ, FOLLOW: str(os.getpid()), **(environment or {})},
        )
        try:
            while process.poll() is None:
                look()
                time.sleep(LOOK_EVERY_S)
        finally:
            if process.poll() is None:
                _end(process)
    return (_describe(process.returncode), _last_line(log, started)) if process.returncode else None


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _describe(code: int) -> str:
    return f"status {code}" if code > 0 else f"killed by {signal.Signals(-code).name}"


def _last_line(log: Path, start: int) -> str:
    with open(log, "rb") as stream:
        stream.seek(start)
        lines = [line.strip() for line in stream.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1][:500] if lines else "it said nothing"
