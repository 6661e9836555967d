"""What it means when something ends badly: a replica that did not start or died, a task that failed, a damaged file.

Tasks go back to the scheduler, with or without blame; a pool goes on with what lives; what cannot go on ends the run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from synthgen.config import ClusterConfig
from synthgen.errors import ConfigError, EngineDeadError, RunFailedError, first_line
from synthgen.ledger.run_dir import CorruptUnitError, RunDir
from synthgen.observe.snapshot import StageTotals
from synthgen.runtime.pools import Pool, ReplicaHandle
from synthgen.runtime.scheduler import Scheduler, Task

logger = logging.getLogger(__name__)

UNREACHABLE_LIMIT_S = 60.0
LOOK_AT_NODE_S = 10.0
MOST_UNREADABLE = 3
"""Files that a replica may fail to read while the driver can, before it counts as dead."""


class LostRef:
    """Stands in for the reference of a task whose replica is out of reach."""


class Losses:
    """Decides what becomes of the tasks, the pools and the run.

    Args:
        run_dir: where bad files are set aside.
        scheduler: who gets tasks back.
        cluster: how often to try.
        totals: by stage; `done` is kept true.
        log_dir: of the replicas, for messages; None in an object store.
    """

    def __init__(
        self,
        run_dir: RunDir,
        scheduler: Scheduler,
        cluster: ClusterConfig,
        totals: Mapping[str, StageTotals],
        log_dir: str | None,
    ) -> None:
        self._run_dir = run_dir
        self._scheduler = scheduler
        self._cluster = cluster
        self._totals = totals
        self._log_dir = log_dir
        self._look_at_node = 0.0  # when the driver's own node is looked at next

    def start_failed(self, pool: Pool, handle: ReplicaHandle, error: Exception) -> None:
        """Take note that a replica did not answer while it loaded."""
        import ray

        if isinstance(error, ray.exceptions.ActorUnavailableError):
            self._ask_for_verdict(handle)
        else:
            self.load_failed(pool, handle, error)

    def load_failed(self, pool: Pool, handle: ReplicaHandle, error: BaseException) -> None:
        """Count a failed try to load the model; what failed beside it, having been started before it, is the same try.

        Where other replicas of the pool live, the run goes on with those.
        """
        cause = _cause(error)
        pool.kill_replica(handle)
        if isinstance(cause, ConfigError):
            raise ConfigError(str(cause)) from error
        if isinstance(cause, RunFailedError):
            raise RunFailedError(str(cause)) from error
        if self._node_is_gone(handle):
            logger.warning("%s: its node went while it loaded", handle.name)
            return
        if handle.created_at > pool.load_failed_at:
            pool.load_failures += 1
            pool.load_failed_at = time.monotonic()
        logger.warning("%s: did not start (try %d): %s", handle.name, pool.load_failures, cause)
        if pool.load_failures < self._cluster.max_load_attempts:
            return
        if pool.give_up_room():
            return
        raise RunFailedError(
            f"model {pool.spec.model.id} did not start in {pool.load_failures} tries "
            f"(cluster.max_load_attempts): {first_line(cause)}{self._log_hint(handle)}"
        ) from error

    def task_failed(self, pool: Pool, handle: ReplicaHandle, ref: Any, task: Task, error: Exception) -> None:
        """Take note that a task raised instead of committing. Raises what ends the run."""
        import ray

        cause = _cause(error)
        if isinstance(error, ray.exceptions.ActorUnavailableError):
            self._ask_for_verdict(handle)
            handle.open[LostRef()] = handle.open.pop(ref)
            return
        if isinstance(cause, EngineDeadError) or isinstance(error, ray.exceptions.RayActorError):
            self.replica_died(pool, handle, cause)
            return
        del handle.open[ref]
        del handle.opened_at[ref]
        if isinstance(cause, CorruptUnitError):
            self._input_corrupt(pool, handle, task, cause)
            return
        if isinstance(cause, ConfigError):
            raise ConfigError(str(cause)) from error
        if isinstance(cause, RunFailedError):
            raise RunFailedError(str(cause)) from error
        raise RunFailedError(
            f"{task.stage} unit {task.unit} failed: {first_line(cause)}{self._log_hint(handle)}"
        ) from error

    def book_verdict(self, pool: Pool, handle: ReplicaHandle) -> None:
        """Learn what became of an unreachable replica. One that answers again is ended: what it lost is unknown."""
        import ray

        try:
            ray.get(handle.verdict)
            cause: BaseException = ConnectionError("it was out of reach for a moment")
            blame = False
        except ray.exceptions.ActorUnavailableError as error:
            if time.monotonic() - handle.lost_at < UNREACHABLE_LIMIT_S:
                time.sleep(0.2)  # Ray answers at once while it does not know
                handle.verdict = handle.actor.hello.remote()
                return
            cause, blame = error, False
        except Exception as error:
            cause, blame = error, True
        if handle.info is not None:
            self.replica_died(pool, handle, cause, blame=blame)
        elif blame:
            self.load_failed(pool, handle, cause)
        else:
            pool.kill_replica(handle)  # and another one is started

    def replica_died(self, pool: Pool, handle: ReplicaHandle, cause: BaseException, *, blame: bool = True) -> None:
        """Give a dead replica's tasks back. Who is to blame is known only where a task was alone.

        Args:
            blame: False where the machine or the network is at fault, not the engine.
        """
        tasks = list(handle.open.values())
        handle.open.clear()
        handle.opened_at.clear()
        pool.kill_replica(handle)
        if not blame or self._node_is_gone(handle):
            logger.warning("%s: its node is gone or out of reach; %d tasks are given back", handle.name, len(tasks))
            for task in tasks:
                self._scheduler.give_back(task)
            return
        pool.deaths += 1
        pool.deaths_without_commit += 1
        pool.deaths_at[handle.place] += 1
        logger.warning("%s: died with %d open tasks: %s", handle.name, len(tasks), first_line(cause))
        for task in tasks:
            for piece in self._scheduler.died(task, alone=len(tasks) == 1):
                if piece.quarantine:
                    logger.warning("%s unit %d row %s kills engines; quarantined", task.stage, task.unit, piece.rows)
        limit = self._cluster.max_engine_restarts
        if pool.deaths_without_commit > limit:
            raise RunFailedError(
                f"the engine of {pool.spec.model.id} died {pool.deaths_without_commit} times without committing "
                f"anything in between (cluster.max_engine_restarts={limit}): {first_line(cause)}"
                f"{self._log_hint(handle)}"
            )
        if pool.deaths_at[handle.place] > limit and pool.give_up_room():
            del pool.deaths_at[handle.place]

    def _input_corrupt(self, pool: Pool, handle: ReplicaHandle, task: Task, cause: CorruptUnitError) -> None:
        """Have a damaged file made again; where others can read it, the replica is at fault."""
        stage = next((name for name, totals in self._totals.items() if totals.directory == cause.directory), None)
        gone = stage is not None and cause.rows is None and not self._scheduler.is_done(stage, cause.unit)
        if gone or (cause.rows is not None and self._scheduler.is_done(task.stage, task.unit)):
            self._scheduler.wait_again(task)  # another task has found it, and it is being made again
        elif not self._run_dir.set_aside(cause):
            self._scheduler.wait_again(task)
            handle.unreadable += 1
            logger.warning("%s on %s, yet the driver can read it (%d)", cause, handle.name, handle.unreadable)
            if handle.unreadable >= MOST_UNREADABLE:
                self.replica_died(pool, handle, cause)
        elif stage is None:
            raise RunFailedError(f"{cause}; start the same command again: it is read from the source again")
        elif cause.rows is not None:  # found while the parts of the task's own unit were merged
            logger.warning("%s; it is set aside and made again", cause)
            self._scheduler.part_lost(task, cause.rows)
        else:
            logger.warning("%s; it is set aside and made again", cause)
            for name, unit in self._scheduler.invalidate(stage, cause.unit):
                if name != stage:
                    self._run_dir.discard(self._totals[name].directory, unit)
                self._totals[name].done = self._scheduler.done(name)
            self._scheduler.wait_again(task)

    def _ask_for_verdict(self, handle: ReplicaHandle) -> None:
        """Ask whether a replica is dead, or out of reach: Ray knows in a moment."""
        if handle.verdict is None:
            handle.verdict = handle.actor.hello.remote()
            handle.lost_at = time.monotonic()

    def check_own_node(self, pools: Sequence[Pool]) -> None:
        """Raise RunFailedError where the node that this process starts replicas through is gone: none would ever come.

        Asked now and then, while nothing lives. Ray takes a node for dead that does not answer for some time, also
        on a machine that is merely too busy.
        """
        import ray

        now = time.monotonic()
        if now < self._look_at_node or any(handle.live for pool in pools for handle in pool.handles):
            return
        self._look_at_node = now + LOOK_AT_NODE_S
        own = ray.get_runtime_context().get_node_id()
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        if any(node["NodeID"] == own and not node["Alive"] for node in nodes):
            raise RunFailedError(
                "the Ray node that this run starts its replicas through is gone (its raylet was killed, or too busy a "
                "machine let it not answer); what was committed is kept, start the same command again"
            )

    def _node_is_gone(self, handle: ReplicaHandle) -> bool:
        import ray

        if handle.place is None:
            return False
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        return not any(node["NodeID"] == handle.place.node_id and node["Alive"] for node in nodes)

    def _log_hint(self, handle: ReplicaHandle) -> str:
        return f" (see {self._log_dir}/{handle.name}.log)" if self._log_dir else ""


def _cause(error: BaseException) -> BaseException:
    """Return what a replica raised, out of Ray's wrapping."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, BaseException) else error
