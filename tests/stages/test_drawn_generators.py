"""UltraFeedback's sampling: a few generators of a pool per prompt, and a principle per completion."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pytest
from judged_tables import make_prompts

from synthgen.config import GeneratorConfig, ModelConfig
from synthgen.config.compose import compose_config
from synthgen.errors import ConfigError
from synthgen.planning import make_plan
from synthgen.records import Completion, Outcome, RequestFailure
from synthgen.stages.generate import GenerateStage, draw_generators

POOL = ("a", "b", "c", "d", "e")
ECHO = ModelConfig(name="echo", id="echo", engine="echo")


def test_each_prompt_is_answered_by_as_many_generators_as_wanted_and_by_each_as_often() -> None:
    drawn = {f"p{i}": draw_generators(f"p{i}", POOL, 2, 3) for i in range(2000)}
    assert {len(names) for names in drawn.values()} == {2}
    counts = Counter(name for names in drawn.values() for name in names)
    assert all(700 < counts[name] < 900 for name in POOL)  # 800 each, to four standard deviations
    assert drawn == {name: draw_generators(name, POOL[::-1], 2, 3) for name in drawn}
    assert drawn != {name: draw_generators(name, POOL, 2, 4) for name in drawn}
    # one more in the pool takes the place of one at a prompt, or of none
    more = {name: draw_generators(name, (*POOL, "f"), 2, 3) for name in drawn}
    assert all(len(more[name] - drawn[name]) <= 1 and more[name] - drawn[name] <= {"f"} for name in drawn)


def test_a_generator_makes_rows_of_the_prompts_that_it_is_drawn_for_alone() -> None:
    prompts = make_prompts(*[f"p{i}" for i in range(20)])
    asked: list[str] = []
    for name in POOL:
        stage = GenerateStage(name, GeneratorConfig(model=ECHO, n=2), run_seed=3, pool=POOL, drawn=3)
        requests = stage.prepare({"prompts": prompts})
        outcomes: list[Outcome] = [[Completion("x", "stop", 1, 0, 1)] * 2 for _ in requests]
        table = stage.collect({"prompts": prompts}, requests, outcomes)
        assert table["prompt_id"].to_pylist() == [request.request_id for request in requests for _ in range(2)]
        asked += [request.request_id for request in requests]
    assert Counter(asked) == dict.fromkeys([f"p{i}" for i in range(20)], 3)
    alone = GenerateStage("a", GeneratorConfig(model=ECHO, n=2), run_seed=3)
    assert len(alone.prepare({"prompts": prompts})) == 20
    assert "pool" not in alone.fingerprint_fields()  # what was made before there was a choice holds
    assert "principles" not in alone.fingerprint_fields()
    whole = stage.fingerprint_fields()
    assert whole["pool"] == [POOL, 3]


def test_each_completion_has_a_principle_of_its_own() -> None:
    principles = ["Be kind.", "Be brief.", "Be sure."]
    config = GeneratorConfig(model=ECHO, n=3, principles=principles, system_prompt="You are A.")
    stage = GenerateStage("a", config, run_seed=3)
    prompts = make_prompts(*[f"p{i}" for i in range(30)])
    rows = prompts.to_pylist()
    rows[0]["messages"] = [{"role": "system", "content": "Own."}, {"role": "user", "content": "Hi."}]
    tables = {"prompts": pa.Table.from_pylist(rows, schema=prompts.schema)}
    requests = stage.prepare(tables)
    assert (len(requests), {request.n for request in requests}) == (90, {1})
    assert [request.messages[0]["content"] for request in requests[:3]] == ["Own."] * 3
    said = [request.messages[0]["content"].removeprefix("You are A.\n\n") for request in requests[3:]]
    assert set(said) == set(principles)
    assert any(len(set(said[i : i + 3])) > 1 for i in range(0, 87, 3))
    outcomes: list[Outcome] = [[Completion(str(i), "stop", 1, 0, 1)] for i in range(90)]
    outcomes[4] = RequestFailure("timeout", "late", retryable=True)
    table = stage.collect(tables, requests, outcomes)
    assert table["principle"].to_pylist()[3:] == said
    assert table["completion_id"].to_pylist()[:4] == ["a:0", "a:1", "a:2", "a:0"]
    assert table["error"].to_pylist()[4] == "timeout"
    plain = GenerateStage("a", GeneratorConfig(model=ECHO, n=3), run_seed=3)
    assert table["seed"].to_pylist() == [
        request.seed + i for request in plain.prepare(tables) for i in range(3)
    ]  # those of a generator without principles


def test_plan_counts_the_share_of_the_prompts_and_refuses_more_than_there_are() -> None:
    pool = [f"+model@generators.{name}.model=echo" for name in POOL]
    base = ["experiment=echo", "~generators.main", *pool, *[f"+generators.{name}.n=1" for name in POOL]]
    work = {
        one.name: one for one in make_plan(compose_config([*base, "generators_per_prompt=2", "prompts.limit=100"])).work
    }
    assert work["generate-a"].requests == pytest.approx(40)
    assert work["judge"].requests == pytest.approx(102)  # of two texts each, and the planted ones
    with pytest.raises(ConfigError, match="generators_per_prompt=6 must be from 1 to 5"):
        compose_config([*base, "generators_per_prompt=6"])
    with pytest.raises(ConfigError, match="no pair is possible"):
        compose_config([*base, "generators_per_prompt=1"])
