"""`synthgen plan`: the whole answer."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planning_clusters import CPU, MODELS, gpus

from synthgen.config import (
    ClusterConfig,
    Config,
    GeneratorConfig,
    JudgeConfig,
    PromptsConfig,
    SamplingConfig,
    ScorerConfig,
)
from synthgen.planning import StageLedger, format_plan, make_plan, plan_to_json

ROOT = Path(__file__).parents[2]


def make_config(generator: str, judge: str, cluster: ClusterConfig, prompts: int = 10_000) -> Config:
    return Config(
        prompts=PromptsConfig(path="prompts.jsonl", limit=prompts),
        generators={"main": GeneratorConfig(model=MODELS[generator], n=4, sampling=SamplingConfig(max_tokens=1024))},
        judge=JudgeConfig(model=MODELS[judge]),
        cluster=cluster,
    )


def test_make_plan_gives_ranges_around_the_middle() -> None:
    plan = make_plan(make_config("llama-3.1-8b", "llama-3.3-70b-w8a8", gpus("h100-80")))
    assert plan.hours is not None
    assert plan.gpu_hours is not None
    assert plan.usd is not None
    assert plan.estimate.wall_s is not None
    assert plan.estimate.gpu_hours is not None
    assert plan.hours[0] < plan.estimate.wall_s / 3600 < plan.hours[1]
    assert plan.gpu_hours[0] < plan.estimate.gpu_hours < plan.gpu_hours[1]
    assert plan.usd == tuple(hours * 2.0 for hours in (plan.gpu_hours[0], plan.estimate.gpu_hours, plan.gpu_hours[1]))
    widths = [swing.width for swing in plan.swings]
    assert widths == sorted(widths, reverse=True)
    assert {swing.name for swing in plan.swings} == {
        "output_length", "judgement_length", "prompt_length", "efficiency",
    }  # fmt: skip


def test_make_plan_narrows_with_what_units_measured() -> None:
    config = make_config("llama-3.1-8b", "llama-3.3-70b-w8a8", gpus("h100-80"))
    before = make_plan(config)
    units = StageLedger(units_total=157, units_done=10, prompts_total=10_000, prompts_done=640)
    ledger = {
        "generate-main": replace(units, input_tokens=270.0, output_tokens=512.0, output_tokens_per_s=5000.0),
        "judge": replace(units, input_tokens=2848.0, output_tokens=180.0, output_tokens_per_s=500.0),
    }
    after = make_plan(config, ledger)
    assert before.gpu_hours is not None
    assert after.gpu_hours is not None
    assert all(swing.measured for swing in after.swings)
    assert after.gpu_hours[1] / after.gpu_hours[0] < before.gpu_hours[1] / before.gpu_hours[0] / 1.5


def test_make_plan_uses_the_measured_speed_where_no_data_sheet_helps() -> None:
    config = make_config("tiny", "tiny", CPU)
    assert make_plan(config).hours is None
    ledger = {
        stage: StageLedger(157, 57, 10_000, 5_000, None, 100.0, 50.0, 1000.0) for stage in ("generate-main", "judge")
    }
    plan = make_plan(config, ledger)
    assert plan.estimate.stage_s["generate-main"] == pytest.approx(5_000 * 4 * 50 / 1000)
    assert plan.gpu_hours is None
    assert plan.hours is not None


def test_make_plan_of_a_finished_run_costs_nothing() -> None:
    done = StageLedger(units_total=157, units_done=157, prompts_total=10_000, prompts_done=10_000)
    config = make_config("llama-3.1-8b", "llama-3.1-8b", gpus("h100-80"))
    plan = make_plan(config, {"generate-main": done, "judge": done})
    assert plan.estimate.wall_s == 0
    assert "nothing is left to do" in format_plan(plan)


def test_a_small_plan_says_no_range_that_is_none() -> None:
    """12 prompts on eight GPUs: all of it is loading, and no line says `1.6 to 1.6`."""
    config = make_config("llama-3.1-405b-fp8", "llama-3.1-405b-fp8", gpus("h100-80"))
    config.prompts.limit = 12
    text = format_plan(make_plan(config))
    assert not re.findall(r"([\d.]+) to \1 ", text)
    assert "loading the models" in text
    assert text.count("KV cache: what a GPU remembers") == 1


def test_what_runs_without_a_gpu_is_not_called_nothing() -> None:
    plan = make_plan(make_config("llama-3.3-70b-w8a8", "llama-3.3-70b-w8a8", gpus("h100-80")))
    left = replace(plan, estimate=replace(plan.estimate, wall_s=0.0), hours=(0.0, 0.0))
    assert "what is left to run needs no model on a GPU" in format_plan(left)


def test_make_plan_leaves_an_endpoint_out_of_the_time() -> None:
    config = make_config("llama-3.1-8b", "openai_endpoint", gpus("h100-80"))
    plan = make_plan(config)
    assert plan.estimate.stage_s["judge"] is None
    assert plan.estimate.gpu_hours
    assert "without  judge" in format_plan(plan)


def test_format_plan_says_everything() -> None:
    text = format_plan(make_plan(make_config("llama-3.1-70b", "llama-3.1-405b-fp8", gpus("h100-80"))))
    for part in (
        "8 × H100-80",
        "take turns",
        "131.4 GiB of weights",
        "320 KiB of KV cache per token",
        "TP 4 × PP 1 × 2 replicas on 8 GPUs",
        "TP 8 × PP 1 × 1 replica on 8 GPUs",
        "generate-main",
        "judge",
        "GPU-hours",
        "at $2.00 per GPU-hour (cluster.gpu_hour_usd)",
        "most by  share of the GPU's memory bandwidth that is reached (plan.efficiency), assumed",
        "also by  tokens per completion",
    ):
        assert part in text, part
    assert max(len(line) for line in text.splitlines()) < 220


def test_pools_without_a_model_of_ours_are_not_said_to_share_layers() -> None:
    config = make_config("llama-3.1-8b", "openai_endpoint", gpus("h100-80"))
    config.scorers = {"tests": ScorerConfig(type="verifier")}
    pools = format_plan(make_plan(config)).split("\n\n")
    endpoint = next(pool for pool in pools if "for judge" in pool)
    code = next(pool for pool in pools if "score-tests" in pool.splitlines()[0])
    assert "someone else serves it" in endpoint
    assert "processes at once on 1 node, which run code and no model" in code
    assert not [pool for pool in (endpoint, code) if "TP " in pool or "sequences at once" in pool]


def test_plan_to_json_has_the_same_content() -> None:
    config = make_config("llama-3.1-70b", "llama-3.1-405b-fp8", gpus("h100-80"))
    values = json.loads(json.dumps(plan_to_json(make_plan(config)), allow_nan=False))
    assert values["mode"] == "in_turn"
    assert "runtime_env" not in values["cluster"]  # it may hold secrets
    assert [pool["name"] for pool in values["pools"]] == ["llama-3.1-70b", "llama-3.1-405b-fp8"]
    assert values["pools"][0]["engine"]["tensor_parallel_size"] == 4
    assert values["stages"]["judge"]["units_to_run"] == 157
    low, middle, high = (values["estimate"]["usd"][key] for key in ("low", "middle", "high"))
    assert 0 < low < middle < high
    assert values["moves_most"] == values["assumptions"][0]["name"]


def test_plan_is_quick_and_light() -> None:
    program = (
        "import sys, synthgen.planning as p; from synthgen.config import *\n"
        "m = {x.name: x for x in p.load_models()}\n"
        "c = Config(generators={'main': GeneratorConfig(model=m['llama-3.1-70b'])},"
        " judge=JudgeConfig(model=m['llama-3.1-405b-fp8']), prompts=PromptsConfig(path='x'),"
        " cluster=ClusterConfig(gpus_per_node=8, gpu=p.list_gpu_kinds()['h100-80']))\n"
        "p.format_plan(p.make_plan(c))\n"
        "heavy = {'torch', 'vllm', 'ray', 'transformers', 'distilabel', 'datasets', 'numpy', 'pyarrow'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == []


@settings(max_examples=25, deadline=None)
@given(prompts=st.integers(100, 100_000), more=st.integers(0, 100_000), output=st.floats(10, 1000))
def test_plans_cost_more_for_more_work(prompts: int, more: int, output: float) -> None:
    def cost(count: int, tokens: float) -> float:
        config = make_config("llama-3.1-8b", "llama-3.1-8b", gpus("h100-80"), count)
        config.plan.output_tokens = tokens
        plan = make_plan(config)
        assert plan.gpu_hours is not None
        assert plan.gpu_hours[0] <= (plan.estimate.gpu_hours or 0) <= plan.gpu_hours[1]
        return plan.estimate.gpu_hours or 0.0

    assert cost(prompts + more, output) >= cost(prompts, output)
    assert cost(prompts, output + 20) >= cost(prompts, output)
