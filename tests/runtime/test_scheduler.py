"""The scheduler's rules, on plain state: no Ray, no files, no clock."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen.runtime.scheduler import Scheduler, StageNode, Task

FLOW = [
    StageNode("generate-a", "a", (), 10),
    StageNode("generate-b", "b", (), 10),
    StageNode("judge", "j", ("generate-a", "generate-b"), 0),
]


def ranges_within(rows: int) -> st.SearchStrategy[tuple[int, int]]:
    """Half-open ranges of [0, rows) that are not empty."""
    return st.integers(0, rows - 1).flatmap(lambda low: st.tuples(st.just(low), st.integers(low + 1, rows)))


def test_next_task_waits_for_all_inputs() -> None:
    scheduler = Scheduler(FLOW, [4, 4])
    assert scheduler.next_task("j", idle=True) is None
    a, b = scheduler.next_task("a", idle=True), scheduler.next_task("b", idle=True)
    assert a == Task("generate-a", 0)
    assert b == Task("generate-b", 0)
    scheduler.complete(a)
    assert scheduler.next_task("j", idle=True) is None
    scheduler.complete(b)
    assert scheduler.next_task("j", idle=True) == Task("judge", 0)


def test_next_task_judges_first_where_a_pool_is_shared() -> None:
    shared = [StageNode("generate-a", "p", (), 10), StageNode("judge", "p", ("generate-a",), 0)]
    scheduler = Scheduler(shared, [1, 1, 1])
    first = scheduler.next_task("p", idle=False)
    assert first == Task("generate-a", 0)
    scheduler.complete(first)
    assert scheduler.next_task("p", idle=False) == Task("judge", 0)


def test_resume_hands_out_only_what_is_missing() -> None:
    scheduler = Scheduler(FLOW, [1] * 4, {"generate-a": [0, 1, 2, 3], "generate-b": [0, 2], "judge": [0]})
    assert scheduler.ready("a") == 0
    assert scheduler.ready("b") == 2
    assert scheduler.next_task("j", idle=True) == Task("judge", 2)
    assert scheduler.next_task("j", idle=True) is None


def test_resume_passes_over_what_is_no_task_of_it() -> None:
    """Units of a stage that is gone, units beyond a shrunk run, and one that is named twice."""
    scheduler = Scheduler(FLOW[:1], [1, 1], {"generate-z": [0], "generate-a": [0, 0, 7]})
    assert scheduler.done("generate-a") == 1
    assert scheduler.remaining("a") == 1
    assert scheduler.next_task("a", idle=True) == Task("generate-a", 1)


def test_died_splits_only_a_task_that_was_alone_and_ends_in_quarantine() -> None:
    scheduler = Scheduler(FLOW[:1], [4], max_task_attempts=2)
    poisonous = 2
    deaths = 0
    quarantined: list[tuple[int, int] | None] = []
    finished_rows: list[int] = []
    for _ in range(40):
        if scheduler.finished:
            break
        task = scheduler.next_task("a", idle=True)
        assert task is not None
        low, high = task.rows or (0, 4)
        if task.quarantine:
            quarantined.append(task.rows)
            scheduler.complete(task)
        elif task.merge:
            assert task.parts[0][0] == 0
            assert task.parts[-1][1] == 4
            scheduler.complete(task)
        elif low <= poisonous < high:
            deaths += 1
            scheduler.died(task, alone=True)
        else:
            finished_rows.extend(range(low, high))
            scheduler.complete(task)
    assert scheduler.finished
    assert quarantined == [(2, 3)]
    assert sorted(finished_rows) == [0, 1, 3]
    assert deaths == 5  # twice on suspicion, then whole, half and single row alone


def test_died_together_convicts_nobody() -> None:
    scheduler = Scheduler(FLOW[:1], [4, 4], max_task_attempts=2)
    for _ in range(5):
        tasks = [scheduler.next_task("a", idle=True), scheduler.next_task("a", idle=True)]
        for task in tasks:
            assert task is not None
            assert task.rows is None
            scheduler.died(task, alone=False)


def test_suspects_go_only_to_idle_replicas() -> None:
    scheduler = Scheduler(FLOW[:1], [4], max_task_attempts=1)
    task = scheduler.next_task("a", idle=False)
    assert task is not None
    scheduler.died(task, alone=False)
    assert scheduler.suspects("a") == 1
    assert scheduler.next_task("a", idle=False) is None
    assert scheduler.next_task("a", idle=True) == replace(task, deaths=1)


def test_resume_goes_on_with_a_split_unit() -> None:
    scheduler = Scheduler(FLOW[:1], [8], parts={"generate-a": {0: [(0, 2), (4, 8)]}})
    task = scheduler.next_task("a", idle=True)
    assert task is not None
    assert task.rows == (2, 4)
    scheduler.complete(task)
    merge = scheduler.next_task("a", idle=True)
    assert merge is not None
    assert merge.merge
    assert merge.parts == ((0, 2), (2, 4), (4, 8))
    scheduler.complete(merge)
    assert scheduler.finished


def drain(scheduler: Scheduler, pool: str) -> int:
    """Complete whatever a pool has to do, and return how many tasks that took."""
    tasks = 0
    while (task := scheduler.next_task(pool, idle=True)) is not None:
        scheduler.complete(task)
        tasks += 1
    return tasks


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 12).flatmap(lambda rows: st.tuples(st.just(rows), st.sets(ranges_within(rows)))))
def test_resume_goes_on_from_any_parts_also_those_that_overlap(case: tuple[int, set[tuple[int, int]]]) -> None:
    rows, parts = case
    scheduler = Scheduler(FLOW[:1], [rows], parts={"generate-a": {0: sorted(parts)}})
    merges = []
    while (task := scheduler.next_task("a", idle=True)) is not None:
        if task.merge:
            merges.append(task.parts)
        scheduler.complete(task)
    assert scheduler.finished
    if merges:
        assert [low for low, _ in merges[0]] == [0, *[high for _, high in merges[0][:-1]]]
        assert merges[0][-1][1] == rows


def test_part_lost_is_done_again_and_merged() -> None:
    scheduler = Scheduler(FLOW[:1], [8], parts={"generate-a": {0: [(0, 4), (4, 8)]}})
    merge = scheduler.next_task("a", idle=True)
    assert merge is not None
    assert merge.merge
    scheduler.part_lost(merge, (4, 8))
    again = scheduler.next_task("a", idle=True)
    assert again is not None
    assert again.rows == (4, 8)
    scheduler.complete(again)
    assert scheduler.next_task("a", idle=True) == merge
    scheduler.complete(Task("generate-a", 0))  # a copy of the whole unit that came meanwhile
    scheduler.part_lost(merge, (0, 4))
    assert scheduler.finished


def test_invalidate_takes_back_what_was_made_from_the_unit() -> None:
    flow = [StageNode("generate-a", "p", (), 10), StageNode("judge", "p", ("generate-a",), 0)]
    scheduler = Scheduler(flow, [1, 1], {"generate-a": [0, 1], "judge": [0, 1]})
    assert scheduler.invalidate("generate-a", 0) == [("judge", 0), ("generate-a", 0)]
    assert scheduler.done("judge") == 1
    again = scheduler.next_task("p", idle=True)
    assert again == Task("generate-a", 0)
    assert scheduler.next_task("p", idle=True) is None
    scheduler.complete(again)
    assert drain(scheduler, "p") == 1
    assert scheduler.finished


def test_task_whose_input_was_taken_back_while_it_ran_is_stale() -> None:
    flow = [StageNode("generate-a", "a"), StageNode("judge", "j", ("generate-a",))]
    scheduler = Scheduler(flow, [1], {"generate-a": [0]})
    judge = scheduler.next_task("j", idle=True)
    assert judge is not None
    assert not scheduler.is_stale(judge)
    scheduler.invalidate("generate-a", 0)
    assert scheduler.is_stale(judge)
    scheduler.wait_again(judge)
    assert scheduler.next_task("j", idle=True) is None
    assert drain(scheduler, "a") == 1
    assert drain(scheduler, "j") == 1
    assert scheduler.finished


def test_invalidate_makes_a_unit_again_before_what_needs_it() -> None:
    flow = [StageNode("generate-a", "a"), StageNode("judge", "j", ("generate-a",))]
    scheduler = Scheduler(flow, [1, 1], {"generate-a": [0, 1]})
    judge = scheduler.next_task("j", idle=True)
    assert judge == Task("judge", 0)
    scheduler.invalidate("generate-a", 0)
    scheduler.wait_again(judge)
    assert scheduler.next_task("j", idle=True) == Task("judge", 1)
    assert scheduler.next_task("j", idle=True) is None
    again = scheduler.next_task("a", idle=True)
    assert again == Task("generate-a", 0)
    scheduler.complete(again)
    assert scheduler.next_task("j", idle=True) == judge


def test_complete_twice_counts_once() -> None:
    scheduler = Scheduler(FLOW[:1], [1])
    task = scheduler.next_task("a", idle=True)
    assert task is not None
    assert scheduler.complete(task)
    assert not scheduler.complete(task)
    assert scheduler.done("generate-a") == 1


def test_next_task_drops_what_a_second_copy_has_done() -> None:
    scheduler = Scheduler(FLOW[:1], [1, 1])
    task = scheduler.next_task("a", idle=True)
    assert task is not None
    scheduler.give_back(task)
    scheduler.complete(task)
    assert scheduler.next_task("a", idle=True) == Task("generate-a", 1)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_any_order_of_deaths_and_commits_finishes_every_unit_once(units: int, seed: int, attempts: int) -> None:
    """Whatever dies and whenever, every unit of every stage is committed exactly once, and in the order of the flow."""
    rng = random.Random(seed)
    scheduler = Scheduler(FLOW, [rng.randint(1, 5) for _ in range(units)], max_task_attempts=attempts)
    running: list[Task] = []
    committed: dict[tuple[str, int], int] = {}
    for _ in range(20_000):
        if scheduler.finished and not running:
            break
        pool = rng.choice("abj")
        task = scheduler.next_task(pool, idle=not any(t.stage == pool for t in running))
        if task is not None:
            running.append(task)
        if running and rng.random() < 0.8:
            task = running.pop(rng.randrange(len(running)))
            fate = rng.random()
            if fate < 0.15 and not task.merge and not task.quarantine:
                scheduler.died(task, alone=rng.random() < 0.5)
            elif fate < 0.25:
                scheduler.give_back(task)
            elif scheduler.complete(task):
                key = (task.stage, task.unit)
                committed[key] = committed.get(key, 0) + 1
                if task.stage == "judge":
                    assert committed["generate-a", task.unit] == committed["generate-b", task.unit] == 1
    assert scheduler.finished
    assert committed == {(stage.name, unit): 1 for stage in FLOW for unit in range(units)}
