"""The real judge stage over echo engines: judges with a known bias are caught, and judge-eval tells good from bad."""

from __future__ import annotations

import asyncio
from statistics import mean
from typing import Any

import pyarrow as pa
import pytest
from judged_tables import make_prompts

from synthgen.config import EchoConfig, GeneratorConfig, JudgeConfig, ModelConfig, PairsConfig
from synthgen.engines.echo import EchoEngine
from synthgen.judge_eval import LabelledPair, LabelledSet, evaluate, to_unit_tables
from synthgen.pairs import pair_unit
from synthgen.pairs.estimates import estimate
from synthgen.records import Tables
from synthgen.stages.base import LLMStage
from synthgen.stages.generate import GenerateStage
from synthgen.stages.judge import JudgeStage
from synthgen.trust import find_noise, format_trust, list_findings, measure_trust


def _model(name: str, judge: str = "quality") -> ModelConfig:
    return ModelConfig(name=name, id=f"echo/{name}", engine="echo", echo=EchoConfig(judge=judge, long_tail=True))


def _run(stage: LLMStage, tables: Tables) -> pa.Table:
    engine = EchoEngine(stage.model)
    requests = stage.prepare(tables)

    async def generate() -> list[Any]:
        return [await engine.generate(request) for request in requests]

    return stage.collect(tables, requests, asyncio.run(generate()))


def _judge(rule: str, tables: Tables, generator: str, **judge: Any) -> pa.Table:
    config = JudgeConfig(model=_model("judge", rule), orders=2, **judge)
    return _run(JudgeStage(config, (generator,), run_seed=1), tables)


@pytest.fixture(scope="module")
def answered() -> Tables:
    """150 prompts with four completions each."""
    prompts = make_prompts(*(f"p{i}" for i in range(150)))
    generate = GenerateStage("main", GeneratorConfig(model=_model("main"), n=4), run_seed=1)
    return {"prompts": prompts, "generate-main": _run(generate, {"prompts": prompts})}


def _measure(answered: Tables, rule: str) -> dict[str, Any]:
    judgements = _judge(rule, answered, "main", canary_fraction=1.0)
    return measure_trust(
        [(answered["generate-main"], judgements)],
        use_expected=True,
        seed=1,
        judge_model="echo/judge",
        generator_models={"main": "echo/main"},
    )


def _warned(report: dict[str, Any]) -> set[str]:
    return {finding.check for finding in list_findings(report) if finding.verdict == "warning"}


def test_a_judge_that_gives_the_first_slot_a_five_is_caught(answered: Tables) -> None:
    report = _measure(answered, "slot1")
    assert "position" in _warned(report)
    assert report["position"][0]["interval"][0] > 1
    assert any("place 1" in warning for warning in report["warnings"])


def test_a_judge_that_prefers_what_is_longer_is_caught(answered: Tables) -> None:
    report = _measure(answered, "longer")
    assert "length" in _warned(report)
    assert report["length"]["slope_interval"][0] > 0
    assert report["length"]["longer_chosen_share"] > 0.95
    assert report["canaries"]["padded"]["share"] < 0.2
    assert not _warned(report) & {"noise", "position", "order", "agreement"}


def test_a_random_judge_is_at_chance_and_handles_no_canaries(answered: Tables) -> None:
    report = _measure(answered, "random")
    assert {"noise", "order", "agreement", "canaries"} <= _warned(report)
    assert any(warning.startswith("this judge's scores are mostly noise: ") for warning in report["warnings"])
    assert not _warned(report) & {"position", "length"}
    assert abs(report["agreement"]["alpha_overall"]) < 0.15
    low, high = report["order_flips"]["interval"]
    assert low < 0.5 < high
    assert all(canary["share"] < 0.8 for canary in report["canaries"].values())


def test_a_judge_that_goes_by_the_text_alone_agrees_with_itself(answered: Tables) -> None:
    report = _measure(answered, "quality")
    assert not _warned(report) & {"noise", "position", "order", "agreement", "length", "scale", "ties", "validity"}
    assert find_noise(report) is None
    assert report["order_flips"]["flips"] == 0
    assert report["agreement"]["alpha_overall"] == 1.0
    assert report["ties"]["broken_share"] > 0.9
    assert report["canaries"]["duplicate"]["share"] == 1.0
    assert "ok   order" in format_trust(report)


def test_judged_completions_become_pairs_without_their_canaries(answered: Tables) -> None:
    generations = answered["generate-main"]
    judgements = _judge("quality", answered, "main", canary_fraction=0.5)
    assert judgements["canary"].null_count < len(judgements)
    made = pair_unit(answered["prompts"], generations, judgements, PairsConfig(), use_expected=True, run_seed=1)
    assert made.counts.pairs + made.counts.ties + sum(made.counts.dropped.values()) == 150
    assert made.counts.pairs > 140
    lists = made.generations["judgements"].to_pylist()
    assert {len(judged) for judged in lists} == {2}


def test_what_was_shown_first_gains_nothing_from_it(answered: Tables) -> None:
    judgements = _judge("slot1", answered, "main", canary_fraction=0.0)
    first = {
        (row["prompt_id"], completion_id)
        for row in judgements.to_pylist()
        for completion_id, slot in zip(row["completion_ids"], row["slots"], strict=True)
        if slot == 0
    }
    gaps = []
    for correct in (False, True):
        estimates = estimate(judgements, 150, use_expected=True, correct_place=correct)
        made = pair_unit(
            answered["prompts"],
            answered["generate-main"],
            judgements,
            PairsConfig(),
            use_expected=True,
            run_seed=1,
            estimates=estimates,
        ).generations.to_pylist()
        by_place: dict[bool, list[float]] = {True: [], False: []}
        for row in made:
            by_place[(row["prompt_id"], row["completion_id"]) in first].append(row["score"])
        gaps.append(mean(by_place[True]) - mean(by_place[False]))
    assert gaps[0] > 1.3
    assert abs(gaps[1]) < 0.05


def test_judge_eval_tells_a_judge_that_knows_from_one_that_goes_by_the_place() -> None:
    words = "word " * 40
    pairs = tuple(
        LabelledPair(str(i), "all", ({"role": "user", "content": f"q{i}"},), texts, better)
        for i in range(40)
        for texts, better in [((words + f"x{i}", f"short {i}"), 0) if i % 2 else ((f"short {i}", words + f"x{i}"), 1)]
    )
    labelled = LabelledSet(pairs, {})
    results = {
        rule: evaluate(labelled, _judge(rule, to_unit_tables(labelled), "labelled", canary_fraction=0.0))["all"]
        for rule in ("longer", "slot1", "random")
    }
    assert (results["longer"]["accuracy"], results["longer"]["consistent_accuracy"]) == (1.0, 1.0)
    assert results["longer"]["kappa"] == 1.0
    assert (results["slot1"]["accuracy"], results["slot1"]["consistent_accuracy"]) == (0.5, 0.0)
    assert 0.3 < results["random"]["accuracy"] < 0.7
