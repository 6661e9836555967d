"""Engines that outlive a run, so that loading a model is paid once and both sides of a ratio can take turns.

`Engines.run` runs stages with the project's own session, scheduler, executor, replica and ledger; only starting and
ending of replicas is replaced. `Engines.raw` gives vLLM's own `LLM` with the same settings, on the same machine.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.raw import RawEngine, RawResult
from synthgen.config import Config, ModelConfig
from synthgen.flow import ResolvedStage
from synthgen.ledger.ingest import ingest_prompts
from synthgen.ledger.run_dir import RunDir
from synthgen.observe.report import stage_report
from synthgen.planning import plan_pools
from synthgen.records import Request
from synthgen.runtime.pools import Pool, PoolSpec, ReplicaHandle
from synthgen.runtime.replica import Replica
from synthgen.runtime.replica_info import Progress, ReplicaInfo
from synthgen.runtime.session import Session, pool_specs
from synthgen.runtime.unit_files import UnitFiles
from synthgen.stages.base import StageFiles

LOGICAL_CPUS = 64
"""What Ray is told: actors of both sides exist at once, and only one of them works at a time."""


class WarmReplica(Replica):
    """A replica whose engine stays loaded when a run ends."""

    def __init__(self, model: ModelConfig, log_path: str) -> None:
        super().__init__(RunDir("/nonexistent"), model, {}, log_path, "warm")
        self._info: ReplicaInfo | None = None

    async def begin(self, run_url: str, stages: Mapping[str, StageFiles]) -> None:
        """Serve another run from now on."""
        self._run_dir = RunDir(run_url)
        self._files = UnitFiles(self._run_dir)
        self._stages = stages
        self._progress = Progress()
        self._open = 0
        self._changed_at = 0.0
        await self._forget()  # a new run finds the prefix cache empty

    async def complete(self, requests: Sequence[Request]) -> RawResult:
        """Serve all requests at once, with nothing around the engine."""
        await self._forget()
        began = time.perf_counter()
        encoded = await asyncio.to_thread(self._engine.encode, requests)
        answers = await asyncio.gather(*(self._engine.generate(request) for request in encoded))
        elapsed = time.perf_counter() - began
        tokens = sum(completion.output_tokens for completions in answers for completion in completions)
        return RawResult(elapsed, sum(completions[0].prompt_tokens for completions in answers), tokens)

    async def _forget(self) -> None:
        vllm_engine = getattr(self._engine, "_engine", None)
        if vllm_engine is not None:
            await vllm_engine.reset_prefix_cache()

    async def start(self) -> ReplicaInfo:
        """Load the engine if it is not loaded."""
        self._info = self._info or await super().start()
        return self._info

    async def close(self) -> Progress:
        """Return the totals; the engine stays."""
        return await self.progress()

    async def end(self) -> None:
        """Free the engine."""
        await super().close()


class ReplicaHost:
    """Several replicas in one process, each with an engine of its own: for more replicas than this machine can start
    processes. Only engines that need no CPU while they work make sense here."""

    def __init__(self, model: ModelConfig, log_path: str, replicas: int) -> None:
        self._replicas = [WarmReplica(model, log_path) for _ in range(replicas)]

    async def call(self, number: int, method: str, arguments: tuple[Any, ...]) -> Any:
        """Call a method of a replica."""
        return await getattr(self._replicas[number], method)(*arguments)


@dataclass(frozen=True)
class _Hosted:
    """Stands for the actor of a replica that lives in a host: `hosted.run.remote(task)`."""

    host: Any
    number: int

    def __getattr__(self, method: str) -> Any:
        host, number = self.host, self.number

        class Method:
            def remote(self, *arguments: Any) -> Any:
                return host.call.remote(number, method, arguments)

        return Method()


class Engines:
    """Holds Ray, a scratch directory, and the engines that benchmarks share, for the length of the block.

    Attributes:
        replicas: what the executor said of each replica at the end of the last run.
        per_process: replicas that share a process; a change counts for what is loaded after `free`.
    """

    def __init__(self) -> None:
        self.per_process = 1
        self._hosts: list[Any] = []
        self.directory = Path(tempfile.mkdtemp(prefix="synthgen-bench-"))
        self._warm: dict[str, list[Any]] = {}
        self._raw: dict[str, Any] = {}
        self._runs = 0
        self.replicas: list[dict[str, Any]] = []

    def __enter__(self) -> Engines:
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnect()
        shutil.rmtree(self.directory, ignore_errors=True)

    def free(self) -> None:
        """Unload all engines."""
        import ray

        warm = [actor for actors in self._warm.values() for actor in actors]
        ending = [actor.end.remote() for actor in (*warm, *self._raw.values())]
        ray.wait(ending, num_returns=len(ending), timeout=60) if ending else None
        for actor in (*warm, *self._raw.values(), *self._hosts):
            if not isinstance(actor, _Hosted):
                ray.kill(actor)
        self._hosts.clear()
        self._warm.clear()
        self._raw.clear()

    def disconnect(self) -> None:
        """Unload all engines and end Ray, which starts again with the next engine."""
        import ray

        self.free()
        if ray.is_initialized():
            ray.shutdown()

    def new_directory(self) -> Path:
        """Return a path for one more run."""
        self._runs += 1
        return self.directory / f"run-{self._runs}"

    def run(self, config: Config, stages: Sequence[ResolvedStage]) -> dict[str, dict[str, Any]]:
        """Run `stages` over the prompts of `config` to their end; return the report of each stage by name."""
        units = self.execute(config, stages)
        run_dir = RunDir(config.run.dir)
        return {stage.name: stage_report(run_dir, stage, units, 0) for stage in stages}

    def execute(self, config: Config, stages: Sequence[ResolvedStage]) -> int:
        """Run `stages` to their end on engines that stay loaded; return the number of units."""
        plan = plan_pools(config, config.cluster, stages={s.name: s.files.stage.model for s in stages})
        with self.warm_pools(), Session(config, quiet=True) as session:
            prompts = ingest_prompts(session.run_dir, config)
            self.replicas = session.execute(stages, plan, prompts.unit_rows).replicas
        return len(prompts.unit_rows)

    def load(self, config: Config, stages: Sequence[ResolvedStage], *, raw: bool = False) -> None:
        """Load what `run` (and `raw`) will need, so that no measurement waits for it."""
        import ray

        plan = plan_pools(config, config.cluster, stages={s.name: s.files.stage.model for s in stages})
        starting = []
        for spec in pool_specs(plan, stages):
            actors = [self._find_warm(spec, number) for number in range(spec.replicas)]
            starting += [actor.start.remote() for actor in (*actors, *([self.raw(spec)] if raw else []))]
        ray.get(starting)

    def raw(self, spec: PoolSpec) -> Any:
        """Return the actor of vLLM's own engine with a pool's settings (benchmarks.raw.RawEngine); `load` loads it."""
        import ray

        self._connect()
        key = spec.model.id
        if key not in self._raw:
            remote = ray.remote(RawEngine).options(num_cpus=spec.num_cpus)
            self._raw[key] = remote.remote(spec.model, str(self.directory / f"raw-{spec.model.name}.log"))
        return self._raw[key]

    def complete(self, config: Config, stages: Sequence[ResolvedStage], requests: Sequence[Request]) -> RawResult:
        """Serve all requests at once on the engine of the first stage that `run` uses."""
        import ray

        plan = plan_pools(config, config.cluster, stages={s.name: s.files.stage.model for s in stages})
        actor = self._find_warm(pool_specs(plan, stages)[0], 0)
        result: RawResult = ray.get(actor.complete.remote(list(requests)))
        return result

    def warm_pools(self) -> Any:
        """Return a block in which executors take their replicas from here and leave them here."""
        self._connect()
        engines = self

        class WarmPool(Pool):
            def start_replica(self) -> ReplicaHandle:
                number = len(self.handles)
                actor = engines._find_warm(self.spec, number)
                actor.begin.remote(self._run_dir.url, dict(self.spec.stages))
                name = f"{self.spec.name}-{number}"
                handle = ReplicaHandle(name, actor, actor.hello.remote(), actor.start.remote())
                self.handles.append(handle)
                return handle

            def kill_replica(self, handle: ReplicaHandle) -> None:
                self.finished.setdefault(handle.name, handle.progress)
                if handle in self.handles:
                    self.handles.remove(handle)

        return mock.patch("synthgen.runtime.executor.Pool", WarmPool)

    def _find_warm(self, spec: PoolSpec, number: int) -> Any:
        import ray

        self._connect()
        actors = self._warm.setdefault(f"{spec.model}", [])
        while len(actors) <= number:
            log = str(self.directory / f"warm-{spec.model.name}-{len(actors)}.log")
            options = {"num_cpus": spec.num_cpus, "max_concurrency": 1000}
            if self.per_process == 1:
                actors.append(ray.remote(WarmReplica).options(**options).remote(spec.model, log))
                continue
            host = ray.remote(ReplicaHost).options(**options).remote(spec.model, log, self.per_process)
            self._hosts.append(host)
            actors += [_Hosted(host, slot) for slot in range(self.per_process)]
        return actors[number]

    def _connect(self) -> None:
        import logging

        import ray

        if not ray.is_initialized():
            logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
            ray.init(
                address="local",
                num_cpus=LOGICAL_CPUS,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=False,
            )
