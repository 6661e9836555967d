"""2. A whole run against the model calls in it: reading, generating, judging, pairing and writing, over raw calls.

The run is `synthgen.runtime.run.run` from its first line to its report, on an engine that stays loaded. The calls are
one `LLM.chat` over the generator's requests and one over the judge's (4 aspects, same grammars and log-probabilities).
Both sides run once beforehand on a few prompts: imports and first uses are what `startup` measures.
"""

from __future__ import annotations

import time
from typing import Any

from benchmarks.engines import Engines
from benchmarks.generate import call_llm, prepare_requests
from benchmarks.outcome import Outcome, Target, median, ratios, spread
from benchmarks.work import make_config
from synthgen.config import Config
from synthgen.flow import load_flow, resolve_flow
from synthgen.records import Request
from synthgen.runtime.run import run

PROMPTS, QUICK_PROMPTS, WARM_UP = 48, 16, 8
REPETITIONS = 3
UNIT_PROMPTS = 16
"""Small beside PROMPTS, as units are beside a real run: the judge begins long before the last completion."""


Requests = dict[str, list[Request]]
"""Requests by stage."""


def measure(engines: Engines, quick: bool) -> Outcome:
    """Return the time of the calls over the time of the run; 1 means that nothing is lost on the way."""
    prompts = QUICK_PROMPTS if quick else PROMPTS
    warm_up: Requests = {}
    requests: Requests = {}
    runs: list[dict[str, float]] = []
    calls: list[float] = []
    for repetition in range(1 if quick else REPETITIONS):
        engines.free()  # two processes of one engine differ by some percent for as long as they live
        config = _configure(engines, prompts)
        engines.load(config, resolve_flow(load_flow(config)), raw=True)
        _run(engines, WARM_UP, warm_up)
        _call(engines, config, warm_up)
        if repetition % 2:
            calls.append(_call(engines, config, requests))
        runs.append(_run(engines, prompts, requests))
        if repetition % 2 == 0:
            calls.append(_call(engines, config, requests))
    engines.free()
    relative = ratios(calls, [run["run"] for run in runs])
    rows: list[dict[str, Any]] = [
        {"what": "raw calls, s", "median (lowest-highest)": spread(calls, 2)},
        {"what": "whole run, s", "median (lowest-highest)": spread([run["run"] for run in runs], 2)},
        *[
            {"what": f"of it {name}, s", "median (lowest-highest)": spread([run[name] for run in runs], 2)}
            for name in runs[0]
            if name != "run"
        ],
        {"what": "calls / run", "median (lowest-highest)": spread(relative)},
    ]
    return Outcome(
        "pipeline",
        f"{prompts:,} prompts, n=4, 4 aspects, short rationales: a whole run against raw calls",
        rows,
        [Target("pipeline / raw", median(relative), 0.97)],
        [
            "Generating and judging overlap in a run, so their times add up to more than the whole.",
            "New engines for every repetition.",
        ],
    )


def _run(engines: Engines, prompts: int, requests: Requests) -> dict[str, float]:
    """Return what a run took, `run`, and how long its stages were busy, s; put its requests into `requests`."""
    config = _configure(engines, prompts)
    with engines.warm_pools():
        began = time.perf_counter()
        report = run(config, quiet=True)
        elapsed = time.perf_counter() - began
    for stage in resolve_flow(load_flow(config)):
        requests[stage.name] = prepare_requests(config, stage)
    return {name: stage["busy_s"] for name, stage in report["stages"].items()} | {"run": elapsed}


def _call(engines: Engines, config: Config, requests: Requests) -> float:
    """Return what the raw calls take together, s."""
    stages = resolve_flow(load_flow(config))
    return sum(call_llm(engines, config, stages, requests[stage.name]).elapsed_s for stage in stages)


def _configure(engines: Engines, prompts: int) -> Config:
    return make_config(
        engines.new_directory(), prompts, "judge=ultrafeedback_4_aspects", f"run.unit_size={UNIT_PROMPTS}"
    )
