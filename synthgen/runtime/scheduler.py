"""The scheduler: which (stage, unit) task goes next. Pure state, no clock, no Ray, no files.

A task is ready when its inputs are committed. It holds one byte per (stage, unit), so 100,000 units cost next to
nothing. Tasks whose engine died come back; a task that keeps killing engines runs alone on a replica, and dies alone:
then it is split in halves until one row is left, which is quarantined (its task is handed out with `quarantine` set and
needs no engine).

One file because all of it is about the same bytes.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

WAITING, READY, RUNNING, SPLIT, DONE = range(5)


@dataclass(frozen=True, slots=True)
class StageNode:
    """A stage as the scheduler sees it: `upstream` are the stages whose unit must be committed first."""

    name: str
    pool: str
    upstream: tuple[str, ...] = ()
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of work for one replica.

    Attributes:
        stage: name of the stage.
        unit: number of the unit.
        rows: None for the whole unit, else the half-open range of its prompts that this part covers.
        deaths: engines that died under it so far.
        quarantine: the single row of `rows` kills engines; write it down as failed without running it.
        merge: all parts of the unit are committed; join them into the unit's file. Needs no engine.
        parts: with `merge`, the ranges to join, in order.
    """

    stage: str
    unit: int
    rows: tuple[int, int] | None = None
    deaths: int = 0
    quarantine: bool = False
    merge: bool = False
    parts: tuple[tuple[int, int], ...] = ()


class Scheduler:
    """Hands out tasks to pools that pull.

    Args:
        stages: in the order of the flow; every `upstream` name is a stage before it.
        unit_rows: prompts per unit; len is the number of units.
        done: committed units by stage name.
        parts: committed parts of units that were split before, by stage name and unit.
        max_task_attempts: engine deaths after which a task runs alone, so that the next death convicts it.
        limit: units from this one on are left alone, until `extend` says otherwise; None: all are wanted.

    Attributes:
        on_whole: called when a unit is committed in every stage.
    """

    def __init__(
        self,
        stages: Sequence[StageNode],
        unit_rows: Sequence[int],
        done: Mapping[str, Iterable[int]] | None = None,
        parts: Mapping[str, Mapping[int, Sequence[tuple[int, int]]]] | None = None,
        *,
        max_task_attempts: int = 2,
        limit: int | None = None,
    ) -> None:
        self.on_whole: Callable[[], None] = lambda: None
        self.stages = {stage.name: stage for stage in stages}
        self.unit_rows = unit_rows
        self._max_task_attempts = max_task_attempts
        units = len(unit_rows)
        self.limit = units if limit is None else min(limit, units)
        self._state = {name: bytearray(units) for name in self.stages}
        self._ready: dict[str, list[int]] = {name: [] for name in self.stages}
        self._retries: dict[str, deque[Task]] = {name: deque() for name in self.stages}
        self._alone: dict[str, deque[Task]] = {name: deque() for name in self.stages}
        self._parts_done: dict[tuple[str, int], set[tuple[int, int]]] = {}
        self._done_count: dict[str, int] = dict.fromkeys(self.stages, 0)
        self._downstream = {n: [s.name for s in stages if n in s.upstream] for n in self.stages}
        for name, finished in (done or {}).items():
            for unit in finished:
                if name in self._state and unit < units and self._state[name][unit] != DONE:
                    self._state[name][unit] = DONE
                    self._done_count[name] += 1
        for name, by_unit in (parts or {}).items():
            for unit, ranges in by_unit.items():
                if name in self._state and unit < units and self._state[name][unit] != DONE:
                    self._parts_done[name, unit] = set(ranges)
        self._find_ready(range(self.limit))

    @property
    def finished(self) -> bool:
        """Whether every unit of every stage is committed, of those that are wanted."""
        return all(self.left(name) == 0 for name in self.stages)

    def left(self, stage: str) -> int:
        """Return how many units of a stage are not committed yet, of those that are wanted."""
        if self.limit == len(self.unit_rows):
            return self.limit - self._done_count[stage]
        return self.limit - self._state[stage].count(DONE, 0, self.limit)

    def is_whole(self, unit: int) -> bool:
        """Return whether a unit is committed in every stage."""
        return all(state[unit] == DONE for state in self._state.values())

    def extend(self, limit: int) -> None:
        """Want the units up to `limit` too."""
        before, self.limit = self.limit, max(self.limit, min(limit, len(self.unit_rows)))
        self._find_ready(range(before, self.limit))

    def end_at(self, limit: int) -> None:
        """Want no unit from `limit` on any more; what runs of them is of no use."""
        self.limit = min(self.limit, limit)
        for name, ready in self._ready.items():
            for unit in ready:
                if unit >= self.limit and self._state[name][unit] == READY:  # and not committed by a second copy
                    self._state[name][unit] = WAITING  # until `extend` wants it
            ready[:] = [unit for unit in ready if unit < self.limit]
            heapq.heapify(ready)

    def done(self, stage: str) -> int:
        """Return how many units of a stage are committed."""
        return self._done_count[stage]

    def is_done(self, stage: str, unit: int) -> bool:
        """Return whether a unit of a stage is committed."""
        return self._state[stage][unit] == DONE

    def ready(self, pool: str) -> int:
        """Return how many tasks of a pool can be handed out now."""
        return sum(
            len(self._ready[name]) + len(self._retries[name]) + len(self._alone[name]) for name in self._names(pool)
        )

    def remaining(self, pool: str) -> int:
        """Return how many units of a pool's stages are not committed yet."""
        return sum(self.left(name) for name in self._names(pool))

    def next_task(self, pool: str, *, idle: bool) -> Task | None:
        """Return the pool's next task, or None.

        Args:
            pool: the pool that asks.
            idle: whether the replica that asks has no other task open; tasks under suspicion go only to such a one.
        """
        for name in sorted(self._names(pool), key=lambda n: self.stages[n].priority):
            while (task := self._take(name, idle)) is not None:
                if self._state[name][task.unit] == DONE:  # a second copy of it came first
                    continue
                if self.is_stale(task):
                    self._state[name][task.unit] = WAITING
                    continue
                if self._state[name][task.unit] == READY:
                    self._state[name][task.unit] = RUNNING
                return task
        return None

    def suspects(self, pool: str) -> int:
        """Return how many tasks wait for a replica of their own."""
        return sum(len(self._alone[name]) for name in self._names(pool))

    def complete(self, task: Task) -> bool:
        """Record that a task's file is committed. Return whether a whole unit became done by it."""
        if self._state[task.stage][task.unit] == DONE:
            return False
        if task.rows is not None:
            self._complete_part(task)
            return False
        self._mark_done(task.stage, task.unit)
        return True

    def give_back(self, task: Task) -> None:
        """Return a task that did not run to its end through no fault of its own (its node went, the run stopped)."""
        if self._state[task.stage][task.unit] != DONE:
            self._requeue(task)

    def died(self, task: Task, *, alone: bool) -> list[Task]:
        """Return a task whose engine died under it. `alone`: it was the replica's only open task, so it is to blame.

        Returns:
            the tasks that take its place, for the log.
        """
        if self._state[task.stage][task.unit] == DONE:
            return []
        convicted = alone and task.deaths >= self._max_task_attempts
        task = replace(task, deaths=task.deaths + 1)
        if not convicted:
            self._requeue(task)
            return [task]
        low, high = task.rows or (0, self.unit_rows[task.unit])
        if high - low > 1:
            middle = (low + high) // 2
            pieces = [replace(task, rows=(low, middle)), replace(task, rows=(middle, high))]
            self._state[task.stage][task.unit] = SPLIT
        else:
            pieces = [replace(task, rows=(low, high), quarantine=True)]
            self._state[task.stage][task.unit] = SPLIT
        for piece in pieces:
            self._requeue(piece)
        return pieces

    def invalidate(self, stage: str, unit: int) -> list[tuple[str, int]]:
        """Take back a committed unit whose file cannot be used, and the units that were made from it.

        What is running on it is found out by `is_stale` when it ends.

        Returns:
            the (stage, unit) whose files are to be set aside, what was made from a unit before the unit itself.
        """
        if self._state[stage][unit] != DONE:
            return []
        self._done_count[stage] -= 1
        self._state[stage][unit] = WAITING
        taken_back = []
        for name in self._downstream[stage]:
            taken_back += self.invalidate(name, unit)
            if self._state[name][unit] == READY:
                self._state[name][unit] = WAITING
                self._ready[name].remove(unit)
                heapq.heapify(self._ready[name])
        if self._inputs_done(self.stages[stage], unit):
            self._make_ready(stage, unit)
        return [*taken_back, (stage, unit)]

    def is_stale(self, task: Task) -> bool:
        """Return whether an input of a task that has ended was taken back while it ran: its output is of no use."""
        return not self._inputs_done(self.stages[task.stage], task.unit)

    def wait_again(self, task: Task) -> None:
        """Put back a task that could not use one of its inputs: it becomes ready when all of them are committed."""
        if self._state[task.stage][task.unit] == DONE:
            return
        if not self.is_stale(task):
            self._requeue(task)
            return
        self._state[task.stage][task.unit] = WAITING

    def part_lost(self, task: Task, rows: tuple[int, int]) -> None:
        """Do again what is missing of a split unit whose merging found that the part `rows` cannot be used."""
        if self._state[task.stage][task.unit] != DONE:
            self._parts_done[task.stage, task.unit].discard(rows)
            self._resume_split(task.stage, task.unit)

    def _take(self, name: str, idle: bool) -> Task | None:
        if idle and self._alone[name]:
            return self._alone[name].popleft()
        if self._retries[name]:
            return self._retries[name].popleft()
        ready = self._ready[name]
        return Task(name, heapq.heappop(ready)) if ready else None

    def _find_ready(self, units: range) -> None:
        for stage in self.stages.values():
            state = self._state[stage.name]
            for unit in [unit for unit in units if state[unit] == WAITING and self._inputs_done(stage, unit)]:
                self._make_ready(stage.name, unit)

    def _names(self, pool: str) -> list[str]:
        return [name for name, stage in self.stages.items() if stage.pool == pool]

    def _inputs_done(self, stage: StageNode, unit: int) -> bool:
        return all(self._state[name][unit] == DONE for name in stage.upstream)

    def _make_ready(self, name: str, unit: int) -> None:
        if (name, unit) in self._parts_done:
            self._state[name][unit] = SPLIT
            self._resume_split(name, unit)
        elif unit < self.limit:
            self._state[name][unit] = READY
            heapq.heappush(self._ready[name], unit)

    def _mark_done(self, name: str, unit: int) -> None:
        self._state[name][unit] = DONE
        self._done_count[name] += 1
        self._parts_done.pop((name, unit), None)
        for below in self._downstream[name]:
            wanted = unit < self.limit and self._state[below][unit] == WAITING
            if wanted and self._inputs_done(self.stages[below], unit):
                self._make_ready(below, unit)
        if self.is_whole(unit):
            self.on_whole()

    def _requeue(self, task: Task) -> None:
        alone = task.deaths >= self._max_task_attempts and not task.quarantine and not task.merge
        (self._alone if alone else self._retries)[task.stage].append(task)

    def _complete_part(self, task: Task) -> None:
        assert task.rows is not None
        done = self._parts_done.setdefault((task.stage, task.unit), set())
        done.add(task.rows)
        parts = _cover(done, self.unit_rows[task.unit])
        if parts is not None:
            self._retries[task.stage].append(Task(task.stage, task.unit, merge=True, parts=parts))

    def _resume_split(self, name: str, unit: int) -> None:
        """Queue what is missing of a unit that was split before. Of parts that overlap some are not used."""
        rows = self.unit_rows[unit]
        done = self._parts_done[name, unit]
        parts = _cover(done, rows)
        if parts is not None:
            self._retries[name].append(Task(name, unit, merge=True, parts=parts))
            return
        position = 0
        for low, high in [*sorted(part for part in done if part[1] <= rows), (rows, rows)]:
            if low < position:
                continue
            if low > position:
                self._alone[name].append(Task(name, unit, rows=(position, low), deaths=self._max_task_attempts))
            position = high


def _cover(ranges: Iterable[tuple[int, int]], rows: int) -> tuple[tuple[int, int], ...] | None:
    """Return ranges that tile [0, rows) in order, or None where there are none. The ranges may overlap."""
    start_of = {0: 0}  # end of a tiled stretch → start of its last range
    for low, high in sorted(ranges):
        if low in start_of and high > low:
            start_of.setdefault(high, low)
    if rows not in start_of:
        return None
    chosen: list[tuple[int, int]] = []
    position = rows
    while position > 0:
        chosen.append((start_of[position], position))
        position = start_of[position]
    return tuple(reversed(chosen))
