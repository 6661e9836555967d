"""The long form of tests: random histories, every damage to every file, a kill at every change, every signal.

python -m benchmarks.chaos_histories --histories 200 --damages --exports --signals
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RUNTIME = "tests/runtime"


@dataclass(frozen=True)
class TestsResult:
    """How a test ended in its long form. printed: its last lines."""

    name: str
    good: bool
    elapsed_s: float
    printed: str

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"chaos": self.name, "good": self.good, "elapsed_s": self.elapsed_s, "printed": self.printed}


def run_histories(histories: int) -> TestsResult:
    """Let `histories` random histories end as a fresh run does, on a disk; a tenth as many in an object store."""
    tests = f"{RUNTIME}/test_histories.py"
    disk = _run(f"{histories} histories, disk", tests, "not Store", SYNTHGEN_HISTORIES=str(histories))
    few = max(1, histories // 10)
    store = _run(f"{few} histories, object store", tests, "Store", SYNTHGEN_HISTORIES=str(few))
    return TestsResult(
        f"{disk.name}; {store.name}",
        disk.good and store.good,
        disk.elapsed_s + store.elapsed_s,
        f"{disk.printed}\n{store.printed}",
    )


def run_damages() -> TestsResult:
    """Damage every file of a finished and of a half-done run in all five ways."""
    tests = f"{RUNTIME}/test_damaged_runs.py"
    return _run("every damage to every file", tests, "damaged_file", SYNTHGEN_ALL_DAMAGES="1")


def run_exports() -> TestsResult:
    """Kill exports at every change that they make to the disk."""
    return _run("a kill at every change of an export", "tests/export/test_killed_exports.py", SYNTHGEN_KILL_EVERY="1")


def run_signals() -> TestsResult:
    """Send every signal, to the process and to its group, while models load, generate and while it exports."""
    return _run("every signal at every moment", f"{RUNTIME}/test_signals.py", SYNTHGEN_ALL_SIGNALS="1")


def _run(name: str, tests: str, which: str = "", **environment: str) -> TestsResult:
    command = [sys.executable, "-m", "pytest", "-q", "--show-capture=no", "-k", which, tests]
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    return TestsResult(name, done.returncode == 0, round(time.monotonic() - began, 1), done.stdout[-2000:].strip())


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=int, default=200)
    for name in ("damages", "exports", "signals"):
        parser.add_argument(f"--{name}", action="store_true")
    options = parser.parse_args()
    results = [run_histories(options.histories)] if options.histories else []
    results += [run_damages()] if options.damages else []
    results += [run_exports()] if options.exports else []
    results += [run_signals()] if options.signals else []
    for result in results:
        print(f"{result.name}: {'good' if result.good else 'BAD'} in {result.elapsed_s:.0f} s\n{result.printed}")
    sys.exit(0 if all(result.good for result in results) else 1)


if __name__ == "__main__":
    main()
