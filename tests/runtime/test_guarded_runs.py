"""Runs with guards and reward models, on echo and without Ray: gates, dropped prompts, the plan, and kills."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tiny_scorers import make_prompt_guard

from synthgen.api import open_run
from synthgen.config import Config, GeneratorConfig, LongTexts, ModelConfig, PairsConfig, ScorerConfig, ScorerInput
from synthgen.config.compose import compose_config
from synthgen.config.scorers import list_scorer_models
from synthgen.config.validate import validate_config
from synthgen.engines.preflight import check_requests
from synthgen.errors import ConfigError
from synthgen.flow import load_flow, resolve_flow
from synthgen.ledger.storage import open_storage
from synthgen.pairs import check_pairs
from synthgen.planning import RunPlan, format_plan, make_plan
from synthgen.publish.licences import check_licences
from synthgen.records import Request, Sampling
from synthgen.runtime.run import run
from tests.inline_runs import Life, inline_runs, killed_at

PROMPTS = 12
ECHO = ModelConfig(name="echo", id="echo", engine="echo")
GUARDS = (
    "scorers.asked=guard", "scorers.asked.model=echo", "scorers.asked.reads=prompt",
    "scorers.safe.type=guard", "scorers.safe.model=echo",
    "+scorer@scorers.rm=reward", "+model@scorers.rm.model=echo", "pairs.score=rm",
)  # fmt: skip


@pytest.fixture(scope="module")
def life() -> Iterator[Life]:
    with inline_runs() as life:
        yield life


@pytest.fixture
def base(tmp_path: Path) -> list[str]:
    lines = [{"prompt": f"Tell me about the number {i}."} for i in range(PROMPTS)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    own = [f"prompts.path={tmp_path / 'prompts.jsonl'}", f"run.dir={tmp_path / 'run'}", "run.unit_size=4"]
    return ["experiment=echo", *own, "judge=none"]


def make(*overrides: str) -> dict[str, Any]:
    return run(compose_config(overrides), quiet=True)


def read(report: dict[str, Any], name: str = "data") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(f"{report['run_dir']}/dataset/{name}").to_pylist()
    return rows


def test_prompts_are_dropped_by_what_a_guard_says_of_them(base: list[str], life: Life) -> None:
    free = make(*base, *GUARDS, "export.formats=[sft]")
    said = {row["prompt_id"]: {one["scorer"]: one for one in row["scores"]} for row in read(free, "generations")}
    unsafe = {prompt for prompt, scores in said.items() if not scores["asked"]["verdict"]}
    assert 0 < len(unsafe) < PROMPTS
    assert all(said[prompt]["asked"]["detail"] == "S1" for prompt in unsafe)
    asked = free["scorers"]["asked"]
    assert (asked["prompts"], asked["values"], asked["failed"]) == (PROMPTS, PROMPTS, len(unsafe))
    assert asked["cost"]["requests"] == PROMPTS
    assert [(one["scorer"], one["other"]) for one in free["scorer_agreement"]] == [("safe", "rm")]

    rows = {name: read(free, name) for name in ("data", "kto", "sft")}
    parts = []
    sides = {"prompt_must_pass": ("prompt_failed", unsafe), "prompt_must_fail": ("prompt_passed", said.keys() - unsafe)}
    for key, (reason, dropped) in sides.items():
        report = make(*base, *GUARDS, "export.formats=[sft]", f"pairs.{key}=[asked]")
        assert all(stage["reused_units"] == stage["units"] for stage in report["stages"].values())
        assert report["pairs"]["dropped_by_reason"][reason] == len(dropped)
        for name, before in rows.items():
            assert read(report, name) == [row for row in before if row["prompt_id"] not in dropped]
        assert {row["prompt_id"] for row in read(report, "generations") if row["score"] is None} == dropped
        assert open_run(report["run_dir"]).pair().pairs.to_pylist() == read(report)
        parts += read(report)
    assert len(parts) == len(rows["data"])
    page = Path(free["run_dir"], "dataset/README.md").read_text()
    assert "P(safe) of each prompt by echo" in page
    assert "reward of each conversation by echo" in page


def test_guard_keeps_what_is_unsafe_out_of_the_chosen_side(base: list[str], life: Life) -> None:
    report = make(*base, *GUARDS, "pairs.chosen_must_pass=[safe]", "pairs.rejected_must_fail=[safe]")
    said = {
        (row["prompt_id"], row["completion_id"]): next(one for one in row["scores"] if one["scorer"] == "safe")
        for row in read(report, "generations")
    }
    pairs = read(report)
    assert pairs
    for row in pairs:
        chosen, rejected = (said[row["prompt_id"], row[f"{side}_completion_id"]] for side in ("chosen", "rejected"))
        assert chosen["value"] >= 0.5 > rejected["value"]
        assert (chosen["detail"], rejected["detail"]) == (None, "S1")


def test_guards_killed_half_way_go_on(base: list[str], life: Life, tmp_path: Path) -> None:
    whole = make(*base, *GUARDS, "pairs.prompt_must_pass=[asked]")
    expected = read(whole)
    again = [one.replace(str(tmp_path / "run"), str(tmp_path / "killed")) for one in base]
    storage = open_storage(str(tmp_path / "killed"))

    def go() -> None:
        make(*again, *GUARDS, "pairs.prompt_must_pass=[asked]")

    deaths = 0
    for changes in (9, 14):  # among the units of the scorers
        deaths += killed_at(life, changes, go, storage)
    assert deaths == 2
    report = make(*again, *GUARDS, "pairs.prompt_must_pass=[asked]")
    assert sum(stage["reused_units"] for stage in report["stages"].values()) > 0
    assert read(report) == expected


def test_prompt_guard_drops_prompts_and_goes_on_after_a_kill(base: list[str], life: Life, tmp_path: Path) -> None:
    """The real engine of classifiers, on a small DeBERTa: prompts beyond its context are read in windows."""
    guard = make_prompt_guard(tmp_path / "prompt-guard")
    lines = [{"prompt": f"Tell me about the number {i}. {'It is large. ' * (30 * (i % 2))}"} for i in range(PROMPTS)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    own = [
        "+scorer@scorers.jb=prompt_guard", f"scorers.jb.model.id={guard}", "scorers.jb.model.architecture={}",
        "scorers.jb.threshold=0.955", "pairs.prompt_must_pass=[jb]",
        "+scorer@scorers.rm=reward", "+model@scorers.rm.model=echo", "pairs.score=rm",
    ]  # fmt: skip
    whole = make(*base, *own)
    asked = whole["scorers"]["jb"]
    assert (asked["prompts"], asked["values"]) == (PROMPTS, PROMPTS)
    assert 0 < asked["failed"] < PROMPTS
    assert whole["pairs"]["dropped_by_reason"]["prompt_failed"] == asked["failed"]
    assert (
        "P(label 0) of each prompt by llama-prompt-guard-2-86m"
        in Path(whole["run_dir"], "dataset/README.md").read_text()
    )

    again = [one.replace(str(tmp_path / "run"), str(tmp_path / "killed")) for one in base]
    assert killed_at(life, 16, lambda: make(*again, *own), open_storage(str(tmp_path / "killed")))
    report = make(*again, *own)
    assert report["stages"]["score-jb"]["reused_units"] > 0
    assert read(report) == read(whole)

    highest = make(*base, *own, "scorers.jb.long_texts=highest")  # another value, so the scorer's units alone are new
    assert highest["stages"]["generate-main"]["reused_units"] == highest["stages"]["generate-main"]["units"]
    before, after = ([row["scores"] for row in read(one, "generations")] for one in (report, highest))
    pairs = [
        (low["value"], high["value"])
        for lower, higher in zip(before, after, strict=True)
        for low, high in zip(lower, higher, strict=True)
    ]
    assert all(low <= high for low, high in pairs)
    assert any(low < high for low, high in pairs)
    with pytest.raises(ConfigError, match=r"label=SAFE is none that .* which has BENIGN, MALICIOUS"):
        make(*base, *own, "scorers.jb.label=SAFE")


def test_plan_and_licences_count_the_models_of_scorers(base: list[str]) -> None:
    def plan(*overrides: str) -> Config:
        return compose_config(
            [
                *base, "prompts.limit=100", "model@generators.main.model=qwen2.5-7b", "cluster=8xh100-80",
                "scorers.asked=guard", "scorers.asked.model=llama-guard-3-1b", "scorers.asked.reads=prompt",
                "scorers.rm=reward", "scorers.rm.model=skywork-reward-v2-8b", "pairs.score=rm", *overrides,
            ]
        )  # fmt: skip

    config = plan()
    planned = make_plan(config)
    work = {item.name: item for item in planned.work}
    per_prompt = config.generators["main"].n
    asked, rewards = work["score-asked"], work["score-rm"]
    assert (asked.requests, rewards.requests) == (100, 100 * per_prompt)
    assert asked.total_output_tokens > 0
    assert rewards.total_output_tokens == 0
    assert rewards.input_tokens > work["generate-main"].output_tokens
    pools = {pool.model_name: pool for pool in planned.cluster.pools}
    assert set(pools) == {"qwen2.5-7b", "llama-guard-3-1b", "skywork-reward-v2-8b"}
    assert all(pool.num_gpus for pool in pools.values())
    assert (planned.estimate.stage_s["score-rm"] or 0) > 0
    assert planned.gpu_hours is not None
    found = {entry.license: entry.roles for entry in check_licences(config).licences}
    assert (found["llama3.2"], found["llama3.1"]) == (("scorer asked",), ("scorer rm",))
    assert list(list_scorer_models(config.scorers)) == ["asked", "rm"]
    shared = plan("scorers.again=reward", "scorers.again.model=skywork-reward-v2-8b", "scorers.again.threshold=3")
    assert len(make_plan(shared).cluster.pools) == 3


def test_what_cannot_work_is_refused() -> None:
    def refuse(message: str, scorer: ScorerConfig, main: ModelConfig = ECHO) -> None:
        config = Config(generators={"main": GeneratorConfig(model=main)}, scorers={"one": scorer})
        config.judge.enabled = False
        with pytest.raises(ConfigError, match=message):
            validate_config(config)

    rewards = ModelConfig(name="rm", id="org/rm", engine="pooling")
    guard = ScorerConfig(type="guard", model=ECHO)
    refuse("a guard sees the prompt", replace(guard, reads=ScorerInput.conversation))
    refuse("is for classifiers", replace(guard, label="safe"))
    refuse("needs a model that writes", replace(guard, model=rewards))
    refuse("gives no logits", replace(guard, type="classifier", model=replace(ECHO, engine="openai")))
    refuse("has no effect", replace(guard, type="verifier"))
    refuse("long_texts=lowest is for classifiers", replace(guard, long_texts=LongTexts.lowest))
    classifier = ScorerConfig(type="classifier", model=rewards, reads=ScorerInput.conversation)
    refuse("long_texts=highest cuts texts", replace(classifier, long_texts=LongTexts.highest))
    refuse("scorers.one.model is not chosen", replace(guard, model=ModelConfig()))
    refuse("classifies texts and writes none", guard, rewards)

    for pairs, message in (
        (PairsConfig(chosen_must_pass=["asked"]), "name it in pairs.prompt_must_pass"),
        (PairsConfig(prompt_must_pass=["safe"]), "safe is no scorer that looks at prompts"),
        (PairsConfig(prompt_must_fail=["nobody"]), "there are: asked"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_pairs(pairs, ["main"], ["safe"], ["asked"])
    check_pairs(PairsConfig(prompt_must_pass=["asked"]), ["main"], ["safe"], ["asked"])


def test_label_is_looked_up_before_anything_is_loaded(tmp_path: Path) -> None:
    model = ModelConfig(name="c", id=str(tmp_path), engine="pooling")

    def check(label: str | None) -> None:
        request = Request("a", [], Sampling(), render="plain", tags={} if label is None else {"label": label})
        check_requests("score-c", model, [request])

    check("whatever")  # its file is not on this machine
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"0": "BENIGN", "1": "MALICIOUS"}}))
    check("BENIGN")
    for label, message in (
        (None, "and none is chosen"),
        ("SAFE", "label=SAFE is none that c tells apart, which has BENIGN"),
    ):
        with pytest.raises(ConfigError, match=message):
            check(label)
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"0": "LABEL_0"}}))
    check(None)
    with pytest.raises(ConfigError, match="or leave it out for a reward"):
        check("LABEL_0")


def test_plan_tells_the_time_of_the_others_beside_a_classifier_on_cpus(base: list[str]) -> None:
    def plan(*overrides: str) -> RunPlan:
        given = ["prompts.limit=100", "model@generators.main.model=llama-3.1-8b", "cluster=1xh100", *overrides]
        return make_plan(compose_config([*base, *given]))

    alone, guarded = plan(), plan("+scorer@scorers.jb=prompt_guard")
    assert alone.estimate.wall_s
    assert guarded.estimate.wall_s == alone.estimate.wall_s
    assert guarded.gpu_hours == alone.gpu_hours
    assert "without  score-jb: engine=transformers, whose speed is not known here" in format_plan(guarded)


def test_device_of_a_classifier_is_no_part_of_what_it_gives(base: list[str]) -> None:
    def fingerprint(*overrides: str) -> str:
        config = compose_config([*base, *GUARDS, "+scorer@scorers.jb=prompt_guard", *overrides])
        return next(stage for stage in resolve_flow(load_flow(config)) if stage.name == "score-jb").fingerprint

    assert fingerprint("+scorers.jb.model.engine_args.device=cuda") == fingerprint()
    assert fingerprint("scorers.jb.long_texts=highest") != fingerprint()
