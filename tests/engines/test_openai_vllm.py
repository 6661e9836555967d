"""The endpoint engine against vLLM's own server with the tiny model: as generator and as constrained judge."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import pytest_asyncio
from vllm_server import MODEL, serve_tiny

from synthgen.config import EndpointConfig, JudgeConfig, ModelConfig
from synthgen.engines.base import EngineInfo
from synthgen.engines.openai import OpenAIEngine
from synthgen.errors import RequestError
from synthgen.records import GENERATIONS_SCHEMA, PROMPTS_SCHEMA, Message, OutputFormat, Request, Sampling
from synthgen.stages.judge import JudgeStage

pytestmark = pytest.mark.vllm

HELLO = Request("r", [Message(role="user", content="Hello there?")], Sampling(max_tokens=32), seed=5)


@pytest.fixture(scope="module")
def server_url(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a server that all tests of this file share."""
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")
    with serve_tiny(tiny_model_dir, tmp_path_factory.mktemp("serve") / "server.log") as url:
        yield url


def make_model(url: str) -> ModelConfig:
    endpoint = EndpointConfig(base_url=url, max_retries=0)
    return ModelConfig(name="api", id=MODEL, engine="openai", endpoint=endpoint)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def started_engine(server_url: str) -> AsyncIterator[tuple[OpenAIEngine, EngineInfo]]:
    engine = OpenAIEngine(make_model(server_url))
    info = await engine.start()
    yield engine, info
    await engine.close()


@pytest.fixture(scope="module")
def engine(started_engine: tuple[OpenAIEngine, EngineInfo]) -> OpenAIEngine:
    return started_engine[0]


def test_server_tells_its_context_and_how_to_constrain_it(started_engine: tuple[OpenAIEngine, EngineInfo]) -> None:
    info = started_engine[1]
    assert info.context_length == 4096
    assert info.details["structured_output"] == "vllm"


async def test_samples_differ_and_are_the_same_again(engine: OpenAIEngine) -> None:
    request = replace(HELLO, n=3)
    first, again = await engine.generate(request), await engine.generate(request)
    assert len({completion.text for completion in first}) == 3
    assert [completion.text for completion in again] == [completion.text for completion in first]
    assert all(completion.prompt_tokens > 0 and 0 < completion.output_tokens <= 32 for completion in first)


async def test_output_ends_with_the_context(engine: OpenAIEngine) -> None:
    sampling = Sampling(max_tokens=100_000, ignore_eos=True)
    request = replace(HELLO, messages=[Message(role="user", content="word " * 3000)], sampling=sampling)
    (completion,) = await engine.generate(request)
    assert completion.finish_reason == "length"
    assert completion.prompt_tokens + completion.output_tokens <= 4096
    assert completion.output_tokens > 100


async def test_prompt_beyond_the_context_is_a_row(engine: OpenAIEngine) -> None:
    with pytest.raises(RequestError) as failed:
        await engine.generate(replace(HELLO, messages=[Message(role="user", content="word " * 9000)]))
    assert failed.value.reason == "prompt_too_long"


async def test_json_schema_holds_the_output(engine: OpenAIEngine) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    request = replace(HELLO, sampling=Sampling(max_tokens=200), output_format=OutputFormat("json", json.dumps(schema)))
    (completion,) = await engine.generate(request)
    assert completion.finish_reason == "stop"
    assert isinstance(json.loads(completion.text)["a"], bool)


async def test_last_assistant_turn_is_continued(engine: OpenAIEngine) -> None:
    turn = Message(role="assistant", content="Well, I think")
    (continued,) = await engine.generate(replace(HELLO, messages=[*HELLO.messages, turn]))
    ended = [*HELLO.messages, turn, Message(role="user", content="")]
    (answered,) = await engine.generate(replace(HELLO, messages=ended))
    assert continued.prompt_tokens < answered.prompt_tokens


async def test_judge_gets_its_grammar_and_expected_ratings(engine: OpenAIEngine, server_url: str) -> None:
    stage = JudgeStage(JudgeConfig(model=make_model(server_url), canary_fraction=0.0), ("main",), 0)
    prompt = {
        "prompt_id": "p", "messages": list(HELLO.messages), "source": "s", "source_row": 0, "reference": None,
        "metadata": "{}",
    }  # fmt: skip
    answers = [
        {
            "prompt_id": "p", "completion_id": f"main:{i}", "generator": "main", "model": "m", "sample_index": i,
            "seed": i, "text": text, "finish_reason": "stop", "prompt_tokens": 1, "cached_tokens": 0,
            "output_tokens": 2,
        }
        for i, text in enumerate(["A plain answer.", "Another one.", "A third."])
    ]  # fmt: skip
    tables = {
        "prompts": pa.Table.from_pylist([prompt], schema=PROMPTS_SCHEMA),
        "generate-main": pa.Table.from_pylist(answers, schema=GENERATIONS_SCHEMA),
    }
    requests = stage.prepare(tables)
    outcomes = [await engine.generate(request) for request in requests]
    (row,) = stage.collect(tables, requests, outcomes).to_pylist()
    assert row["status"] == "ok"
    assert all(rating in range(1, 6) for rating in row["ratings"])
    assert all(1 <= expected <= 5 for expected in row["expected"])
    assert row["expected"] != [float(rating) for rating in row["ratings"]]
