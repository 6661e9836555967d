"""The executor on real Ray actors: every kind of death that can happen inside a running cluster."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
import ray

from synthgen.config import ClusterConfig, EchoConfig
from synthgen.errors import ConfigError, RunFailedError, RunStoppedError
from synthgen.executor import Executor, Snapshot
from synthgen.run_dir import unit_path
from tests.small_runs import Prepared, SmallRun, undisturbed


@pytest.fixture(scope="module", autouse=True)
def ray_session() -> Iterator[None]:
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()


def test_execute_commits_every_row_once(tmp_path: Path) -> None:
    run = SmallRun(tmp_path).prepare()
    executor = run.execute()
    run.check_complete()
    assert executor.totals["generate-main"].counts.rows == 48


def test_execute_again_sends_no_request(tmp_path: Path) -> None:
    run = SmallRun(tmp_path).prepare()
    run.execute()
    again = run.execute()
    assert again.totals["generate-main"].counts.requests == 0
    assert again.totals["generate-main"].reused == 6


def kill_once(kill: list[int]) -> object:
    """Return an observer that kills the process of a busy replica once, by SIGKILL."""

    def observe(snapshot: Snapshot, executor: Executor) -> None:
        for pool in executor._pools:
            for handle in pool.handles:
                if handle.info is not None and handle.open and not kill:
                    kill.append(handle.info.pid)
                    os.kill(handle.info.pid, signal.SIGKILL)

    return observe


def test_death_of_a_replica_actor(tmp_path: Path) -> None:
    settings = SmallRun(tmp_path, echo=EchoConfig(output_tokens=20, tokens_per_s=60))
    run = settings.prepare()
    killed: list[int] = []
    run.execute(kill_once(killed))  # type: ignore[arg-type]
    assert killed
    assert not psutil.pid_exists(killed[0])
    run.check_complete()
    assert run.rows().equals(undisturbed(settings, tmp_path / "calm"))


def test_death_by_poison_quarantines_one_row_and_loses_no_other(tmp_path: Path) -> None:
    settings = SmallRun(
        tmp_path, echo=EchoConfig(poison="POISON"), special={5: "This one holds POISON inside."}, unit_size=8
    )
    run = settings.prepare()
    executor = run.execute()
    run.check_complete()
    rows = run.rows()
    bad = rows.filter(pa.compute.is_valid(rows["error"]))
    assert bad["error"].to_pylist() == ["kills_engine", "kills_engine"]
    assert bad["prompt_id"].to_pylist() == [run.prompt_ids()[5]] * 2
    good = rows.filter(pa.compute.is_null(rows["error"]))
    calm = undisturbed(settings, tmp_path / "calm")
    assert good.equals(calm.filter(pa.compute.is_in(calm["prompt_id"], good["prompt_id"].combine_chunks())))
    assert executor.totals["generate-main"].counts.failed_rows == 2
    failures = [line for path in run.run_dir.storage.list("failures") for line in _lines(run, path)]
    assert any("kills_engine" in line and "POISON" in line for line in failures)


def test_death_by_hanging_is_noticed_and_the_row_quarantined(tmp_path: Path) -> None:
    settings = SmallRun(
        tmp_path,
        prompts=8,
        unit_size=2,
        echo=EchoConfig(hang="HANG"),
        special={3: "HANG here"},
        cluster=ClusterConfig(stall_timeout_s=1.0, max_task_attempts=1),
    )
    run = settings.prepare()
    run.execute()
    run.check_complete()
    rows = run.rows()
    assert set(rows.filter(pa.compute.is_valid(rows["error"]))["prompt_id"].to_pylist()) == {run.prompt_ids()[3]}


def test_model_that_fails_to_load_ends_the_run_after_bounded_tries(tmp_path: Path) -> None:
    run = SmallRun(tmp_path, echo=EchoConfig(fail_start=True), replicas=1).prepare()
    with pytest.raises((RunFailedError, ConfigError)) as failure:
        run.execute()
    assert "echo" in str(failure.value)


def test_engine_that_always_dies_ends_the_run(tmp_path: Path) -> None:
    settings = SmallRun(
        tmp_path,
        prompts=4,
        echo=EchoConfig(poison="Question"),
        replicas=1,
        cluster=ClusterConfig(max_engine_restarts=2),
    )
    with pytest.raises(RunFailedError, match=r"cluster\.max_engine_restarts=2"):
        settings.prepare().execute()


def test_engine_that_always_dies_is_not_saved_by_quarantining_row_after_row(tmp_path: Path) -> None:
    settings = SmallRun(
        tmp_path,
        prompts=4,
        echo=EchoConfig(poison="Question"),
        replicas=1,
        cluster=ClusterConfig(max_engine_restarts=6),
    )
    with pytest.raises(RunFailedError, match=r"cluster\.max_engine_restarts=6"):
        settings.prepare().execute()


def test_torn_unit_file_is_made_again(tmp_path: Path) -> None:
    run = SmallRun(tmp_path).prepare()
    run.execute()
    before = run.rows()
    path = Path(run.run_dir.url) / unit_path(run.directory, 2)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    executor = run.execute()
    assert executor.totals["generate-main"].counts.rows == 8
    assert run.rows().equals(before)


def test_file_that_was_not_renamed_yet_does_not_count(tmp_path: Path) -> None:
    run = SmallRun(tmp_path).prepare()
    leftover = Path(run.run_dir.url) / run.directory / ".tmp-host-1-abc"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"PAR1 half a file")
    run.execute()
    run.check_complete()


def test_stop_commits_what_is_in_flight_and_the_next_start_finishes(tmp_path: Path) -> None:
    settings = SmallRun(tmp_path, prompts=96, echo=EchoConfig(output_tokens=20, tokens_per_s=80), max_num_seqs=4)
    run = settings.prepare()

    def stop(snapshot: Snapshot, executor: Executor) -> None:
        if snapshot.stages["generate-main"].done >= 2:
            executor.stop(RunStoppedError("SIGTERM received"))

    with pytest.raises(RunStoppedError):
        run.execute(stop)
    done = len(run.run_dir.committed(run.directory))
    assert 2 <= done < 24
    run.settings.echo.tokens_per_s = 0
    run.execute()
    run.check_complete()
    assert run.rows().equals(undisturbed(settings, tmp_path / "calm"))


def test_budget_stops_the_run(tmp_path: Path) -> None:
    settings = SmallRun(tmp_path)
    run = settings.prepare()
    run.config.run.max_gpu_hours = 0.0
    with pytest.raises(RunStoppedError, match=r"run\.max_gpu_hours=0"):
        run.execute()


def _lines(run: Prepared, path: str) -> list[str]:
    return run.run_dir.storage.read(path).decode().splitlines()
