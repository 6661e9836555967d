"""What becomes of tasks and pools when something ends badly, on fake replicas."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from synthgen.config import ClusterConfig
from synthgen.errors import ConfigError, EngineDeadError, RunFailedError
from synthgen.ledger.run_dir import CorruptUnitError, RunDir
from synthgen.observe.snapshot import StageTotals
from synthgen.runtime.losses import MOST_UNREADABLE, Losses
from synthgen.runtime.replica_info import Place
from synthgen.runtime.scheduler import Scheduler, Task
from tests.runtime.test_pool_sizes import FLOW, FakePool, open_task

TOTALS = {name: StageTotals(directory=f"stages/{name}-abc") for name in ("generate", "judge")}


def make_losses(tmp_path: Path, scheduler: Scheduler, cluster: ClusterConfig) -> Losses:
    losses = Losses(RunDir(str(tmp_path)), scheduler, cluster, TOTALS, None)
    losses._node_is_gone = lambda handle: False  # type: ignore[method-assign]
    return losses


def make_pool(replicas: int) -> FakePool:
    pool = FakePool("writer", replicas)
    for number in range(replicas):
        pool.start_replica().place = Place("node", (str(number),))
    return pool


def test_gpu_that_kills_every_engine_is_given_up_though_others_commit(tmp_path: Path) -> None:
    scheduler = Scheduler(FLOW, [1] * 40)
    losses = make_losses(tmp_path, scheduler, ClusterConfig(max_engine_restarts=3))
    pool = make_pool(2)
    for death in range(4):
        assert pool.most_replicas == 2
        bad = next(handle for handle in pool.handles if handle.place == Place("node", ("1",)))
        losses.replica_died(pool, bad, EngineDeadError("CUDA error"))
        pool.deaths_without_commit = 0  # the other replica commits
        if death < 3:
            pool.start_replica().place = Place("node", ("1",))
    assert (pool.most_replicas, len(pool.handles)) == (1, 1)


def test_last_replica_that_does_not_start_ends_the_run(tmp_path: Path) -> None:
    losses = make_losses(tmp_path, Scheduler(FLOW, [1] * 4), ClusterConfig(max_load_attempts=1))
    pool = make_pool(2)
    losses.load_failed(pool, pool.handles[0], EngineDeadError("no memory"))
    assert (pool.most_replicas, len(pool.handles)) == (1, 1)
    pool.handles[0].created_at += 1000.0  # started after the first failure was known
    with pytest.raises(RunFailedError, match=r"cluster\.max_load_attempts"):
        losses.load_failed(pool, pool.handles[0], EngineDeadError("no memory"))


def test_replica_that_cannot_read_what_the_driver_can_counts_as_dead(tmp_path: Path) -> None:
    scheduler = Scheduler(FLOW, [1] * 8, {"generate": range(8)})
    run_dir = RunDir(str(tmp_path))
    run_dir.commit_unit("stages/generate-abc", 0, pa.table({"prompt_id": ["a"]}))
    losses = make_losses(tmp_path, scheduler, ClusterConfig())
    pool = make_pool(1)
    (handle,) = pool.handles
    error = CorruptUnitError("stages/generate-abc", 0, "is not a whole Parquet file: stale mount")
    for _ in range(MOST_UNREADABLE):
        task = scheduler.next_task("judge", idle=True)
        assert task == Task("judge", 0)
        open_task(handle, task)
        (ref,) = handle.open
        losses.task_failed(pool, handle, ref, task, error)
    assert pool.handles == []
    assert run_dir.committed("stages/generate-abc") == {0}


def test_what_a_replica_says_of_the_run_ends_it_in_its_words(tmp_path: Path) -> None:
    """A judge whose every row fails says so itself: that line is shown, and not that some unit failed."""
    scheduler = Scheduler(FLOW, [1] * 4)
    losses = make_losses(tmp_path, scheduler, ClusterConfig())
    pool = make_pool(1)
    for error, message in (
        (RunFailedError("no row of it can be judged"), "^no row"),
        (ConfigError("a key"), "^a key$"),
    ):
        task = scheduler.next_task("writer", idle=True)
        assert task is not None
        open_task(pool.handles[0], task)
        (ref,) = pool.handles[0].open
        with pytest.raises(type(error), match=message):
            losses.task_failed(pool, pool.handles[0], ref, task, error)


def test_one_task_is_blamed_for_a_death_and_several_are_not(tmp_path: Path) -> None:
    scheduler = Scheduler(FLOW, [1] * 4, max_task_attempts=2)
    blamed: list[tuple[int, bool]] = []
    scheduler.died = lambda task, alone: blamed.append((task.unit, alone)) or []  # type: ignore[assignment,func-returns-value]
    losses = make_losses(tmp_path, scheduler, ClusterConfig())
    for number in (2, 1):
        pool = make_pool(1)
        (handle,) = pool.handles
        for _ in range(number):
            task = scheduler.next_task("writer", idle=True)
            assert task is not None
            open_task(handle, task)
        losses.replica_died(pool, handle, EngineDeadError("CUDA error"))
        assert pool.handles == []  # the dead one is ended, whatever is left of it
    assert blamed == [(0, False), (1, False), (2, True)]


@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize("loaded", [True, False])
def test_replica_that_was_out_of_reach_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: bool, loaded: bool
) -> None:
    """One that answers again has lost who knows what, and is nobody's fault; one that is gone is a death, or a try."""
    import ray

    def get(ref: object) -> None:
        if not answers:
            raise EngineDeadError("gone")

    monkeypatch.setattr(ray, "get", get)
    scheduler = Scheduler(FLOW, [1] * 4)
    losses = make_losses(tmp_path, scheduler, ClusterConfig(max_load_attempts=5))
    pool = make_pool(1)
    (handle,) = pool.handles
    task = scheduler.next_task("writer", idle=True)
    assert task is not None
    if loaded:
        open_task(handle, task)
    else:
        handle.info = None
    losses.book_verdict(pool, handle)
    assert pool.handles == []
    assert pool.deaths == (loaded and not answers)
    assert pool.load_failures == (not loaded and not answers)
    if loaded:
        again = scheduler.next_task("writer", idle=True)
        assert again is not None
        assert (again.unit, again.deaths) == (task.unit, 0 if answers else 1)
