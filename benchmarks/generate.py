"""1. The generate stage against one `vllm.LLM.chat` call: same prompts, engine settings, sampling and seeds.

`busy_s` is what a run reports: from the stage's first request to its last completion, through the executor, replicas
and ledger. The call's time is that of `LLM.chat` alone. A third side gives all requests to the stage's own engine at
once: it is the same process, so that what the pipeline costs is told from what two processes differ by.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.engines import Engines
from benchmarks.outcome import Outcome, Target, interleave, median, ratios, spread
from benchmarks.raw import RawResult
from benchmarks.work import make_config
from synthgen.config import Config
from synthgen.export import export_dataset
from synthgen.flow import Flow, ResolvedStage, resolve_flow
from synthgen.ledger.ingest import ingest_prompts
from synthgen.ledger.run_dir import PROMPTS, RunDir
from synthgen.planning import plan_pools
from synthgen.records import Request
from synthgen.runtime.session import pool_specs
from synthgen.stages.generate import GenerateStage


@dataclass(frozen=True)
class Case:
    """A model, completions per prompt, prompts, how often new engines are started, and passes of each side on them."""

    model: str
    n: int
    prompts: int
    repetitions: int
    passes: int = 1


CASES = (
    Case("tiny", 1, 1000, 2, 3),
    Case("tiny", 4, 250, 2, 3),
    Case("small-random", 1, 100, 2),
    Case("small-random", 4, 25, 2),
)
WARM_UP = 32
"""Prompts of the pass that precedes a measurement."""

QUICK = (Case("tiny", 1, 64, 1), Case("tiny", 4, 32, 1))

STAGE, CALL, AT_ONCE = "stage", "LLM.chat", "all at once"


def measure(engines: Engines, quick: bool) -> Outcome:
    """Return the ratio of speeds per case; above 1 the stage is faster than the call."""
    rows: list[dict[str, Any]] = []
    targets = []
    cases = QUICK if quick else CASES
    for model in dict.fromkeys(case.model for case in cases):
        found = _measure_model(engines, [case for case in cases if case.model == model])
        for case, speeds in found.items():
            to_call, to_itself = ratios(speeds[STAGE], speeds[CALL]), ratios(speeds[STAGE], speeds[AT_ONCE])
            rows.append(
                {
                    "model": case.model,
                    "n": case.n,
                    "prompts": case.prompts,
                    "stage, tokens/s": spread(speeds[STAGE], 0),
                    "stage / LLM.chat": spread(to_call),
                    "stage / same engine, all at once": spread(to_itself),
                }
            )
            targets.append(Target(f"generate / raw, {case.model}, n={case.n}", median(to_call), 1.0))
    title = "the generate stage against vllm.LLM.chat, output tokens per second"
    notes = [
        "Median (lowest-highest) over passes in turns, on engines that are started anew in between: two processes of "
        "one engine differ by some percent for as long as they live.",
        "All at once: every request is given to the stage's own engine at the same time, with no unit, executor or "
        "ledger; here both sides are the same process.",
    ]
    return Outcome("generate", title, rows, targets, notes)


def _measure_model(engines: Engines, cases: Sequence[Case]) -> dict[Case, dict[str, list[float]]]:
    """Return the speeds by case and side."""
    found: dict[Case, dict[str, list[float]]] = {case: {STAGE: [], CALL: [], AT_ONCE: []} for case in cases}
    for _ in range(max(case.repetitions for case in cases)):
        engines.free()
        for case in cases:
            for side, speeds in _measure_case(engines, case).items():
                found[case][side] += speeds
    engines.free()
    return found


def _measure_case(engines: Engines, case: Case) -> dict[str, list[float]]:
    config, stages = make_stages(engines, case)
    engines.load(config, stages, raw=True)
    Path(config.run.dir).mkdir(parents=True)
    ingest_prompts(RunDir(config.run.dir), config)
    requests = prepare_requests(config, stages[0])

    def run_stage(case: Case = case) -> float:
        config, stages = make_stages(engines, case)
        report = engines.run(config, stages)["generate-main"]
        return float(report["output_tokens"] / report["busy_s"])

    def call_raw(count: int | None = None) -> float:
        result = call_llm(engines, config, stages, requests[:count])
        return result.output_tokens / result.elapsed_s

    def complete_at_once() -> float:
        result = engines.complete(config, stages, requests)
        return result.output_tokens / result.elapsed_s

    run_stage(replace(case, prompts=WARM_UP))
    call_raw(WARM_UP)
    sides: dict[str, Callable[[], float]] = {STAGE: run_stage, CALL: call_raw, AT_ONCE: complete_at_once}
    return interleave(sides, case.passes)


def make_stages(engines: Engines, case: Case, *overrides: str) -> tuple[Config, list[ResolvedStage]]:
    """Return a fresh run of a case and its generate stage."""
    config = make_config(
        engines.new_directory(),
        case.prompts,
        f"model@generators.main.model={case.model}",
        f"model@judge.model={case.model}",
        "generators.main.model.enforce_eager=true",  # compiling would take most of the benchmark's time
        "judge.model.enforce_eager=true",
        *overrides,
    )
    config.generators["main"].n = case.n  # not an override: a whole run needs at least two
    stage = GenerateStage("main", config.generators["main"], run_seed=config.run.seed)
    return config, resolve_flow(Flow([stage], export_dataset))


def prepare_requests(config: Config, stage: ResolvedStage) -> list[Request]:
    """Return the requests of all units of a run's stage, whose inputs are committed."""
    run_dir = RunDir(config.run.dir)
    requests = []
    for unit in sorted(run_dir.committed(PROMPTS)):
        tables = {name: run_dir.read_unit(directory, unit) for name, directory in stage.files.inputs.items()}
        requests += stage.files.stage.prepare(tables)
    return requests


def call_llm(engines: Engines, config: Config, stages: list[ResolvedStage], requests: list[Request]) -> RawResult:
    """Return what one `LLM.chat` call over `requests` took, its prefix cache being empty."""
    import ray

    plan = plan_pools(config, config.cluster, stages={s.name: s.files.stage.model for s in stages})
    raw = engines.raw(pool_specs(plan, stages)[0])
    ray.get(raw.reset.remote())
    result: RawResult = ray.get(raw.chat.remote(requests))
    return result
