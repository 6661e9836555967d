"""A session of a run directory: the lease, the log, the signals and the view of one process that works on it."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from synthgen.config import Config, ModelConfig
from synthgen.config.saved import dump_config
from synthgen.errors import RunFailedError, RunStoppedError, StorageError, SynthgenError
from synthgen.flow import ResolvedStage, ship_own
from synthgen.ledger.lease import Lease
from synthgen.ledger.run_dir import FIRST_CONTACT_S, CorruptUnitError, RunDir, describe_os_error, unit_path
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
from synthgen.runtime.signals import Signals
from synthgen.runtime.target import Target

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

    def __init__(
        self, config: Config, *, quiet: bool = False, told: Callable[[Mapping[str, Any]], None] | None = None
    ) -> None:
        self.config = config
        self.run_dir = RunDir(config.run.dir, config.storage.retry_s)
        self.view = ProgressView(self.run_dir, config.run.log_interval_s, quiet=quiet, told=told)

    def __enter__(self) -> Session:
        with contextlib.ExitStack() as stack:
            self._signals = stack.enter_context(Signals(self.config.run.grace_s, self._end_at_once))
            self.run_dir.check_writable()
            self._signals.check()
            self.lease = Lease(self.run_dir.storage, self.config.run.lease_s, self.config.storage.retry_s)
            stack.callback(self._release)
            self.run_dir.guard(self.check, self._signals.check)
            stack.enter_context(_log_file(self.run_dir))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        self._signals.answered()
        asked = self._signals.asked
        if isinstance(error, StorageError):  # it was waited for long enough
            self.run_dir.storage = self.run_dir.storage.hurried(FIRST_CONTACT_S)
        try:
            if asked is not None and isinstance(error, Exception) and error is not asked:
                # What a signal reached beside us (Ray's processes, say) fails in ways of its own.
                logger.warning("after %s: %s: %s", asked, type(error).__name__, error)
                self._write_end(asked)
                raise asked from error
            if isinstance(error, CorruptUnitError):
                raise self._set_aside(error) from error
            self._write_end(error)
        finally:
            self._stack.close()

    def check(self) -> None:
        """Raise what ends the session: a signal has come, or another driver has taken the run directory over."""
        self._signals.check()
        self.lease.check()

    def _release(self) -> None:
        """Give the lease up. Where that fails it expires, and what went wrong before is the cause to be shown."""
        try:
            self.lease.release()
        except (OSError, StorageError) as error:
            logger.warning("the lease could not be given up, and ends in run.lease_s: %s", describe_os_error(error))

    def _set_aside(self, error: CorruptUnitError) -> RunFailedError:
        """Take a damaged file out of the ledger, and return the error that says so."""
        if self.run_dir.set_aside(error):
            ended = RunFailedError(f"{error}; it was set aside: start the same command again")
        else:
            ended = RunFailedError(f"{error}; it can be read now: start the same command again")
        self._write_end(ended)
        return ended

    def _write_end(self, error: BaseException | None) -> None:
        """Write how the session ended, whatever ended it: a state file that says `running` for ever would be a lie."""
        if error is None or self.lease.lost:
            return
        stopped = isinstance(error, RunStoppedError | KeyboardInterrupt)
        message = str(error) if isinstance(error, SynthgenError) else f"{type(error).__name__}: {error}"
        with contextlib.suppress(SynthgenError):  # the lease is lost now; the first error counts
            self.view.write_status("stopped" if stopped else "failed", " ".join(message.split())[:2000])

    def _end_at_once(self, number: int, line: str) -> None:
        """Leave the run directory as a session does that ended in order, as far as that goes. Called in a thread."""
        self._signals.answered()
        with contextlib.suppress(Exception):
            self.view.write_status("stopped", line)
        with contextlib.suppress(Exception):
            self.lease.release()

    def execute(
        self,
        stages: Sequence[ResolvedStage],
        plan: ClusterPlan,
        unit_rows: Sequence[int],
        target: Target | None = None,
    ) -> Execution:
        """Run what is not committed yet, and return what that took.

        Args:
            target: bounds the units that are run; None: all are.

        Raises:
            RunFailedError, RunStoppedError: see synthgen.runtime.executor.Executor.run.
        """
        config = self.config
        scheduler = make_scheduler(config, stages, plan, unit_rows, self.run_dir)
        if target is not None:
            target.bound(scheduler)
        reused = {stage.name: scheduler.done(stage.name) for stage in stages}
        if scheduler.finished:
            return Execution(reused, [], 0.0)
        notes = check_stages(self.run_dir, [stage.files for stage in stages], scheduler, config.cluster)
        for note in notes:
            print(f"synthgen: note: {note}", file=sys.stderr, flush=True)
        specs = pool_specs(plan, stages)
        log = SessionLog(self.run_dir, dump_config(config))
        with contextlib.ExitStack() as stack:
            stack.enter_context(
                connect_ray(
                    config.cluster,
                    cpus_needed=sum(spec.num_cpus for spec in specs),
                    check=self._signals.check_and_keep,
                    lease=self.lease,
                )
            )
            stack.enter_context(self.view.shown())
            ship_own()
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
            self._signals.forward_to(executor.stop)
            try:
                replicas = executor.run()
            finally:
                for note in executor.notes:
                    if note not in notes:
                        print(f"synthgen: note: {note}", file=sys.stderr, flush=True)
                notes = list(dict.fromkeys([*notes, *executor.notes]))
                log.write(executor.snapshot().gpu_hours, executor.replica_report(), self.view.series, notes)
                self._signals.forward_to(None)  # last: from here on a wish to stop forbids what is written
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
    if nodes == 1 or not model.served_by.loads_checkpoint:
        return model
    return replace(model, engine_args={"distributed_executor_backend": "ray", **model.engine_args})


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
