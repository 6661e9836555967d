"""2. A whole run against the model calls in it: reading, generating, judging, pairing and writing, over raw calls.

The run is `synthgen.run.run` from its first line to its report, on an engine that stays loaded. The calls are one
`LLM.chat` over the generator's requests and one over the judge's (4 aspects, same grammars and log-probabilities). Both
sides run once beforehand on a few prompts: imports and first uses are what `startup` measures.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.engines import Engines
from benchmarks.generate import call_llm, prepare_requests
from benchmarks.outcome import Outcome, Target, interleave, median, ratios, spread
from benchmarks.work import make_config
from synthgen.config import Config
from synthgen.flow import load_flow, resolve_flow
from synthgen.records import Request
from synthgen.run import run

PROMPTS, REPETITIONS, QUICK_PROMPTS = 80, 3, 16
UNIT_PROMPTS = 16
"""Small beside PROMPTS, as units are beside a real run: the judge begins long before the last completion."""


def measure(engines: Engines, quick: bool) -> Outcome:
    """Return the time of the calls over the time of the run; 1 means that nothing is lost on the way."""
    prompts = QUICK_PROMPTS if quick else PROMPTS
    first = _configure(engines, prompts)
    stages = resolve_flow(load_flow(first))
    engines.load(first, stages, raw=True)
    requests: dict[str, list[Request]] = {}
    shares: list[dict[str, float]] = []

    def run_all(prompts: int = prompts) -> float:
        config = _configure(engines, prompts)
        with engines.warm_pools():
            began = time.perf_counter()
            report = run(config, quiet=True)
            elapsed = time.perf_counter() - began
        for stage in resolve_flow(load_flow(config)):
            requests[stage.name] = prepare_requests(config, stage)
        shares.append({name: stage["busy_s"] for name, stage in report["stages"].items()} | {"run": elapsed})
        return elapsed

    def call_both() -> float:
        return sum(call_llm(engines, first, stages, requests[stage.name]).elapsed_s for stage in stages)

    if not quick:
        run_all(QUICK_PROMPTS)
        call_both()
        shares.clear()
    cases: dict[str, Callable[[], float]] = {"run": run_all, "calls": call_both}
    found = interleave(cases, 1 if quick else REPETITIONS)
    relative = ratios(found["calls"], found["run"])
    rows: list[dict[str, Any]] = [
        {"what": "raw calls, s", "median (lowest-highest)": spread(found["calls"], 2)},
        {"what": "whole run, s", "median (lowest-highest)": spread(found["run"], 2)},
        *[
            {"what": f"of it {name}, s", "median (lowest-highest)": spread([share[name] for share in shares], 2)}
            for name in shares[0]
            if name != "run"
        ],
        {"what": "calls / run", "median (lowest-highest)": spread(relative)},
    ]
    return Outcome(
        "pipeline",
        f"{prompts:,} prompts, n=4, 4 aspects, short rationales: a whole run against raw calls",
        rows,
        [Target("pipeline / raw", median(relative), 0.97)],
        ["Generating and judging overlap in a run, so their times add up to more than the whole."],
    )


def _configure(engines: Engines, prompts: int) -> Config:
    return make_config(
        engines.new_directory(), prompts, "judge=ultrafeedback_4_aspects", f"run.unit_size={UNIT_PROMPTS}"
    )
