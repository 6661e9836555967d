"""Requests and tokens of each stage."""

from __future__ import annotations

from dataclasses import replace

import pytest
from planning_clusters import MODELS

from synthgen.config import Config, GeneratorConfig, JudgeConfig, JudgeMode, PromptsConfig, Rationale, SamplingConfig
from synthgen.config.compose import compose_config
from synthgen.planning import StageLedger
from synthgen.planning.workload import (
    CHAT_TOKENS,
    JUDGE_TEMPLATE_TOKENS,
    RATING_TOKENS,
    Assumptions,
    StageWork,
    list_work,
)


def make_config(**judge: object) -> Config:
    model = MODELS["llama-3.1-8b"]
    return Config(
        prompts=PromptsConfig(path="prompts.jsonl", limit=1000),
        generators={"main": GeneratorConfig(model=model, n=4, sampling=SamplingConfig(max_tokens=1000))},
        judge=JudgeConfig(model=model, canary_fraction=0.0, **judge),  # type: ignore[arg-type]
    )


def test_list_work_counts_requests_and_tokens() -> None:
    generate, judge = list_work(make_config(aspects=["honesty", "helpfulness"], orders=2))
    assert (generate.name, generate.key) == ("generate-main", "generators.main.model")
    assert (generate.prompts, generate.requests, generate.completions) == (1000, 1000, 4)
    assert generate.output_tokens == 500  # half of max_tokens
    assert generate.total_output_tokens == 1000 * 4 * 500
    assert generate.lengths.prefill == generate.input_tokens / 4
    assert (judge.name, judge.requests, judge.completions) == ("judge", 1000 * 2 * 2, 1)
    assert judge.input_tokens == JUDGE_TEMPLATE_TOKENS + (generate.input_tokens - CHAT_TOKENS) + 4 * 500
    assert judge.output_tokens == 4 * RATING_TOKENS[Rationale.short]


def test_list_work_splits_long_lists_and_single_texts() -> None:
    config = make_config()
    config.generators["main"].n = 10
    _, groups = list_work(config)
    assert groups.requests == 2000  # two groups of five
    config.judge.mode = JudgeMode.pointwise
    _, single = list_work(config)
    assert single.requests == 10_000
    assert single.output_tokens == RATING_TOKENS[Rationale.short]


def test_list_work_takes_the_stated_length() -> None:
    config = make_config()
    config.plan.output_tokens = 123.0
    assert list_work(config)[0].output_tokens == 123


def test_list_work_puts_measurements_first() -> None:
    ledger = {
        "generate-main": StageLedger(
            units_total=10, units_done=4, prompts_total=640, prompts_done=250, prompt_tokens=90.0,
            input_tokens=111.0, output_tokens=222.0, output_tokens_per_s=3333.0,
        ),
        "judge": StageLedger(units_total=10, units_done=0, prompts_total=640, prompt_tokens=90.0),
    }  # fmt: skip
    generate, judge = list_work(make_config(), ledger)
    assert (generate.prompts, generate.input_tokens, generate.output_tokens) == (390, 111, 222)
    assert generate.measured == ("input", "output", "speed")
    assert generate.output_tokens_per_s == 3333
    assert (judge.prompts, judge.measured) == (640, ())
    assert judge.input_tokens == JUDGE_TEMPLATE_TOKENS + 90 + 4 * 222


def test_with_principles_each_completion_is_a_request_of_its_own() -> None:
    plain = compose_config(["experiment=echo", "run.dir=x", "generators.main.n=4"])
    said = compose_config(
        ["experiment=echo", "run.dir=x", "generators.main.n=4", f"generators.main.principles=[{'a' * 40}]"]
    )
    (one, judge), (each, same) = list_work(plain), list_work(said)
    assert (each.requests, each.completions) == (4 * one.requests, 1)
    assert each.input_tokens == one.input_tokens + 10  # four letters a token
    assert (each.total_output_tokens, each.bill.requests) == (one.total_output_tokens, one.bill.requests)
    assert (same.requests, same.input_tokens) == (judge.requests, judge.input_tokens), "a judge sees all four"


def test_list_work_of_a_finished_run_is_nothing() -> None:
    done = StageLedger(units_total=10, units_done=10, prompts_total=640, prompts_done=640)
    work = list_work(make_config(), {"generate-main": done, "judge": done})
    assert [item.requests for item in work] == [0, 0]


@pytest.mark.parametrize("name", ["prompt_length", "output_length", "judgement_length"])
def test_assumptions_move_the_tokens(name: str) -> None:
    def total(factor: float) -> float:
        work = list_work(make_config(), {}, replace(Assumptions(), **{name: factor}))
        return sum(item.total_input_tokens + item.total_output_tokens for item in work)

    assert total(0.5) < total(1.0) < total(1.5)


def test_assumed_lengths_stay_within_max_tokens() -> None:
    generate, _ = list_work(make_config(), {}, Assumptions(output_length=5.0))
    assert generate.output_tokens == 1000


def test_a_judge_that_is_known_to_think_is_planned_with_its_thoughts() -> None:
    def judge_work(*overrides: str) -> StageWork:
        made = compose_config(["experiment=echo", "run.dir=x", "model@judge.model=qwen3-8b", *overrides])
        return next(work for work in list_work(made) if work.kind == "judgements")

    silent = judge_work("judge.model.thinking=false")
    thinking = judge_work()
    assert thinking.max_output_tokens == silent.max_output_tokens + 2048
    assert thinking.output_tokens == silent.output_tokens + 1024  # half of the budget where nothing is measured
    assert judge_work("judge.thinking_budget=100").max_output_tokens == silent.max_output_tokens + 100
    assert judge_work("judge.model.reasoning_parser=none").max_output_tokens == silent.max_output_tokens
    # A family that thinks only when it is told to.
    quiet = judge_work("model@judge.model=hy3")
    told = judge_work("model@judge.model=hy3", "judge.model.chat_template_kwargs={reasoning_effort: high}")
    assert told.max_output_tokens == quiet.max_output_tokens + 2048
