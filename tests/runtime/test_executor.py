"""The executor on real Ray actors: every kind of death that can happen inside a running cluster."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
import ray

from synthgen.config import ClusterConfig, EchoConfig
from synthgen.config.compose import compose_config
from synthgen.errors import ConfigError, RunFailedError, RunStoppedError
from synthgen.ledger.run_dir import PROMPTS, digests_of, part_path, unit_path
from synthgen.observe.snapshot import Snapshot
from synthgen.records import UnitCounts
from synthgen.runtime.executor import Executor
from synthgen.runtime.run import run as run_pipeline
from tests.command_line import wait_for_end
from tests.inline_runs import inline_runs
from tests.small_runs import Prepared, SmallRun, undisturbed


@pytest.fixture(scope="module", autouse=True)
def ray_session() -> Iterator[None]:
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()


@pytest.fixture
def inline() -> Iterator[None]:
    """What is found damaged is found by the driver, so that no replica need be an actor."""
    with inline_runs():
        yield


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


def test_straggling_last_unit_is_run_twice_and_the_first_commit_wins(tmp_path: Path) -> None:
    settings = SmallRun(tmp_path, prompts=40, echo=EchoConfig(output_tokens=20, tokens_per_s=25), max_num_seqs=4)
    run = settings.prepare()
    stopped: list[int] = []

    def hang_late(snapshot: Snapshot, executor: Executor) -> None:
        handles = [h for pool in executor._pools for h in pool.handles if h.info is not None and h.open]
        if not stopped and snapshot.stages["generate-main"].done >= 3 and len(handles) == 2:
            assert handles[0].info is not None
            stopped.append(handles[0].info.pid)
            os.kill(stopped[0], signal.SIGSTOP)

    executor = run.execute(hang_late)
    run.check_complete()
    assert stopped
    assert sum(pool.deaths for pool in executor._pools) == 0, "nobody waited for cluster.stall_timeout_s"
    assert executor.totals["generate-main"].counts.rows == 80, "what ran twice is counted once"
    assert wait_for_end([psutil.Process(stopped[0])] if psutil.pid_exists(stopped[0]) else []) == []
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


def test_death_by_hanging_is_noticed_and_the_row_quarantined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synthgen.runtime.executor.ASK_EVERY_S", 0.2)
    settings = SmallRun(
        tmp_path,
        prompts=3,
        unit_size=2,
        echo=EchoConfig(hang="HANG"),
        special={1: "HANG here"},
        cluster=ClusterConfig(stall_timeout_s=4.0, max_task_attempts=1),  # a busy machine stands still for a second
    )
    run = settings.prepare()
    run.execute()
    run.check_complete()
    rows = run.rows()
    assert set(rows.filter(pa.compute.is_valid(rows["error"]))["prompt_id"].to_pylist()) == {run.prompt_ids()[1]}


def test_machine_that_stood_still_as_a_whole_blames_no_replica(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synthgen.runtime.executor.ASK_EVERY_S", 0.2)
    settings = SmallRun(
        tmp_path,
        prompts=4,
        echo=EchoConfig(output_tokens=8, tokens_per_s=2),
        replicas=1,
        cluster=ClusterConfig(stall_timeout_s=4.0),
    )
    run = settings.prepare()
    slept: list[float] = []

    def sleep_once(snapshot: Snapshot, executor: Executor) -> None:
        working = [
            handle.info.pid for pool in executor._pools for handle in pool.handles if handle.info and handle.open
        ]
        if working and not slept:
            slept.append(6.0)
            os.kill(working[0], signal.SIGSTOP)
            time.sleep(slept[0])
            os.kill(working[0], signal.SIGCONT)

    executor = run.execute(sleep_once)
    assert slept
    assert sum(pool.deaths for pool in executor._pools) == 0


def test_requests_that_take_longer_than_the_stall_timeout_are_not_a_stall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synthgen.runtime.executor.ASK_EVERY_S", 0.2)
    settings = SmallRun(
        tmp_path,
        prompts=4,
        echo=EchoConfig(output_tokens=24, tokens_per_s=2),  # no request ends within the first six seconds
        replicas=1,
        cluster=ClusterConfig(stall_timeout_s=4.0),
    )
    run = settings.prepare()
    executor = run.execute()
    assert sum(pool.deaths for pool in executor._pools) == 0
    assert run.rows().equals(undisturbed(settings, tmp_path / "calm"))


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


@pytest.mark.usefixtures("inline")
def test_unit_that_is_made_again_is_judged_again(tmp_path: Path) -> None:
    config = compose_config(
        ["experiment=echo", f"run.dir={tmp_path / 'run'}", "run.unit_size=4", "prompts.limit=8", "cluster.num_cpus=4"]
    )
    run_pipeline(config, quiet=True)
    (made,) = tmp_path.glob("run/stages/generate-*/unit-000000.parquet")
    judged = sorted(tmp_path.glob("run/stages/judge-*/unit-*.parquet"))
    before = [path.stat().st_mtime_ns for path in judged]
    made.write_bytes(made.read_bytes()[:-20])
    report = run_pipeline(config, quiet=True)
    assert report["stages"]["judge"]["rows"] > 0
    assert [path.stat().st_mtime_ns != mtime for path, mtime in zip(judged, before, strict=True)] == [True, False]


@pytest.mark.usefixtures("inline")
def test_damage_that_the_export_finds_is_mended_by_the_same_start(tmp_path: Path) -> None:
    config = compose_config(
        ["experiment=echo", f"run.dir={tmp_path / 'run'}", "run.unit_size=4", "prompts.limit=16", "cluster.num_cpus=4"]
    )
    first = run_pipeline(config, quiet=True)
    for pattern, unit in (("generate-*", 0), ("judge-*", 1), ("judge-*", 3)):
        (path,) = tmp_path.glob(f"run/stages/{pattern}/unit-{unit:06d}.parquet")
        data = bytearray(path.read_bytes())
        data[10:60] = bytes(50)
        path.write_bytes(bytes(data))
    again = run_pipeline(config, quiet=True)
    assert again["stages"]["generate-main"]["reused_units"] == 3
    assert again["stages"]["judge"]["reused_units"] == 1
    assert again["pairs"] == first["pairs"]


def test_part_that_is_damaged_or_of_older_inputs_is_made_again(tmp_path: Path) -> None:
    run = SmallRun(tmp_path).prepare()
    run.execute()
    before = run.rows()
    inputs = digests_of({PROMPTS: run.run_dir.read_unit(PROMPTS, 1)})
    whole = run.run_dir.read_unit(run.directory, 1)
    run.run_dir.storage.delete(unit_path(run.directory, 1))
    run.run_dir.commit_part(run.directory, 1, (0, 1), whole.slice(0, 2), UnitCounts(rows=2), inputs)
    run.run_dir.commit_part(run.directory, 1, (1, 2), whole.slice(6, 2), UnitCounts(rows=2), {PROMPTS: "another"})
    run.run_dir.commit_part(run.directory, 1, (2, 4), whole.slice(4, 4), UnitCounts(rows=4), inputs)
    damaged = Path(run.run_dir.url) / part_path(run.directory, 1, (2, 4))
    data = bytearray(damaged.read_bytes())
    data[20:40] = bytes(20)
    damaged.write_bytes(bytes(data))
    executor = run.execute()
    assert run.rows().equals(before)
    assert executor.totals["generate-main"].counts.requests == 3, "rows 1 to 3; row 0 is kept"
    assert len(run.run_dir.storage.list("failures/torn")) == 2


def test_damaged_prompts_are_read_from_the_source_again(tmp_path: Path) -> None:
    run = SmallRun(tmp_path).prepare()
    path = Path(run.run_dir.url) / unit_path(PROMPTS, 2)
    data = bytearray(path.read_bytes())
    data[20:60] = bytes(40)
    path.write_bytes(bytes(data))
    with pytest.raises(RunFailedError, match="start the same command again"):
        run.execute()
    again = run.settings.prepare()
    again.execute()
    again.check_complete()
    assert again.rows().equals(undisturbed(run.settings, tmp_path / "calm"))


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

    done_at_stop: list[int] = []

    def stop(snapshot: Snapshot, executor: Executor) -> None:
        in_flight = any(handle.open for pool in executor._pools for handle in pool.handles)
        if not done_at_stop and snapshot.stages["generate-main"].done >= 2 and in_flight:
            done_at_stop.append(snapshot.stages["generate-main"].done)
            executor.stop(RunStoppedError("SIGTERM received"))

    with pytest.raises(RunStoppedError):
        run.execute(stop)
    assert done_at_stop[0] < len(run.run_dir.committed(run.directory)) < 24
    run.settings.echo.tokens_per_s = 0
    run.execute()
    run.check_complete()
    assert run.rows().equals(undisturbed(settings, tmp_path / "calm"))


def test_replica_that_dies_while_the_run_stops_does_not_make_it_a_failure(tmp_path: Path) -> None:
    settings = SmallRun(
        tmp_path,
        prompts=8,
        echo=EchoConfig(output_tokens=20, tokens_per_s=10),
        replicas=1,
        cluster=ClusterConfig(max_engine_restarts=0),
    )

    def stop(snapshot: Snapshot, executor: Executor) -> None:
        for pool in executor._pools:
            for handle in pool.handles:
                if handle.info is not None and handle.open and executor._stop_reason is None:
                    executor.stop(RunStoppedError("SIGTERM received"))
                    os.kill(handle.info.pid, signal.SIGKILL)

    with pytest.raises(RunStoppedError, match="SIGTERM"):
        settings.prepare().execute(stop)


def test_stop_that_comes_with_the_last_commit_is_not_forgotten(tmp_path: Path) -> None:
    run = SmallRun(tmp_path, prompts=4, replicas=1).prepare()

    def stop(snapshot: Snapshot, executor: Executor) -> None:
        if snapshot.stages["generate-main"].done == 1:
            executor.stop(RunStoppedError("SIGTERM received"))

    with pytest.raises(RunStoppedError):
        run.execute(stop)
    run.check_complete()


def test_budget_stops_the_run(tmp_path: Path) -> None:
    settings = SmallRun(tmp_path)
    run = settings.prepare()
    run.config.run.max_gpu_hours = 0.0
    with pytest.raises(RunStoppedError, match=r"run\.max_gpu_hours=0"):
        run.execute()


def _lines(run: Prepared, path: str) -> list[str]:
    return run.run_dir.storage.read(path).decode().splitlines()
