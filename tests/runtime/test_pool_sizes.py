"""Who starts and who gives its room away, on fake replicas: the rules alone."""

from __future__ import annotations

import time
from typing import Any

import pytest

from synthgen.config import ModelConfig
from synthgen.ledger.run_dir import RunDir
from synthgen.runtime.pool_sizes import STARVED_AFTER_S, adjust_pools
from synthgen.runtime.pools import Pool, PoolSpec, ReplicaHandle
from synthgen.runtime.scheduler import Scheduler, StageNode, Task
from synthgen.runtime.stragglers import find_late_task

FLOW = [StageNode("generate", "writer", (), 10), StageNode("judge", "judge", ("generate",), 0)]


class FakePool(Pool):
    """A pool whose replicas are placed where there is room, and never run anything."""

    def __init__(self, name: str, replicas: int, *, room: bool = True, eager: bool = True) -> None:
        super().__init__(PoolSpec(name, ModelConfig(), {}, replicas, eager=eager), RunDir("run"), None, {})
        self.room = room
        self.started = 0

    def start_replica(self) -> ReplicaHandle:
        self.started += 1
        handle = ReplicaHandle(f"{self.spec.name}-{self.started}", None, None, None)
        if self.room:
            handle.placed_at = time.monotonic()
            handle.info = object()  # type: ignore[assignment]
        self.handles.append(handle)
        return handle

    def end_replica(self, handle: ReplicaHandle, *, timeout_s: float = 0) -> None:
        self.handles.remove(handle)

    def kill_replica(self, handle: ReplicaHandle) -> None:
        self.handles.remove(handle)


def open_task(handle: ReplicaHandle, task: Task, open_s: float = 0.0) -> None:
    ref: Any = object()
    handle.open[ref] = task
    handle.opened_at[ref] = time.monotonic() - open_s


def wait_for_room(pool: FakePool) -> None:
    """Let the pool's replicas have waited for room."""
    for handle in pool.handles:
        handle.created_at = time.monotonic() - STARVED_AFTER_S - 1


def test_replica_whose_process_just_starts_takes_nobodys_room() -> None:
    scheduler = Scheduler(FLOW, [1] * 4, {"generate": [0, 1, 2]})
    writer, judge = FakePool("writer", 1, room=False), FakePool("judge", 1)
    judge.start_replica()
    for unit in range(3):
        open_task(judge.handles[0], scheduler.next_task("judge", idle=False))  # type: ignore[arg-type]
        scheduler.complete(Task("judge", unit))
    judge.handles[0].open.clear()
    adjust_pools([writer, judge], scheduler)
    assert (len(writer.handles), len(judge.handles)) == (1, 1)
    wait_for_room(writer)
    adjust_pools([writer, judge], scheduler)
    assert (len(writer.handles), len(judge.handles)) == (1, 0)


def test_room_that_was_given_away_is_not_taken_back_while_the_other_waits() -> None:
    scheduler = Scheduler(FLOW, [1] * 3, {"generate": [0]})
    writer, judge = FakePool("writer", 2), FakePool("judge", 1, room=False, eager=False)
    adjust_pools([writer, judge], scheduler)
    for _ in range(2):
        open_task(writer.handles[0], scheduler.next_task("writer", idle=False))  # type: ignore[arg-type]
    wait_for_room(judge)
    for _ in range(3):
        adjust_pools([writer, judge], scheduler)
    assert (writer.started, len(writer.handles), len(judge.handles)) == (2, 1, 1)


def test_copy_that_lost_its_race_gives_its_room_back() -> None:
    scheduler = Scheduler(FLOW, [1], {})
    writer = FakePool("writer", 2)
    adjust_pools([writer], scheduler)
    task = scheduler.next_task("writer", idle=True)
    assert task is not None
    writer.start_replica()
    open_task(writer.handles[0], task)
    scheduler.complete(task)
    adjust_pools([writer], scheduler)
    assert writer.handles == []


def test_pool_goes_on_with_the_replicas_that_live() -> None:
    scheduler = Scheduler(FLOW, [1] * 8)
    writer = FakePool("writer", 3)
    adjust_pools([writer], scheduler)
    assert len(writer.handles) == 3
    writer.kill_replica(writer.handles[0])
    assert writer.give_up_room()
    adjust_pools([writer], scheduler)
    assert (writer.started, len(writer.handles)) == (3, 2)
    writer.handles.clear()
    assert not writer.give_up_room()


@pytest.mark.parametrize(
    ("open_s", "copies", "deaths", "late"), [(31, 1, 0, True), (29, 1, 0, False), (31, 2, 0, False), (31, 1, 1, False)]
)
def test_find_late_task(open_s: float, copies: int, deaths: int, late: bool) -> None:
    pool = FakePool("writer", 3)
    task = Task("generate", 5, deaths=deaths)
    for _ in range(3):
        pool.start_replica()
    for handle in pool.handles[:copies]:
        open_task(handle, task, open_s)
    scheduler = Scheduler(FLOW, [1] * 6)
    assert find_late_task(pool.handles, scheduler, usual_s=10.0) == (task if late else None)
    scheduler.complete(task)
    assert find_late_task(pool.handles, scheduler, usual_s=10.0) is None
