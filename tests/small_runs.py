"""Small runs on echo engines for tests: a prompt file, the stages, and an executor over real Ray actors."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from synthgen.config import ClusterConfig, Config, EchoConfig, GeneratorConfig, ModelConfig, RunConfig
from synthgen.flow import Flow, ResolvedStage, resolve_flow
from synthgen.ledger.ingest import PromptLedger, ingest_prompts
from synthgen.ledger.lease import Lease
from synthgen.ledger.run_dir import PROMPTS, RunDir
from synthgen.observe.snapshot import Snapshot
from synthgen.runtime.executor import Executor
from synthgen.runtime.pools import PoolSpec
from synthgen.runtime.scheduler import Scheduler, StageNode
from synthgen.stages.generate import GenerateStage
from tests.inline_runs import InlineExecutor


def write_prompts(path: Path, count: int, special: dict[int, str] | None = None) -> Path:
    """Write `count` distinct prompts as JSONL; `special` gives the text of some of them."""
    special = special or {}
    lines = [json.dumps({"prompt": special.get(i, f"Question number {i}?"), "number": i}) for i in range(count)]
    path.write_text("\n".join(lines) + "\n")
    return path


@dataclass
class SmallRun:
    """One generator `main` on an echo engine over a prompt file, in `directory`."""

    directory: Path
    prompts: int = 24
    unit_size: int = 4
    echo: EchoConfig = field(default_factory=EchoConfig)
    special: dict[int, str] = field(default_factory=dict)
    replicas: int = 2
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    grace_s: float = 5.0
    max_num_seqs: int = 16
    num_gpus: float = 0.0

    def config(self) -> Config:
        """Return the configuration."""
        path = self.directory / "prompts.jsonl"
        if not path.exists():
            write_prompts(path, self.prompts, self.special)
        model = ModelConfig(name="echo", id="echo", engine="echo", echo=self.echo, max_num_seqs=self.max_num_seqs)
        config = Config(generators={"main": GeneratorConfig(model=model, n=2)}, cluster=self.cluster)
        config.prompts.path = str(path)
        config.run = RunConfig(
            dir=str(self.directory / "run"), unit_size=self.unit_size, grace_s=self.grace_s, lease_s=30
        )
        return config

    def prepare(self) -> Prepared:
        """Ingest the prompts and return all that an executor needs."""
        config = self.config()
        run_dir = RunDir(config.run.dir)
        ledger = ingest_prompts(run_dir, config)
        stages = resolve_flow(Flow([GenerateStage("main", config.generators["main"], run_seed=0)], _no_export))
        return Prepared(self, config, run_dir, ledger, stages)


@dataclass
class Prepared:
    """A small run that is ready to be executed, more than once if need be."""

    settings: SmallRun
    config: Config
    run_dir: RunDir
    ledger: PromptLedger
    stages: Sequence[ResolvedStage]

    @property
    def directory(self) -> str:
        """Directory of the stage's units."""
        return self.stages[0].files.directory

    def scheduler(self) -> Scheduler:
        """Return what is left to do."""
        stage = self.stages[0]
        return Scheduler(
            [StageNode(stage.name, "echo")],
            self.ledger.unit_rows,
            {stage.name: self.run_dir.committed(self.directory)},
            {stage.name: self.run_dir.parts(self.directory)},
            max_task_attempts=self.config.cluster.max_task_attempts,
        )

    def spec(self) -> PoolSpec:
        """Return the only pool."""
        stage = self.stages[0]
        model = self.config.generators["main"].model
        replicas, gpus = self.settings.replicas, self.settings.num_gpus
        return PoolSpec("echo", model, {stage.name: stage.files}, replicas=replicas, num_gpus=gpus, num_cpus=0.1)

    def execute(self, observe: Callable[[Snapshot, Executor], None] | None = None) -> Executor:
        """Run what the ledger says is missing, and return the executor that did."""
        lease = Lease(self.run_dir.storage, self.config.run.lease_s)
        holder: list[Executor] = []
        try:
            executor = Executor(
                self.run_dir,
                self.scheduler(),
                [self.spec()],
                run=self.config.run,
                cluster=self.config.cluster,
                lease=lease,
                observe=lambda snapshot: observe(snapshot, holder[0]) if observe else None,
            )
            holder.append(executor)
            executor.run()
            return executor
        finally:
            lease.release()

    def rows(self) -> pa.Table:
        """Return all committed rows of the stage, in order."""
        units = sorted(self.run_dir.committed(self.directory))
        tables = [self.run_dir.read_unit(self.directory, unit).replace_schema_metadata(None) for unit in units]
        return pa.concat_tables(tables)

    def prompt_ids(self) -> list[str]:
        """Return the run's prompt ids in order."""
        units = range(len(self.ledger.unit_rows))
        return [i for unit in units for i in self.run_dir.read_unit(PROMPTS, unit)["prompt_id"].to_pylist()]

    def check_complete(self) -> None:
        """Assert that every prompt has its n rows, once, in order."""
        expected = [prompt_id for prompt_id in self.prompt_ids() for _ in range(2)]
        assert self.rows()["prompt_id"].to_pylist() == expected


def undisturbed(settings: SmallRun, directory: Path) -> pa.Table:
    """Return the rows of the same run when nothing disturbs it (no poison, no delay, no Ray)."""
    directory.mkdir()
    calm = replace(settings, directory=directory, echo=EchoConfig(output_tokens=settings.echo.output_tokens))
    prepared = calm.prepare()
    InlineExecutor(prepared.run_dir, prepared.scheduler(), [prepared.spec()]).run()
    return prepared.rows()


def _no_export(*_: Any, **__: Any) -> None:
    return None
