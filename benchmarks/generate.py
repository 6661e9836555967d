"""1. The generate stage against one `vllm.LLM.chat` call: same prompts, engine settings, sampling and seeds.

`busy_s` is what a run reports: from the stage's first request to its last completion, through the executor, replicas
and ledger. The call's time is that of `LLM.chat` alone. Both engines stay loaded and take turns.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.engines import Engines
from benchmarks.outcome import Outcome, Target, interleave, ratios, spread
from benchmarks.raw import RawResult
from benchmarks.work import make_config
from synthgen.config import Config
from synthgen.export import export_dataset
from synthgen.flow import Flow, ResolvedStage, resolve_flow
from synthgen.planning import plan_pools
from synthgen.records import Request
from synthgen.run_dir import PROMPTS, RunDir
from synthgen.session import pool_specs
from synthgen.stages.generate import GenerateStage


@dataclass(frozen=True)
class Case:
    """A model, completions per prompt, prompts, and how often each side is measured."""

    model: str
    n: int
    prompts: int
    repetitions: int


CASES = (
    Case("tiny", 1, 4000, 3),
    Case("tiny", 4, 1000, 3),
    Case("small-random", 1, 400, 2),
    Case("small-random", 4, 100, 2),
)
QUICK = (Case("tiny", 1, 64, 1), Case("tiny", 4, 32, 1))


def measure(engines: Engines, quick: bool) -> Outcome:
    """Return the ratio of speeds per case; above 1 the stage is faster than the call."""
    rows: list[dict[str, Any]] = []
    medians = []
    for case in QUICK if quick else CASES:
        stage_speed, call_speed = _measure_case(engines, case)
        relative = ratios(stage_speed, call_speed)
        medians.append((case, statistics.median(relative)))
        rows.append(
            {
                "model": case.model,
                "n": case.n,
                "prompts": case.prompts,
                "stage, tokens/s": spread(stage_speed, 0),
                "LLM.chat, tokens/s": spread(call_speed, 0),
                "stage / call": spread(relative),
            }
        )
        if case.model != "tiny":
            engines.free()
    targets = [Target(f"generate / raw, {case.model}, n={case.n}", round(value, 3), 1.0) for case, value in medians]
    title = "the generate stage against vllm.LLM.chat, output tokens per second"
    return Outcome("generate", title, rows, targets, ["Median (lowest-highest) over interleaved repetitions."])


def _measure_case(engines: Engines, case: Case) -> tuple[list[float], list[float]]:
    config, stages = make_stages(engines, case)
    engines.load(config, stages, raw=True)
    requests: list[Request] = []

    def run_stage() -> float:
        config, stages = make_stages(engines, case)
        report = engines.run(config, stages)["generate-main"]
        requests[:] = requests or prepare_requests(config, stages[0])
        return float(report["output_tokens"] / report["busy_s"])

    def call_raw() -> float:
        result = call_llm(engines, config, stages, requests)
        return result.output_tokens / result.elapsed_s

    cases: dict[str, Callable[[], float]] = {"stage": run_stage, "call": call_raw}
    found = interleave(cases, case.repetitions)
    return found["stage"], found["call"]


def make_stages(engines: Engines, case: Case, *overrides: str) -> tuple[Config, list[ResolvedStage]]:
    """Return a fresh run of a case and its generate stage."""
    config = make_config(
        engines.new_directory(),
        case.prompts,
        f"model@generators.main.model={case.model}",
        f"model@judge.model={case.model}",
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
