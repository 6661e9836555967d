"""Starting `synthgen` as a user does: another process, another terminal group, its output in a file."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil
import pyarrow.parquet as pq

START_LIMIT_S = 480.0


def synthgen(
    *arguments: str, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return its status and output."""
    return subprocess.run(
        [sys.executable, "-m", "synthgen", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        timeout=300,
        check=False,
    )


class Started:
    """A running `synthgen`, in a process group of its own."""

    def __init__(self, arguments: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.log = log
        with open(log, "ab") as handle:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "synthgen", *arguments],
                stdout=handle,
                stderr=handle,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, **(env or {})},
            )

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until `condition()` holds. Fails the test where the process ends first."""
        deadline = time.monotonic() + START_LIMIT_S
        while not condition():
            assert self.process.poll() is None, f"ended before {what}: {self.log.read_text()[-3000:]}"
            assert time.monotonic() < deadline, f"no {what} in {START_LIMIT_S} s: {self.log.read_text()[-3000:]}"
            time.sleep(0.05)

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *_: object) -> None:
        """End it, whatever became of the test."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
            self.process.kill()
            self.process.wait()

    def descendants(self, title: str = "") -> list[psutil.Process]:
        """Return the live processes below this one whose title or command holds `title`."""
        found = []
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if title in child.name() or title in " ".join(child.cmdline()):
                        found.append(child)
        return found

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(START_LIMIT_S)


def committed_units(run_dir: Path, stage: str) -> list[Path]:
    """Return the committed unit files of a stage."""
    return sorted(run_dir.glob(f"stages/{stage}-*/unit-*.parquet"))


def dataset_bytes(run_dir: Path) -> dict[str, bytes]:
    """Return the dataset's Parquet files by relative path."""
    root = run_dir / "dataset"
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.parquet"))}


def rows_of(paths: Sequence[Path]) -> int:
    """Return the number of rows in some Parquet files."""
    return sum(pq.read_metadata(path).num_rows for path in paths)


def wait_for_end(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Return those of the processes that are still alive after a while."""
    _, alive = psutil.wait_procs(processes, timeout=30)
    return [process for process in alive if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
