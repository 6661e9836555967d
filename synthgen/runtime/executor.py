"""The executor: pulls tasks from the scheduler into replicas until the run is complete. It holds counts, never rows.

One loop: start replicas that are wanted, hand out tasks, wait for Ray, book what ended. Ray starts, places and watches
the actors; `losses.py` decides what it means when one of them ends badly.

One file because it is one loop, whose steps share the same counts.
"""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from synthgen.config import ClusterConfig, RunConfig
from synthgen.config.public_names import call_model
from synthgen.errors import EngineDeadError, RunFailedError, RunStoppedError, SynthgenError, first_line
from synthgen.ledger.lease import Lease
from synthgen.ledger.run_dir import RunDir
from synthgen.observe.snapshot import InFlight, Snapshot, StageTotals
from synthgen.records import UnitCounts, add_counts
from synthgen.runtime.failures import FailureWatch, Held
from synthgen.runtime.losses import Losses, LostRef
from synthgen.runtime.pool_sizes import adjust_pools, lost_every_race
from synthgen.runtime.pools import Pool, PoolSpec, ReplicaHandle
from synthgen.runtime.replica_info import Progress
from synthgen.runtime.scheduler import Scheduler, Task
from synthgen.runtime.stragglers import find_late_task

logger = logging.getLogger(__name__)

ASK_EVERY_S = 1.0
SHOW_EVERY_S = 0.25


class Executor:
    """Runs every task of a scheduler on pools of replicas.

    Args:
        run_dir: where units are read and committed.
        scheduler: which task goes next.
        specs: the pools, in the order of the flow.
        run: grace and budgets; cluster: patience.
        lease: checked before anything is handed out.
        observe: called with a Snapshot, up to four times a second.
    """

    def __init__(
        self,
        run_dir: RunDir,
        scheduler: Scheduler,
        specs: Sequence[PoolSpec],
        *,
        run: RunConfig,
        cluster: ClusterConfig,
        lease: Lease,
        observe: Callable[[Snapshot], None],
    ) -> None:
        log_dir = f"{run_dir.url}/logs" if run_dir.storage.root else None
        self._run_dir = run_dir
        self._scheduler = scheduler
        self._pools = [Pool(spec, run_dir, log_dir, cluster.runtime_env, run.max_failed_fraction) for spec in specs]
        self._run = run
        self._cluster = cluster
        self._lease = lease
        self._observe = observe
        self._stop_reason: RunStoppedError | None = None
        self._began = time.monotonic()
        self._gpu_s = 0.0
        self._clock = self._began
        self._shown_at = -math.inf
        self._durations: deque[float] = deque(maxlen=256)
        self._lessons: set[str] = set()
        units = scheduler.limit
        self._unit_size = max(scheduler.unit_rows, default=1)
        directories = {name: files.directory for spec in specs for name, files in spec.stages.items()}
        self._totals = {
            name: StageTotals(
                units=units,
                done=scheduler.done(name),
                reused=scheduler.done(name),
                directory=directories.get(name, ""),
            )
            for name in scheduler.stages
        }
        self._failures = FailureWatch(scheduler, run.max_failed_fraction)
        self._notes: list[str] = []
        self._losses = Losses(run_dir, scheduler, cluster, self._totals, log_dir)

    @property
    def totals(self) -> Mapping[str, StageTotals]:
        """What was done, by stage."""
        return self._totals

    @property
    def notes(self) -> list[str]:
        """What the engines said of themselves that the user should know, one line each."""
        return list(self._notes)

    def stop(self, error: RunStoppedError) -> None:
        """Ask the loop to end: nothing new is handed out, and what is in flight may still commit. Signal-safe."""
        self._stop_reason = self._stop_reason or error

    def run(self) -> list[dict[str, Any]]:
        """Run until everything is committed, and return what each replica did.

        Raises:
            RunFailedError: it cannot go on. RunStoppedError: it was asked to stop. Both keep what was committed.
        """
        try:
            while not self._scheduler.finished:
                self._lease.check()
                self._check_budget()
                if self._stop_reason is not None:
                    self._drain(self._stop_reason)
                self._settle()
                adjust_pools(self._pools, self._scheduler)
                self._hand_out()
                self._check_stuck()
                self._losses.check_own_node(self._pools)
                self._book(timeout_s=0.5)
                self._check_progress()
                self._show()
        finally:
            self._end_all()
        self._observe(self.snapshot())
        if self._stop_reason is not None:  # it came with the last commit
            raise self._stop_reason
        return self.replica_report()

    def snapshot(self) -> Snapshot:
        """Return the state at this moment."""
        for totals in self._totals.values():
            totals.units = self._scheduler.limit
        replicas = [
            {
                "name": handle.name,
                "state": "ready" if handle.info else ("loading" if handle.placed_at else "waiting for resources"),
                "notice": handle.progress.notice,
                "open_units": len(handle.open),
                "completions": handle.progress.completions,
                "output_tokens": max(handle.progress.output_tokens, sum(handle.progress.made.values())),
                "phase": handle.progress.phase if handle.info is None else "",
                "phase_s": round(handle.progress.phase_s, 1),
                "running": handle.progress.running,
                "waiting": handle.progress.waiting,
                "kv_cache_share": handle.progress.kv_cache_share,
            }
            for pool in self._pools
            for handle in pool.handles
        ]
        return Snapshot(
            dict(self._totals),
            replicas,
            time.monotonic() - self._began,
            self._gpu_s / 3600,
            api_usd=self._api_usd(),
            in_flight={name: self._in_flight(name) for name in self._totals},
        )

    def _show(self) -> None:
        """Show the state, but not after every unit of thousands: who looks on sees no more for it."""
        if time.monotonic() - self._shown_at >= SHOW_EVERY_S:
            self._shown_at = time.monotonic()
            self._observe(self.snapshot())

    def _in_flight(self, stage: str) -> InFlight:
        """Return what the replicas have made for units of `stage` that are not committed yet."""
        tokens = ended = requests = units = 0
        for pool in self._pools:
            for handle in pool.handles:
                if open_here := sum(task.stage == stage for task in handle.open.values()):
                    done, total = handle.progress.requests.get(stage, (0, 0))
                    units, ended, requests = units + open_here, ended + done, requests + total
                    tokens += max(0, handle.progress.made.get(stage, 0) - handle.booked[stage])
        return InFlight(tokens, ended, requests, units)

    def replica_report(self) -> list[dict[str, Any]]:
        """Return for each replica what it did; `waiting_share` is time without work over busy time."""
        return [
            {
                "name": name,
                "completions": progress.completions,
                "output_tokens": progress.output_tokens,
                "busy_s": round(progress.busy_s, 3),
                "waiting_s": round(progress.waiting_s, 3),
                "waiting_share": round(progress.waiting_s / progress.busy_s, 4) if progress.busy_s else None,
            }
            for pool in self._pools
            for name, progress in pool.finished.items()
        ]

    # Tasks

    def _settle(self) -> None:
        """Have held units committed where their failures are the rows' own, or end the run where they are not."""
        try:
            ready = self._failures.settle(lambda handle: any(handle in pool.handles for pool in self._pools))
        except RunFailedError as error:
            self._drain(error)
        for handle, task in ready:
            ref = handle.actor.settle.remote(task)
            handle.open[ref] = task
            handle.opened_at[ref] = time.monotonic()
        for pool in self._pools:
            for handle in pool.handles:
                handle.held = sum(holder is handle for holder, _ in self._failures.held)

    def _keep_held(self) -> None:
        """Let the replicas keep what is good of the units that they hold: the next start asks the rest again."""
        import ray

        refs = [handle.actor.keep.remote(task) for handle, task in self._failures.held]
        if refs:
            ended, _ = ray.wait(refs, num_returns=len(refs), timeout=5)
            for ref in ended:
                try:
                    ray.get(ref)
                except Exception as error:
                    logger.warning("a unit that was held is made anew at the next start: %s", first_line(error))

    def _hand_out(self) -> None:
        for pool in self._pools:
            name = pool.spec.name
            live = [handle for handle in pool.handles if handle.live]
            if not live:
                continue
            if self._scheduler.suspects(name) and not any(handle.reserved for handle in live):
                min(live, key=lambda handle: len(handle.open)).reserved = True
            # At the tail work is spread evenly: no replica holds a unit in its queue while another has none.
            work = self._scheduler.ready(name) + sum(len(handle.open) for handle in live)
            fair = max(1, math.ceil(work / len(live)))
            for _ in range(64):
                handle = min(live, key=lambda handle: (handle.reserved, len(handle.open)))
                if handle.reserved:
                    break
                if len(handle.open) >= min(pool.credits(handle, self._unit_size), fair):
                    break
                task = self._scheduler.next_task(name, idle=False)
                if task is None:
                    break
                self._send(handle, task)
            for handle in live:
                if handle.reserved and not handle.open:
                    task = self._scheduler.next_task(name, idle=True)
                    if task is not None:
                        self._send(handle, task)
                    handle.reserved = task is not None and task.deaths >= self._cluster.max_task_attempts
            self._help_straggler(pool, live)

    def _check_stuck(self) -> None:
        """Raise RunFailedError where nothing is left to hand out or to wait for, yet not everything is committed."""
        if self._scheduler.finished or any(handle.open for pool in self._pools for handle in pool.handles):
            return
        if any(self._failures.held):
            return
        if not any(self._scheduler.ready(pool.spec.name) for pool in self._pools):
            left = {name: totals.units - self._scheduler.done(name) for name, totals in self._totals.items()}
            raise RunFailedError(f"no task is ready, but units are not committed: {left}; this is a fault of synthgen")

    def _send(self, handle: ReplicaHandle, task: Task) -> None:
        if not handle.open:
            handle.changed_at = time.monotonic()
        ref = handle.actor.run.remote(task)
        handle.open[ref] = task
        handle.opened_at[ref] = time.monotonic()

    def _help_straggler(self, pool: Pool, live: Sequence[ReplicaHandle]) -> None:
        """At the very end, run a late task a second time on an idle replica: the first commit wins."""
        idle = [handle for handle in live if not handle.open and not handle.reserved]
        open_tasks = sum(len(handle.open) for handle in live)
        # In a pool of several stages the units that are open may be awaited by as many of each stage further down.
        more_to_come = self._scheduler.remaining(pool.spec.name) > open_tasks * len(pool.spec.stages)
        if not idle or more_to_come or self._scheduler.ready(pool.spec.name) or len(self._durations) < 3:
            return
        task = find_late_task(live, self._scheduler, statistics.median(self._durations))
        if task is not None:
            logger.info("%s unit %d is late; a second copy of it goes to %s", task.stage, task.unit, idle[0].name)
            self._send(idle[0], task)

    def _book(self, *, timeout_s: float) -> None:
        """Wait for something to end, and book everything that has."""
        import ray

        owners: dict[Any, tuple[Pool, ReplicaHandle]] = {}
        for pool in self._pools:
            for handle in pool.handles:
                for ref in (handle.hello, handle.start, handle.verdict, handle.progress_ref, *handle.open):
                    if ref is not None and not isinstance(ref, LostRef):
                        owners[ref] = (pool, handle)
        if not owners:
            time.sleep(timeout_s)
            return
        refs = list(owners)
        ready, _ = ray.wait(refs, num_returns=1, timeout=timeout_s, fetch_local=False)
        if ready:
            ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0, fetch_local=False)
        for ref in ready:
            pool, handle = owners[ref]
            if handle not in pool.handles:
                continue  # it was ended while this batch was booked
            if ref is handle.hello:
                self._book_hello(pool, handle)
            elif ref is handle.start:
                self._book_start(pool, handle)
            elif ref is handle.verdict:
                self._losses.book_verdict(pool, handle)
            elif ref is handle.progress_ref:
                self._book_progress(handle)
            elif ref in handle.open:
                self._book_task(pool, handle, ref)

    def _book_hello(self, pool: Pool, handle: ReplicaHandle) -> None:
        import ray

        ref, handle.hello = handle.hello, None
        try:
            handle.place = ray.get(ref)
            handle.placed_at = time.monotonic()
        except Exception as error:
            self._losses.start_failed(pool, handle, error)

    def _book_start(self, pool: Pool, handle: ReplicaHandle) -> None:
        import ray

        ref, handle.start = handle.start, None
        try:
            handle.info = ray.get(ref)
        except Exception as error:
            self._losses.start_failed(pool, handle, error)
            return
        pool.load_failures = 0
        handle.placed_at = handle.placed_at or time.monotonic()
        handle.changed_at = time.monotonic()
        info = handle.info
        assert info is not None
        if info.engine.details.get("system_messages"):
            self._note(f"{call_model(pool.spec.model)} takes no system message: it is in the user turn")
        logger.info("%s: ready on %s after %.1f s (%s)", handle.name, info.host, info.start_s, info.engine.details)

    def _note(self, line: str) -> None:
        if line not in self._notes:
            self._notes.append(line)
            logger.warning("%s", line)

    def _book_task(self, pool: Pool, handle: ReplicaHandle, ref: Any) -> None:
        import ray

        task = handle.open[ref]
        try:
            counts: UnitCounts | Held = ray.get(ref)
        except Exception as error:
            self._losses.task_failed(pool, handle, ref, task, error)
            return
        del handle.open[ref]
        took = time.monotonic() - handle.opened_at.pop(ref)
        if not isinstance(counts, Held):  # what is held is in flight until it is settled
            handle.booked[task.stage] += counts.output_tokens
        handle.changed_at = time.monotonic()
        if not task.quarantine and not task.merge:  # those need no engine, and so speak for none
            pool.deaths_without_commit = 0
            pool.deaths_at.pop(handle.place, None)
        if isinstance(counts, Held):
            self._failures.hold(handle, task, counts)
            return
        self._failures.committed(task, counts)
        if self._scheduler.is_done(task.stage, task.unit):
            return
        if self._scheduler.is_stale(task):
            self._run_dir.discard(self._totals[task.stage].directory, task.unit, task.rows)
            self._scheduler.wait_again(task)
            return
        if task.rows is None and not task.merge:
            self._durations.append(took)
        totals = self._totals[task.stage]
        totals.counts = add_counts([totals.counts, counts])
        if self._scheduler.complete(task):
            totals.done += 1
            logger.info(
                "%s unit %d committed: %d rows, %d failed", task.stage, task.unit, counts.rows, counts.failed_rows
            )

    # Progress, budget, end

    def _check_progress(self) -> None:
        """Ask each replica for its totals; one with work and none of it moving is replaced."""
        now = time.monotonic()
        self._gpu_s += (now - self._clock) * sum(
            pool.spec.num_gpus for pool in self._pools for handle in pool.handles if handle.placed_at
        )
        # Whoever slept (a stopped process, a machine that was paused) has seen no one stand still.
        slept = max(0.0, now - self._clock - 2 * ASK_EVERY_S)
        self._clock = now
        for pool in self._pools:
            for handle in list(pool.handles):
                handle.changed_at = min(now, handle.changed_at + slept)
                if handle.info is None:
                    if handle.placed_at and now - handle.placed_at > self._cluster.start_timeout_s:
                        late = TimeoutError(f"no answer in cluster.start_timeout_s={self._cluster.start_timeout_s:g}")
                        self._losses.load_failed(pool, handle, late)
                    elif handle.placed_at:
                        _ask_progress(handle, now)
                    continue
                _ask_progress(handle, now)
                if handle.open and now - handle.changed_at > self._cluster.stall_timeout_s:
                    why = f"no progress for cluster.stall_timeout_s={self._cluster.stall_timeout_s:g}"
                    self._losses.replica_died(pool, handle, EngineDeadError(why))

    def _book_progress(self, handle: ReplicaHandle) -> None:
        import ray

        ref, handle.progress_ref = handle.progress_ref, None
        try:
            progress: Progress = ray.get(ref)
        except Exception as error:  # its open tasks will tell of the death
            logger.debug("%s: no progress report: %s", handle.name, error)
            return
        if progress.signs_of_life != handle.progress.signs_of_life or not handle.open:
            handle.changed_at = time.monotonic()
        handle.progress = progress
        for lesson in progress.lessons:
            if lesson not in self._lessons:
                self._lessons.add(lesson)
                self._notes.append(lesson)
                logger.warning("%s", lesson)

    def _check_budget(self) -> None:
        hours = self._gpu_s / 3600
        usd = hours * self._cluster.gpu_hour_usd + self._api_usd()
        for key, limit, spent in (
            ("run.max_gpu_hours", self._run.max_gpu_hours, hours),
            ("run.max_usd", self._run.max_usd, usd),
        ):
            if limit is not None and spent >= limit:
                self.stop(RunStoppedError(f"{key}={limit:g} is spent"))

    def _api_usd(self) -> float:
        """Return what endpoints have cost in this session, as far as their prices are given, dollars."""
        return sum(
            progress.usd
            for pool in self._pools
            for progress in [*pool.finished.values(), *(handle.progress for handle in pool.handles)]
        )

    def _drain(self, error: SynthgenError) -> NoReturn:
        """Let what is in flight commit for `run.grace_s`, then end."""
        deadline = time.monotonic() + self._run.grace_s
        logger.info("stopping: %s; up to %g s for what is in flight", error, self._run.grace_s)
        while time.monotonic() < deadline and any(handle.open for pool in self._pools for handle in pool.handles):
            try:
                self._book(timeout_s=0.2)
            except SynthgenError as failure:  # the run is ending anyway, and in order
                logger.warning("while stopping: %s", failure)
            except Exception as failure:  # Ray itself is gone, by the same signal: nothing more will come
                logger.warning("while stopping: %s: %s", type(failure).__name__, failure)
                break
            self._show()
        self._observe(self.snapshot())
        raise error

    def _end_all(self) -> None:
        import ray

        self._keep_held()
        closing = [
            (pool, handle, handle.actor.close.remote())
            for pool in self._pools
            for handle in pool.handles
            if handle.info is not None and not (handle.open and lost_every_race(handle, self._scheduler))
        ]
        if closing:
            refs = [ref for _, _, ref in closing]
            ended, _ = ray.wait(refs, num_returns=len(refs), timeout=15)
            for pool, handle, ref in closing:
                if ref in ended:
                    try:
                        pool.finished[handle.name] = ray.get(ref)
                    except Exception as error:
                        logger.debug("%s: did not close: %s", handle.name, error)
        for pool in self._pools:
            for handle in list(pool.handles):
                pool.kill_replica(handle)


def _ask_progress(handle: ReplicaHandle, now: float) -> None:
    if handle.verdict is None and handle.progress_ref is None and now - handle.asked_at > ASK_EVERY_S:
        handle.asked_at = now
        handle.progress_ref = handle.actor.progress.remote()
