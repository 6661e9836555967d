"""Status: what a run's files say, with and without a living driver."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console

from synthgen.cli import run_command
from synthgen.errors import ConfigError
from synthgen.ledger.lease import LEASE, Lease
from synthgen.ledger.run_dir import MANIFEST, RunDir
from synthgen.observe.progress import ProgressView
from synthgen.observe.snapshot import Snapshot, StageTotals
from synthgen.observe.status import read_status, render_status
from synthgen.records import UnitCounts

MAIN = "stages/generate-main-0123456789ab"
OLD = "stages/generate-main-ffffffffffff"
TABLE = pa.table({"x": [1]})
REPLICA = {"name": "main-0", "state": "ready", "open_units": 2, "completions": 40, "output_tokens": 900}


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    """A run with five units, two committed, one of another configuration, and quarantined rows."""
    run_dir = RunDir(str(tmp_path / "run"))
    run_dir.write_json(MANIFEST, {"fingerprint": "f", "unit_rows": [4, 4, 4, 4, 2], "stats": {}})
    for unit in (0, 3):
        run_dir.commit_unit(MAIN, unit, TABLE)
    run_dir.commit_unit(OLD, 0, TABLE)
    run_dir.storage.replace(f"{MAIN}/.tmp-host-1-ab", b"half a file")
    row = {
        "stage": "generate-main",
        "reason": "prompt_too_long",
        "message": "9 tokens\x1b[31m of 8",
        "retryable": False,
    }
    run_dir.write_failures("generate-main", 1, [row, row, {**row, "reason": "kills_engine"}])
    return run_dir


def observe(run_dir: RunDir, state: str, message: str = "") -> None:
    """Let a ProgressView write status.json as a driver does."""
    totals = StageTotals(units=5, done=2, counts=UnitCounts(rows=8, failed_rows=3), directory=MAIN)
    view = ProgressView(run_dir, 10.0, quiet=True)
    view.observe(Snapshot({"generate-main": totals}, [dict(REPLICA)], elapsed_s=60.0, gpu_hours=0.5))
    view.write_status(state, message)


def show(status: dict[str, Any], width: int) -> list[str]:
    console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(render_status(status))
    return console.export_text().splitlines()


def test_status_of_a_living_run_counts_the_ledger(run_dir: RunDir) -> None:
    lease = Lease(run_dir.storage, 30.0)
    try:
        observe(run_dir, "running")
        status = read_status(run_dir)
    finally:
        lease.release()
    assert status["state"] == "running"
    assert (
        status["stages"]["generate-main"] | {"committed": 2, "units": 5, "rows": 8} == status["stages"]["generate-main"]
    )
    assert status["other_results"] == {OLD: 1}
    assert (status["prompts"], status["units"]) == (18, 5)
    assert status["replicas"] == [REPLICA]
    assert status["eta_s"] == pytest.approx(90.0)
    assert status["writer"]["pid"] == os.getpid()
    assert status["writer"]["alive"] is True


def test_status_counts_failures_by_reason_the_most_frequent_first(run_dir: RunDir) -> None:
    observe(run_dir, "stopped")
    failures = read_status(run_dir)["failures"]
    assert [(f["stage"], f["reason"], f["requests"]) for f in failures] == [
        ("generate-main", "prompt_too_long", 2), ("generate-main", "kills_engine", 1),
    ]  # fmt: skip


def test_status_says_that_a_driver_was_killed(run_dir: RunDir) -> None:
    program = (
        "import os, sys; from synthgen.ledger.run_dir import RunDir; from synthgen.ledger.lease import Lease;"
        "Lease(RunDir(sys.argv[1]).storage, 30.0); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", program, run_dir.url], check=False).returncode == -9
    observe(run_dir, "running")
    status = read_status(run_dir)
    assert status["state"] == "dead"
    assert status["message"].startswith("its driver is gone while running (pid ")
    assert status["writer"]["alive"] is False
    assert status["replicas"] == []
    assert status["eta_s"] is None


def test_status_from_another_machine_goes_by_the_lease(run_dir: RunDir) -> None:
    observe(run_dir, "running")
    record = {"host": "elsewhere", "pid": 7, "renewed_at": time.time() - 20, "released": False}
    run_dir.write_json(LEASE, record)
    assert read_status(run_dir)["state"] == "running"
    run_dir.storage.replace("config.yaml", b"run:\n  lease_s: 5\n")
    assert read_status(run_dir)["state"] == "dead"


def test_status_of_a_driver_that_let_go_without_a_word(run_dir: RunDir) -> None:
    observe(run_dir, "exporting")
    Lease(run_dir.storage, 30.0).release()
    assert read_status(run_dir)["state"] == "dead"


def test_status_of_a_complete_run_counts_all_sessions(run_dir: RunDir) -> None:
    observe(run_dir, "complete")
    stage = {"directory": MAIN, "units": 5, "rows": 18, "failed_rows": 1, "output_tokens": 500, "busy_s": 10.0}
    run_dir.write_json("report.json", {"complete": True, "stages": {"generate-main": stage}})
    found = read_status(run_dir)["stages"]["generate-main"]
    assert (found["rows"], found["tokens_per_s"], found["committed"]) == (18, 50.0, 2)


def test_status_while_prompts_are_read_has_no_stages(tmp_path: Path) -> None:
    run_dir = RunDir(str(tmp_path))
    ProgressView(run_dir, 10.0, quiet=True).write_status("ingesting")
    with_lease = Lease(run_dir.storage, 30.0)
    status = read_status(run_dir)
    with_lease.release()
    assert (status["state"], status["stages"], status["prompts"]) == ("ingesting", {}, 0)
    assert show(status, 80)


def test_status_of_no_run_names_the_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"run_dir={tmp_path} holds no run"):
        read_status(RunDir(str(tmp_path)))


@pytest.mark.parametrize("width", [80, 200])
def test_render_status_fits_the_terminal(run_dir: RunDir, width: int) -> None:
    observe(run_dir, "stopped", "SIGTERM received")
    lines = show(read_status(run_dir), width)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= width
    for expected in ("stopped", "SIGTERM received", "2/5", "prompt_too_long", "2 requests", "9 tokens\\x1b[31m of 8"):
        assert expected in text
    assert "\x1b[31m" not in text


def test_status_command_prints_json(run_dir: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    observe(run_dir, "stopped")
    assert run_command(["status", f"run_dir={run_dir.url}", "format=json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "stopped"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give it as run_dir="),
        (["run_dir=x", "format=xml"], "format=text|json"),
        (["run_dir=/nowhere"], "holds no run"),
    ],
)
def test_status_command_explains_what_it_takes(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["status", *arguments]) == 2
    assert words in capsys.readouterr().err
