"""A session of a run directory: the lease, the log, the signals and the view of one process that works on it."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from synthgen.config import Config, EngineKind, ModelConfig
from synthgen.config.saved import dump_config
from synthgen.errors import RunFailedError, RunStoppedError, SynthgenError
from synthgen.flow import ResolvedStage, ship_pipeline
from synthgen.ledger.lease import Lease
from synthgen.ledger.run_dir import CorruptUnitError, RunDir, unit_path
from synthgen.ledger.sessions import SessionLog
from synthgen.observe.metrics import RunMetrics
from synthgen.observe.progress import ProgressView
from synthgen.observe.snapshot import Snapshot
from synthgen.planning import ClusterPlan
from synthgen.runtime.cluster import connect_ray
from synthgen.runtime.executor import Executor
from synthgen.runtime.pools import PoolSpec
from synthgen.runtime.preflight import check_stages
from synthgen.runtime.retries import take_back
from synthgen.runtime.scheduler import Scheduler, StageNode

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Execution:
    """What a session did: units per stage that were there before, what each replica did, GPU-hours held."""

    reused: dict[str, int]
    replicas: list[dict[str, Any]]
    gpu_hours: float


class Session:
    """Holds a run directory while the block runs; `execute` may be called in it.

    Raises:
        ConfigError: the directory cannot be written, or another driver holds it.
    """

    def __init__(self, config: Config, *, quiet: bool = False) -> None:
        self.config = config
        self.run_dir = RunDir(config.run.dir)
        self.view = ProgressView(self.run_dir, config.run.log_interval_s, quiet=quiet)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Session:
        self.run_dir.check_writable()
        self.lease = Lease(self.run_dir.storage, self.config.run.lease_s)
        self._stack.callback(self.lease.release)
        self.run_dir.guard(self.lease.check)
        self._stack.enter_context(_log_file(self.run_dir))
        self._signals = self._stack.enter_context(_Signals())
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        try:
            if isinstance(error, CorruptUnitError):
                raise self._set_aside(error) from error
            self._write_end(error)
        finally:
            self._stack.close()

    def _set_aside(self, error: CorruptUnitError) -> RunFailedError:
        """Take a damaged file out of the ledger, and return the error that says so."""
        if self.run_dir.set_aside(error):
            ended = RunFailedError(f"{error}; it was set aside: start the same command again")
        else:
            ended = RunFailedError(f"{error}; it can be read now: start the same command again")
        self._write_end(ended)
        return ended

    def _write_end(self, error: BaseException | None) -> None:
        if isinstance(error, SynthgenError) and not self.lease.lost:
            with contextlib.suppress(SynthgenError):  # the lease is lost now; the first error counts
                self.view.write_status("stopped" if isinstance(error, RunStoppedError) else "failed", str(error))

    def execute(self, stages: Sequence[ResolvedStage], plan: ClusterPlan, unit_rows: Sequence[int]) -> Execution:
        """Run what is not committed yet, and return what that took.

        Raises:
            RunFailedError, RunStoppedError: see synthgen.runtime.executor.Executor.run.
        """
        config = self.config
        scheduler = make_scheduler(config, stages, plan, unit_rows, self.run_dir)
        reused = {stage.name: scheduler.done(stage.name) for stage in stages}
        if scheduler.finished:
            return Execution(reused, [], 0.0)
        notes = check_stages(self.run_dir, [stage.files for stage in stages], scheduler, config.cluster)
        for note in notes:
            print(f"synthgen: note: {note}", file=sys.stderr, flush=True)
        specs = pool_specs(plan, stages)
        log = SessionLog(self.run_dir, dump_config(config))
        with contextlib.ExitStack() as stack:
            with self._signals.held():
                stack.enter_context(connect_ray(config.cluster, cpus_needed=sum(spec.num_cpus for spec in specs)))
            stack.enter_context(self.view.shown())
            ship_pipeline(config)
            metrics = RunMetrics(self.run_dir.url)

            def observe(snapshot: Snapshot) -> None:
                self.view.observe(snapshot)
                metrics.observe(snapshot)
                log.observe(snapshot.gpu_hours, snapshot.replicas)

            executor = Executor(
                self.run_dir,
                scheduler,
                specs,
                run=config.run,
                cluster=config.cluster,
                lease=self.lease,
                observe=observe,
            )
            self._signals.forward_to(executor)
            try:
                replicas = executor.run()
            finally:
                self._signals.forward_to(None)
                for note in executor.notes:
                    if note not in notes:
                        print(f"synthgen: note: {note}", file=sys.stderr, flush=True)
                notes = list(dict.fromkeys([*notes, *executor.notes]))
                log.write(executor.snapshot().gpu_hours, executor.replica_report(), self.view.series, notes)
            return Execution(reused, replicas, executor.snapshot().gpu_hours)


def make_scheduler(
    config: Config, stages: Sequence[ResolvedStage], plan: ClusterPlan, unit_rows: Sequence[int], run_dir: RunDir
) -> Scheduler:
    """Return a scheduler that knows what the run directory already holds."""
    pool_of = {name: pool.name for pool in plan.pools for name in pool.stages}
    nodes = [
        StageNode(
            stage.name,
            pool_of[stage.name],
            tuple(name for name in stage.files.stage.inputs if name in pool_of),  # other inputs are there already
            stage.files.stage.priority,
        )
        for stage in stages
    ]
    done = {stage.name: run_dir.committed(stage.files.directory) for stage in stages}
    directories = {stage.name: stage.files.directory for stage in stages}
    for node in nodes:
        _drop_orphans(node, done, directories, run_dir)
    again = take_back(run_dir, [stage.files for stage in stages], done, config.run.retry_failed)
    for name, units in again.items():
        prompts = sum(len(ask) for ask in units.values())
        logger.info("%s: %d prompts of %d units are asked again", name, prompts, len(units))
    parts = {stage.name: run_dir.parts(stage.files.directory) for stage in stages}
    return Scheduler(nodes, unit_rows, done, parts, max_task_attempts=config.cluster.max_task_attempts)


def _drop_orphans(
    node: StageNode, done: Mapping[str, set[int]], directories: Mapping[str, str], run_dir: RunDir
) -> None:
    """Set aside what a stage made from units that are gone: made again, they may hold another text."""
    for source in node.upstream:
        for unit in sorted(done[node.name] - done[source]):
            if run_dir.storage.exists(unit_path(directories[source], unit)):  # a listing that shows it late
                done[source].add(unit)
                continue
            logger.warning("%s unit %d was made from a unit that is gone; it is set aside", node.name, unit)
            run_dir.discard(directories[node.name], unit)
            done[node.name].discard(unit)


def pool_specs(plan: ClusterPlan, stages: Sequence[ResolvedStage]) -> list[PoolSpec]:
    """Return what the executor needs to start each pool of the plan."""
    by_name = {stage.name: stage.files for stage in stages}
    return [
        PoolSpec(
            name=pool.name,
            model=_serve_over_nodes(pool.engine.apply(by_name[pool.stages[0]].stage.model), pool.nodes),
            stages={name: by_name[name] for name in pool.stages},
            replicas=pool.engine.replicas,
            num_gpus=pool.num_gpus,
            num_cpus=pool.num_cpus,
            nodes=pool.nodes,
            eager=plan.mode != "in_turn" or index == 0,
        )
        for index, pool in enumerate(plan.pools)
    ]


def _serve_over_nodes(model: ModelConfig, nodes: int) -> ModelConfig:
    """Return `model` with vLLM's Ray executor, which an engine needs that spans nodes."""
    if nodes == 1 or model.engine is not EngineKind.vllm:
        return model
    return replace(model, engine_args={"distributed_executor_backend": "ray", **model.engine_args})


class _Signals:
    """SIGINT and SIGTERM end a run in order: the first asks the executor to stop, the second ends it at once."""

    def __init__(self) -> None:
        self._executor: Executor | None = None
        self._held = False
        self._asked: RunStoppedError | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ValueError):  # not in the main thread: the caller handles signals
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let a signal that comes during the block end the run after it: Ray starts here, and swallows exceptions.

        Ray also puts handlers of its own in place of ours, which raise SystemExit; ours are taken back.
        """
        self._held = True
        try:
            yield
        except SystemExit as error:
            self._asked = self._asked or _stopped_by(signal.SIGTERM)
            raise self._asked from error
        finally:
            self._held = False
            for number in self._previous:
                signal.signal(number, self._handle)
        if self._asked is not None:
            raise self._asked

    def forward_to(self, executor: Executor | None) -> None:
        """Let signals stop `executor` from now on."""
        self._executor = executor

    def _handle(self, number: int, _: Any) -> None:
        first, self._asked = self._asked is None, self._asked or _stopped_by(number)
        if self._held:
            return
        if self._executor is None or not first:
            raise self._asked
        self._executor.stop(self._asked)


def _stopped_by(number: int) -> RunStoppedError:
    error = RunStoppedError(f"{signal.Signals(number).name} received")
    error.exit_code = 128 + number
    return error


@contextlib.contextmanager
def _log_file(run_dir: RunDir) -> Iterator[None]:
    """Send what synthgen and the libraries log in this process to `<run.dir>/logs/driver.log`."""
    if run_dir.storage.root is None:
        yield
        return
    path = run_dir.storage.root / "logs" / "driver.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    previous = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.setLevel(previous)
        root.removeHandler(handler)
        handler.close()
