"""The task stage: a request per prompt that the task takes, a row per completion whatever became of it."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pyarrow as pa
import pytest

from synthgen.config import ModelConfig, SamplingConfig, TaskConfig
from synthgen.errors import ConfigError
from synthgen.records import PROMPTS_SCHEMA, TASK_SCHEMA, Completion, Outcome, RequestFailure
from synthgen.stages.task import DistilabelTaskStage

MODEL = ModelConfig(name="echo", id="echo-id", engine="echo")


def prompts(*metadata: dict[str, Any]) -> pa.Table:
    rows = [
        {
            "prompt_id": f"p{index}",
            "messages": [{"role": "user", "content": f"Question {index}"}],
            "source": "s",
            "source_row": index,
            "reference": None,
            "metadata": json.dumps(values),
        }
        for index, values in enumerate(metadata)
    ]
    return pa.Table.from_pylist(rows, schema=PROMPTS_SCHEMA)


def make_stage(name: str, n: int = 1, **fields: Any) -> DistilabelTaskStage:
    config = TaskConfig(path=f"distilabel.steps.tasks.{name}", model=MODEL, n=n, **fields)
    return DistilabelTaskStage(config, run_seed=1)


def answer(text: str) -> Completion:
    return Completion(text, "stop", prompt_tokens=10, cached_tokens=0, output_tokens=3)


def test_prepare_sends_what_the_task_writes() -> None:
    stage = make_stage("QualityScorer", sampling=SamplingConfig(max_tokens=7), inputs={"responses": ["a", "b"]})
    requests = stage.prepare({"prompts": prompts({"a": "first answer", "b": "second answer"})})
    assert [request.request_id for request in requests] == ["p0"]
    text = requests[0].messages[-1]["content"]
    assert "Question 0" in text
    assert text.index("first answer") < text.index("second answer")
    assert requests[0].sampling.max_tokens == 7
    assert requests == stage.prepare({"prompts": prompts({"a": "first answer", "b": "second answer"})})


def test_prepare_asks_for_the_schema_of_the_task() -> None:
    stage = make_stage("ComplexityScorer", kwargs={"use_default_structured_output": True})
    (request,) = stage.prepare({"prompts": prompts({})})
    assert request.output_format is not None
    assert json.loads(request.output_format.spec)["required"] == ["scores"]


def test_collect_gives_n_rows_per_prompt_in_order_whatever_happened() -> None:
    stage = make_stage("QualityScorer", n=2, inputs={"responses": ["a"]})
    tables = {"prompts": prompts({"a": "x"}, {}, {"a": "y"})}
    requests = stage.prepare(tables)
    outcomes: list[Outcome] = [
        [answer("[1] Score: 4"), answer("no score")],
        RequestFailure("prompt_too_long", "too long"),
    ]
    table = stage.collect(tables, requests, outcomes)
    assert table.schema == TASK_SCHEMA
    assert table["prompt_id"].to_pylist() == ["p0", "p0", "p1", "p1", "p2", "p2"]
    assert table["sample_index"].to_pylist() == [0, 1] * 3
    assert table["error"].to_pylist() == [None, "unparsable", *["missing_input"] * 2, *["prompt_too_long"] * 2]
    assert table["output"].to_pylist() == ['{"scores": [4.0]}', *[None] * 5]
    assert table["raw_text"].to_pylist()[:3] == ["[1] Score: 4", "no score", None]
    assert table["seed"].to_pylist()[1] == requests[0].seed + 1


def test_collect_says_which_rows_the_task_refused() -> None:
    stage = make_stage("ChatGeneration", inputs={"messages": "chat"})
    tables = {"prompts": prompts({"chat": "no conversation"}, {"chat": [{"role": "user", "content": "hi"}]})}
    requests = stage.prepare(tables)
    assert [request.request_id for request in requests] == ["p1"]
    table = stage.collect(tables, requests, [[answer("hello")]])
    assert table["error"].to_pylist() == ["bad_input", None]


def test_check_prompts_names_the_columns_if_no_prompt_will_do() -> None:
    stage = make_stage("QualityScorer")
    stage.check_prompts(prompts({}, {"responses": ["a", "b"]}))
    with pytest.raises(
        ConfigError, match=r"no prompt has a value in the column 'responses'; .*there are answer, instr"
    ):
        stage.check_prompts(prompts({"answer": "x"}, {}))


def test_stage_travels_as_configuration() -> None:
    stage = make_stage("CLAIR", inputs={"task": "instruction", "student_solution": "a"})
    copy = pickle.loads(pickle.dumps(stage))
    tables = {"prompts": prompts({"a": "2+2=5"})}
    assert copy.prepare(tables) == stage.prepare(tables)


def test_fingerprint_follows_what_changes_the_output() -> None:
    plain = make_stage("ComplexityScorer").fingerprint_fields()
    assert plain == make_stage("ComplexityScorer").fingerprint_fields()
    others = [
        make_stage("CLAIR"),
        make_stage("ComplexityScorer", n=2),
        make_stage("ComplexityScorer", inputs={"instructions": ["reference"]}),
        make_stage("ComplexityScorer", kwargs={"use_default_structured_output": True}),
    ]
    assert all(other.fingerprint_fields() != plain for other in others)
