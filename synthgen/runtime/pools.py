"""Pools of replicas on Ray: starting and placing them, and ending them. Which task goes where is the executor's."""

from __future__ import annotations

import contextlib
import itertools
import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from synthgen.config import ModelConfig
from synthgen.config.own_files import pack_own
from synthgen.ledger.run_dir import RunDir
from synthgen.runtime.replica import Replica
from synthgen.runtime.replica_info import Place, Progress, ReplicaInfo
from synthgen.runtime.scheduler import Task
from synthgen.stages.base import StageFiles

logger = logging.getLogger(__name__)

OUTSTANDING_PER_SEQ = 8
"""Outstanding sequences per max_num_seqs. Measured: 2 gave 0.70 of the engine's own speed, 4 gave 0.85, 8 gave 1.0."""

QUIET = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # of a replica that died, the tasks that nobody asks for any more
    "TOKENIZERS_PARALLELISM": "true",
}
"""Nothing phones home unless the user wants it."""


@dataclass(frozen=True)
class PoolSpec:
    """What a pool is made of.

    Attributes:
        name: for logs and actor names.
        model: with every choice made (tensor_parallel_size and so on are not None).
        stages: of this pool, by name.
        replicas: at most so many.
        num_gpus: GPUs per replica, num_cpus: logical CPUs per replica.
        nodes: nodes per replica; above 1 the replica gets a placement group of one bundle per GPU.
        eager: start replicas before there is work for them, so that loading overlaps the stages upstream.
    """

    name: str
    model: ModelConfig
    stages: Mapping[str, StageFiles]
    replicas: int
    num_gpus: float = 0.0
    num_cpus: float = 1.0
    nodes: int = 1
    eager: bool = True


@dataclass(eq=False)
class ReplicaHandle:
    """The driver's side of a replica."""

    name: str
    actor: Any
    hello: Any
    start: Any
    group: Any = None
    info: ReplicaInfo | None = None
    place: Place | None = None
    open: dict[Any, Task] = field(default_factory=dict)  # object ref → task
    opened_at: dict[Any, float] = field(default_factory=dict)
    held: int = 0  # units that it has made and that wait for a decision (synthgen.runtime.failures)
    reserved: bool = False  # drains, to run a suspect alone
    verdict: Any = None  # a question whose answer tells whether an unreachable replica is dead, or its node
    lost_at: float = 0.0
    unreadable: int = 0  # files that it could not read, and the driver could
    progress: Progress = field(default_factory=Progress)
    progress_ref: Any = None
    asked_at: float = 0.0
    booked: Counter[str] = field(default_factory=Counter)  # output tokens of its units that ended, by stage
    changed_at: float = field(default_factory=time.monotonic)
    created_at: float = field(default_factory=time.monotonic)
    placed_at: float | None = None

    @property
    def live(self) -> bool:
        """Whether it can take tasks."""
        return self.info is not None and self.verdict is None


class Pool:
    """The live replicas of one pool."""

    def __init__(
        self,
        spec: PoolSpec,
        run_dir: RunDir,
        log_dir: str | None,
        runtime_env: Mapping[str, Any],
        max_failed_fraction: float = 1.0,
    ) -> None:
        self.spec = spec
        self.handles: list[ReplicaHandle] = []
        self.load_failures = 0
        self.load_failed_at = 0.0
        self.most_replicas = spec.replicas
        self.deaths_without_commit = 0
        self.deaths_at: Counter[Place | None] = Counter()  # since the last commit from there
        self.deaths = 0
        self.finished: dict[str, Progress] = {}
        self._run_dir = run_dir
        self._log_dir = log_dir
        self._max_failed_fraction = max_failed_fraction
        self._runtime_env = dict(runtime_env)
        self._numbers = itertools.count()

    def start_replica(self) -> ReplicaHandle:
        """Ask Ray for one more replica; it stays pending until its resources are free."""
        import ray

        spec = self.spec
        name = f"{spec.name}-{next(self._numbers)}"
        log_path = f"{self._log_dir}/{name}.log" if self._log_dir else None
        environment = {**QUIET, **self._runtime_env.get("env_vars", {})}
        options: dict[str, Any] = {
            "num_cpus": spec.num_cpus,
            "num_gpus": spec.num_gpus,
            "max_restarts": 0,
            "max_task_retries": 0,
            "max_concurrency": 1000,
            "runtime_env": {**self._runtime_env, "env_vars": environment},
        }
        group = self._place_group() if spec.nodes > 1 else None
        if group is not None:
            from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

            options["num_gpus"] = 0
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(
                placement_group=group, placement_group_capture_child_tasks=True
            )
        actor_class = ray.remote(Replica)
        actor: Any = actor_class.options(**options).remote(
            self._run_dir, spec.model, dict(spec.stages), log_path, name, self._max_failed_fraction, pack_own()
        )
        handle = ReplicaHandle(name, actor, actor.hello.remote(), actor.start.remote(), group)
        self.handles.append(handle)
        logger.info("%s: asked Ray for a replica (%g GPUs, %g CPUs)", name, spec.num_gpus, spec.num_cpus)
        return handle

    def credits(self, handle: ReplicaHandle, unit_size: int) -> int:
        """Return how many units the replica keeps open, so that its engine never drains between them."""
        assert handle.info is not None
        per_prompt = max(files.stage.sequences_per_prompt for files in self.spec.stages.values())
        wanted = OUTSTANDING_PER_SEQ * handle.info.engine.max_num_seqs
        return max(2, min(64, -(-wanted // max(1, unit_size * per_prompt))))

    def give_up_room(self) -> bool:
        """Go on with the other replicas, where there are any, instead of replacing one again and again.

        Returns:
            whether there are any; if so, the pool stays that small.
        """
        others = len(self.handles)
        if others:
            logger.warning("%s: a replica failed too often; the run goes on with %d of them", self.spec.name, others)
            self.most_replicas = others
            self.load_failures = 0
        return others > 0

    def end_replica(self, handle: ReplicaHandle, *, timeout_s: float = 20.0) -> None:
        """Close a replica's engine, then end its process and free its placement."""
        import ray

        if handle.info is not None and timeout_s > 0:
            with contextlib.suppress(Exception):
                self.finished[handle.name] = ray.get(handle.actor.close.remote(), timeout=timeout_s)
        self.kill_replica(handle)

    def kill_replica(self, handle: ReplicaHandle) -> None:
        """End a replica's process at once."""
        import ray

        self.finished.setdefault(handle.name, handle.progress)
        if handle in self.handles:
            self.handles.remove(handle)
        with contextlib.suppress(Exception):
            ray.kill(handle.actor, no_restart=True)
        if handle.group is not None:
            from ray.util.placement_group import remove_placement_group

            with contextlib.suppress(Exception):
                remove_placement_group(handle.group)

    def _place_group(self) -> Any:
        from ray.util.placement_group import placement_group

        return placement_group([{"GPU": 1, "CPU": self.spec.num_cpus}] * int(self.spec.num_gpus), strategy="PACK")
