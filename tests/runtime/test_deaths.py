"""Death from outside: the driver, its signals, a node, the moment between write and rename, a second driver."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from synthgen.cli import run_command
from tests.command_line import START_LIMIT_S, Started, committed_units, dataset_bytes, synthgen, wait_for_end
from tests.inline_runs import run_inline

ECHO = ["experiment=echo", "run.unit_size=4", "prompts.limit=32", "run.grace_s=3", "cluster.num_cpus=4"]
SLOW = [
    *ECHO,
    "generators.main.model.echo.tokens_per_s=30",
    "judge.model.echo.tokens_per_s=60",
    "generators.main.model.max_num_seqs=8",
    "judge.model.max_num_seqs=8",
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    run_dir = tmp_path_factory.mktemp("calm") / "run"
    run_inline([*ECHO, f"run.dir={run_dir}"])
    return dataset_bytes(run_dir)


@contextlib.contextmanager
def start(run_dir: Path) -> Iterator[Started]:
    with Started(["run", *SLOW, f"run.dir={run_dir}"], run_dir.parent / "log") as started:
        started.wait_for(lambda: len(committed_units(run_dir, "generate-main")) >= 2, "two committed units")
        yield started


def finish(run_dir: Path, undisturbed: dict[str, bytes]) -> None:
    """Start it again, as quick as it goes, and compare with the run that nothing disturbed."""
    kept = {path: path.read_bytes() for path in run_dir.glob("stages/*/unit-*.parquet")}
    again = synthgen("run", *ECHO, f"run.dir={run_dir}")
    assert again.returncode == 0, again.stderr
    assert all(path.read_bytes() == data for path, data in kept.items())
    assert dataset_bytes(run_dir) == undisturbed
    assert "Traceback" not in again.stderr + again.stdout
    reused = sum(
        stage["reused_units"] for stage in json.loads((run_dir / "report.json").read_text())["stages"].values()
    )
    assert reused == len(kept) > 0


def test_death_of_the_driver_by_sigkill(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    run_dir = tmp_path / "run"
    with start(run_dir) as started:
        # Ray's own agents outlive a killed raylet by up to a minute, trying to report its death; they hold nothing.
        below = [process for process in started.descendants() if "Agent" not in process.name()]
        assert any("Replica" in process.name() for process in below)
        started.kill(signal.SIGKILL)
        assert wait_for_end(below) == []
    finish(run_dir, undisturbed)


def test_death_of_the_driver_s_own_node_ends_the_run(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    """No replica could be placed any more: without a word the run would wait for ever."""
    run_dir = tmp_path / "run"
    slow = [*SLOW, "generators.main.model.echo.tokens_per_s=5", "judge.model.echo.tokens_per_s=5", f"run.dir={run_dir}"]
    with Started(["run", *slow], tmp_path / "log") as started:
        started.wait_for(lambda: len(committed_units(run_dir, "generate-main")) >= 1, "a committed unit")
        below = started.descendants()
        [raylet] = [process for process in below if process.name() == "raylet"]
        raylet.kill()
        assert started.process.wait(START_LIMIT_S) == 1, started.log.read_text()
        said = started.log.read_text()
        assert "the Ray node that this run starts its replicas through is gone" in said
        assert "Traceback" not in said
    finish(run_dir, undisturbed)


def test_second_driver_is_refused_with_the_holder_s_host_pid_and_age(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hold = f"""
from synthgen.ledger.lease import Lease
from synthgen.ledger.run_dir import RunDir
lease = Lease(RunDir({str(tmp_path / "run")!r}).storage, 30)
print("held", flush=True)
input()
"""
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert run_command(["run", *SLOW, f"run.dir={tmp_path / 'run'}"]) == 2
        assert f"in use by pid {holder.pid} on {os.uname().nodename}" in capsys.readouterr().err
        holder.kill()


def test_death_of_the_machine_between_write_and_rename(tmp_path: Path) -> None:
    script = (
        "import os, signal\n"
        "from synthgen.ledger.storage import LocalStorage\n"
        "from pathlib import Path\n"
        f"storage = LocalStorage(Path({str(tmp_path)!r}))\n"
        "os.link = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "storage.create('stages/x-1/unit-000000.parquet', b'whole file')\n"
    )
    died = subprocess.run([sys.executable, "-c", script], check=False)
    assert died.returncode == -signal.SIGKILL
    assert list((tmp_path / "stages/x-1").glob("unit-*")) == []
    from synthgen.ledger.run_dir import RunDir

    run_dir = RunDir(str(tmp_path))
    assert run_dir.committed("stages/x-1") == set()
    assert run_dir.storage.create("stages/x-1/unit-000000.parquet", b"whole file")


def test_fenced_off_replica_that_wakes_up_changes_nothing(tmp_path: Path) -> None:
    """A replica of a dead driver commits late: the unit's file is that of the driver which took over."""
    import pyarrow as pa

    from synthgen.ledger.run_dir import RunDir

    first, late = RunDir(str(tmp_path)), RunDir(str(tmp_path))
    assert first.commit_unit("stages/x-1", 0, pa.table({"prompt_id": ["new"]}))
    assert not late.commit_unit("stages/x-1", 0, pa.table({"prompt_id": ["old"]}))
    assert first.read_unit("stages/x-1", 0)["prompt_id"].to_pylist() == ["new"]
