"""Thoughts: beside the answer where something thinks, and nowhere else."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from judged_tables import make_prompts

from synthgen.config import EchoConfig, GeneratorConfig, JudgeConfig, ModelConfig, PairsConfig, SamplingConfig
from synthgen.engines import make_engine
from synthgen.export.thoughts import hide_thoughts
from synthgen.pairs import pair_unit
from synthgen.records import (
    GENERATIONS_SCHEMA,
    JUDGEMENTS_SCHEMA,
    REASONING_FIELDS,
    TASK_SCHEMA,
    Completion,
    Sampling,
    Tables,
    UnitCounts,
    concat_units,
    count_answer_tokens,
    extend_schema,
    sampling_fields,
)
from synthgen.runtime.retries import Kept, merge_kept
from synthgen.runtime.units import fit_schema
from synthgen.stages.base import LLMStage
from synthgen.stages.generate import GenerateStage
from synthgen.stages.judge import JudgeStage

THOUGHT = Completion("Four.", "stop", 5, 0, 12, reasoning="Two and two.", reasoning_tokens=10)
CUT = Completion("", "length", 5, 0, 16, reasoning="Two and", reasoning_tokens=16)
SILENT = Completion(" \n", "stop", 5, 0, 9, reasoning="Two and two.", reasoning_tokens=8)
PLAIN = Completion("Five.", "stop", 5, 0, 2)
EMPTY = Completion("", "stop", 5, 0, 1)


def make_generator(think_tokens: int = 0, n: int = 2, **sampling: Any) -> GenerateStage:
    model = ModelConfig(name="echo", id="echo", engine="echo", echo=EchoConfig(think_tokens=think_tokens))
    return GenerateStage("main", GeneratorConfig(model=model, n=n, sampling=SamplingConfig(**sampling)), run_seed=3)


def make_judge(think_tokens: int = 0, **settings: Any) -> JudgeStage:
    model = ModelConfig(name="echo", id="echo", engine="echo", echo=EchoConfig(think_tokens=think_tokens))
    return JudgeStage(JudgeConfig(model=model, canary_fraction=0.0, **settings), ("main",), 3)


def collect(*samples: Completion) -> pa.Table:
    stage, tables = make_generator(n=len(samples)), {"prompts": make_prompts("aa")}
    return stage.collect(tables, stage.prepare(tables), [samples])


async def serve(stage: LLMStage, tables: Tables) -> pa.Table:
    engine = make_engine(stage.model)
    await engine.start()
    requests, outcomes = list(stage.prepare(tables)), []
    for place, request in enumerate(requests):
        outcomes.append(await engine.generate(request))
        while (again := stage.follow_up(requests[place], outcomes[-1])) is not None:
            requests[place], outcomes[-1] = again, await engine.generate(again)
    await engine.close()
    return stage.collect(tables, requests, outcomes)


def test_a_unit_where_nothing_thinks_has_the_columns_that_it_always_had() -> None:
    assert collect(PLAIN, EMPTY).schema == GENERATIONS_SCHEMA
    assert collect(PLAIN, EMPTY)["text"].to_pylist() == ["Five.", ""]


def test_a_thought_stands_beside_its_answer_and_one_without_an_answer_is_a_row_with_a_reason() -> None:
    table = collect(THOUGHT, CUT, SILENT, PLAIN)
    assert table.schema == pa.schema([*GENERATIONS_SCHEMA, *REASONING_FIELDS])
    assert table["text"].to_pylist() == ["Four.", None, None, "Five."]
    assert table["error"].to_pylist() == [None, "thought_cut_off", "no_answer", None]
    assert table["finish_reason"].to_pylist() == ["stop", "length", "stop", "stop"]
    assert table["reasoning"].to_pylist() == ["Two and two.", "Two and", "Two and two.", None]
    assert table["reasoning_tokens"].to_pylist() == [10, 16, 8, None]
    assert count_answer_tokens(table).to_pylist() == [2, 0, 1, 2]


def test_units_with_and_without_thoughts_are_read_and_joined() -> None:
    plain, thinking = collect(PLAIN), collect(THOUGHT)
    assert fit_schema(thinking, GENERATIONS_SCHEMA, "d", 0).equals(thinking)
    assert fit_schema(plain, GENERATIONS_SCHEMA, "d", 0).equals(plain)
    both = concat_units([plain, thinking])
    assert both["reasoning"].to_pylist() == [None, "Two and two."]
    hidden = hide_thoughts(both)
    assert hidden.schema == GENERATIONS_SCHEMA
    assert hidden["output_tokens"].to_pylist() == [2, 2]
    assert hide_thoughts(plain) is plain


@pytest.mark.parametrize(("kept", "renewed"), [(PLAIN, THOUGHT), (THOUGHT, PLAIN)])
def test_a_row_that_is_asked_again_may_be_the_first_or_the_last_that_thinks(
    kept: Completion, renewed: Completion
) -> None:
    old, new = collect(kept), collect(renewed)
    other = new.set_column(0, "prompt_id", pa.array(["bb"]))
    merged = merge_kept(Kept(old, frozenset({"bb"}), {}, UnitCounts()), other, ["aa", "bb"])
    assert merged["reasoning"].to_pylist() == [kept.reasoning, renewed.reasoning]


async def test_the_judge_and_the_pairs_see_the_answer_alone() -> None:
    tables = {"prompts": make_prompts("aa", "bb")}
    generator = make_generator(think_tokens=30, n=3)
    thinking = await serve(generator, tables)
    plain = await serve(make_generator(n=3), tables)
    assert all(thinking["reasoning"].to_pylist())
    assert thinking.drop_columns(["reasoning", "reasoning_tokens", "output_tokens"]).equals(
        plain.drop_columns(["output_tokens"])
    )
    asked = [stage_requests(make_judge(), tables, made) for made in (thinking, plain)]
    assert asked[0] == asked[1]
    judgements = await serve(make_judge(), {**tables, "generate-main": thinking})
    pairs = [
        pair_unit(tables["prompts"], made, judgements, PairsConfig(max_length_ratio=9.0), use_expected=True, run_seed=3)
        for made in (thinking, plain)
    ]
    assert pairs[0].pairs["chosen_reasoning"].null_count == 0
    assert pairs[0].pairs.drop_columns(["chosen_reasoning", "rejected_reasoning"]).equals(pairs[1].pairs)
    assert pairs[0].kto.drop_columns(["reasoning"]).equals(pairs[1].kto)
    assert pairs[0].counts == pairs[1].counts
    assert pairs[0].pairs.num_rows


def stage_requests(stage: JudgeStage, tables: Tables, generations: pa.Table) -> Any:
    return stage.prepare({**tables, "generate-main": generations})


async def test_a_thought_that_max_tokens_cuts_is_counted_by_name_and_judged_by_nobody() -> None:
    tables = {"prompts": make_prompts("aa")}
    cut = await serve(make_generator(think_tokens=400, max_tokens=20), tables)
    assert cut["error"].to_pylist() == ["thought_cut_off"] * 2
    assert cut["finish_reason"].to_pylist() == ["length"] * 2
    assert cut["output_tokens"].to_pylist() == cut["reasoning_tokens"].to_pylist() == [20, 20]
    judgements = await serve(make_judge(), {**tables, "generate-main": cut})
    assert set(judgements["error"].to_pylist()) == {"no_completions"}


async def test_a_budget_bounds_the_thought_and_leaves_max_tokens_to_the_answer() -> None:
    tables = {"prompts": make_prompts("aa")}
    made = await serve(make_generator(think_tokens=400, max_tokens=100, thinking_budget=7), tables)
    assert made["error"].to_pylist() == [None, None]
    assert made["reasoning_tokens"].to_pylist() == [7, 7]
    plain = await serve(make_generator(max_tokens=100), tables)
    assert made["text"].equals(plain["text"])
    assert count_answer_tokens(made).equals(plain["output_tokens"])


async def test_a_judge_that_thinks_rates_as_ever_and_its_thought_is_stored_beside_the_judgement() -> None:
    tables: dict[str, pa.Table] = {"prompts": make_prompts("aa")}
    tables["generate-main"] = await serve(make_generator(n=4), tables)
    plain = await serve(make_judge(max_tokens=400), tables)
    thinking = await serve(make_judge(think_tokens=30, max_tokens=400), tables)
    assert plain.schema == JUDGEMENTS_SCHEMA
    assert thinking.schema == extend_schema(JUDGEMENTS_SCHEMA, ["reasoning", "reasoning_tokens"])
    assert thinking["ratings"].equals(plain["ratings"])
    assert thinking["raw_text"].equals(plain["raw_text"])
    assert min(len(text.split()) for text in thinking["reasoning"].to_pylist()) > 10


async def test_a_judge_s_thought_has_a_budget_of_its_own() -> None:
    tables: dict[str, pa.Table] = {"prompts": make_prompts("aa")}
    tables["generate-main"] = await serve(make_generator(n=2), tables)
    judged = await serve(make_judge(think_tokens=1000, thinking_budget=50, max_tokens=160), tables)
    assert judged["status"].to_pylist() == ["ok"]
    assert judged["reasoning_tokens"].to_pylist() == [50]
    (request,) = make_judge().prepare(tables)
    assert request.sampling.thinking_budget == 2048  # means nothing to a model that does not think


async def test_a_judge_whose_thought_is_cut_off_is_asked_again_with_twice_the_tokens() -> None:
    tables: dict[str, pa.Table] = {"prompts": make_prompts("aa")}
    tables["generate-main"] = await serve(make_generator(n=2), tables)
    stage = make_judge(max_retries=1)
    (request,) = stage.prepare(tables)
    cut = Completion("", "length", 9, 0, 20, reasoning="hm", reasoning_tokens=20)
    again = stage.follow_up(request, [cut])
    assert again is not None
    assert again.sampling.max_tokens == 2 * request.sampling.max_tokens
    assert stage.follow_up(again, [cut]) is None
    assert stage.collect(tables, [again], [[cut]])["error"].to_pylist() == ["thought_cut_off"]


def test_what_does_not_think_keeps_its_fingerprint() -> None:
    assert "thinking_budget" not in make_generator().fingerprint_fields()["sampling"]
    assert make_generator(thinking_budget=5).fingerprint_fields()["sampling"]["thinking_budget"] == 5
    assert "thinking_budget" not in sampling_fields(Sampling())
    echo = make_generator().model
    assert echo.served_by.fingerprint is not None
    assert echo.served_by.fingerprint(echo) == {"echo": {"output_tokens": 24, "long_tail": False, "judge": "quality"}}
    thinking = make_generator(think_tokens=3).model
    assert dict(echo.served_by.fingerprint(thinking))["echo"]["think_tokens"] == 3


def test_a_table_of_another_stage_is_still_refused() -> None:
    from synthgen.ledger.run_dir import CorruptUnitError
    from synthgen.records import PROMPTS_SCHEMA

    with pytest.raises(CorruptUnitError):
        fit_schema(collect(THOUGHT), PROMPTS_SCHEMA, "d", 0)
    with pytest.raises(CorruptUnitError):
        fit_schema(collect(THOUGHT), TASK_SCHEMA, "d", 0)
    assert pc.sum(collect(THOUGHT)["reasoning_tokens"]).as_py() == 10


def test_template_arguments_change_the_fingerprint_only_where_they_are_set() -> None:
    from synthgen.flow import model_fields

    model = make_generator().model
    assert "chat_template_kwargs" not in model_fields(model)
    model.chat_template_kwargs["enable_thinking"] = False
    assert model_fields(model)["chat_template_kwargs"] == {"enable_thinking": False}
