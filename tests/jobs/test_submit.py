"""jobs/submit.sh on a real head node with a token."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import committed_units, synthgen
from tests.local_ray import LIMIT_S, SUBMIT, Head, free_port, start_head, wait_until


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with start_head() as started:
        yield started


@pytest.mark.parametrize("arguments", [["experiment=echo"], ["run", "run.dir=runs/echo"], ["run.dir=/a", "run.dir=b"]])
def test_submit_refuses_a_run_directory_that_goes_with_the_job(arguments: list[str]) -> None:
    done = subprocess.run([SUBMIT, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.fullmatch(r"submit: run\.dir=.* must be an absolute path .*\n", done.stderr)


def test_a_python_without_the_packages_says_so_and_where_they_are() -> None:
    """What a job starts in a cluster whose Ray is of another Python. Without `site` there are no packages."""
    done = subprocess.run(
        [sys.executable, "-S", "-m", "synthgen", "run"],
        capture_output=True,
        text=True,
        cwd=SUBMIT.parents[1],
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert f"{sys.executable} has no omegaconf, hydra, pyarrow, ray; " in done.stderr


def test_submit_says_in_one_line_that_nothing_answers() -> None:
    environment = {**os.environ, "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{free_port()}"}
    done = subprocess.run([SUBMIT, "doctor"], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "Failed to connect" in done.stderr


def test_submit_says_in_one_line_that_the_token_is_wrong(head: Head) -> None:
    done = head.submit("doctor", RAY_AUTH_TOKEN="fedcba9876543210" * 2)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "token" in done.stderr


@pytest.mark.slow
def test_submit_ends_with_the_status_of_the_run(head: Head, tmp_path: Path) -> None:
    done = head.submit("experiment=echo", f"run.dir={tmp_path}/run", "run.sed=1")
    assert done.returncode == 2
    assert "did you mean run.seed?" in done.stdout


@pytest.mark.slow
def test_submit_watched_stopped_and_submitted_again_ends_complete(head: Head, tmp_path: Path) -> None:
    run_dir = tmp_path / "a run"
    overrides = ["experiment=echo", f"run.dir={run_dir}", "prompts.limit=40", "run.unit_size=2"]
    slow = ["generators.main.model.echo.tokens_per_s=12", "generators.main.model.max_num_seqs=8"]
    environment = {**head.environment, "SUBMISSION_ID": f"stopped-{os.getpid()}"}
    process = subprocess.Popen(
        [SUBMIT, *overrides, *slow], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    wait_until(lambda: len(committed_units(run_dir, "generate-main")) >= 2, process, "two committed units")
    watched = read_status(run_dir)
    assert watched["state"] == "running"
    assert watched["stages"]["generate-main"]["committed"] >= 2
    stop = ["ray", "job", "stop", "--no-wait", "--address", environment["RAY_API_SERVER_ADDRESS"]]
    subprocess.run([*stop, environment["SUBMISSION_ID"]], env=environment, check=True, capture_output=True)
    output, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, output
    assert "goes on from what it committed" in output
    assert read_status(run_dir)["state"] == "stopped"
    kept = {path: path.stat().st_mtime_ns for path in committed_units(run_dir, "generate-main")}
    again = head.submit(*overrides)
    assert again.returncode == 0, again.stdout + again.stderr
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items())
    assert read_status(run_dir)["state"] == "complete"


def read_status(run_dir: Path) -> dict[str, Any]:
    """Return what `synthgen status` says, from a shell that knows nothing of the cluster."""
    done = synthgen("status", f"run_dir={run_dir}", "format=json")
    assert done.returncode == 0, done.stderr
    status: dict[str, Any] = json.loads(done.stdout)
    return status


def test_submit_interrupted_leaves_the_job_alone(head: Head, tmp_path: Path) -> None:
    environment = {**head.environment, "SUBMISSION_ID": f"interrupted-{os.getpid()}"}
    process = subprocess.Popen(
        [SUBMIT, "models"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stderr is not None
    assert "runs at" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, errors
    assert "goes on" in errors
