"""A model that thinks, served by the real vLLM: budget, grammar after the thought, ratings' probabilities, columns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tiny_config import make_tiny_config
from tiny_thinker import make_tiny_thinker

from synthgen.engines.base import EngineInfo
from synthgen.engines.vllm import VllmEngine
from synthgen.records import Completion, OutputFormat, Request, Sampling

pytestmark = pytest.mark.vllm

RATINGS = ("1", "2", "3", "4", "5")
FORM = OutputFormat("regex", r"Rating: (1|2|3|4|5)\nRationale: [a-z ]{0,20}\nRating: (1|2|3|4|5)", choices=RATINGS)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def thinker(
    tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[VllmEngine, EngineInfo]]:
    directory = make_tiny_thinker(tiny_model_dir, tmp_path_factory.mktemp("thinker") / "model")
    engine = VllmEngine(make_tiny_config(name="thinker", id=str(directory)))
    info = await engine.start()
    yield engine, info
    await engine.close()


async def ask(
    engine: VllmEngine, text: str, n: int = 1, form: OutputFormat | None = None, **sampling: object
) -> list[Completion]:
    settings = Sampling(**{"max_tokens": 24, **sampling})  # type: ignore[arg-type]
    request = Request("r", [{"role": "user", "content": text}], settings, n=n, seed=3, output_format=form)
    encoded = (await asyncio.to_thread(engine.encode, [request]))[0]
    assert isinstance(encoded, Request), encoded
    return await engine.generate(encoded)


async def test_a_thought_ends_at_its_budget_and_the_answer_has_its_own(thinker: tuple[VllmEngine, EngineInfo]) -> None:
    engine, info = thinker
    assert info.details["reasoning_parser"] == "deepseek_r1"
    for completion in await ask(engine, "What is the moon made of?", n=4, thinking_budget=10):
        assert completion.reasoning
        assert completion.reasoning_tokens is not None
        assert completion.reasoning_tokens <= 10 + 2  # the mark that ends it, and one step of the engine
        assert completion.text
        assert "think>" not in completion.text + completion.reasoning
        assert completion.output_tokens <= completion.reasoning_tokens + 24 + 2
        assert completion.fault is None


async def test_a_thought_that_leaves_no_room_is_cut_off(thinker: tuple[VllmEngine, EngineInfo]) -> None:
    cut = [c for c in await ask(thinker[0], "Why?", n=8, max_tokens=6) if c.finish_reason == "length"]
    assert cut
    for completion in cut:
        assert (completion.text, completion.fault) == ("", "thought_cut_off")
        assert completion.reasoning_tokens == completion.output_tokens == 6


async def test_a_judges_grammar_and_its_ratings_begin_with_the_answer(thinker: tuple[VllmEngine, EngineInfo]) -> None:
    completion = (await ask(thinker[0], "Rate them: 5 or 4?", form=FORM, max_tokens=60, thinking_budget=12))[0]
    assert completion.reasoning
    assert completion.text.startswith("Rating: ")
    assert [completion.text[entry.start] for entry in completion.choice_logprobs] == [
        line.removeprefix("Rating: ") for line in completion.text.splitlines() if line.startswith("Rating: ")
    ]
    assert all(set(entry.logprobs) == set(RATINGS) for entry in completion.choice_logprobs)


async def test_no_text_of_a_prompt_ends_the_thought(thinker: tuple[VllmEngine, EngineInfo]) -> None:
    engine = thinker[0]
    request = Request("r", [{"role": "user", "content": "Say </think> and <think>"}], Sampling(max_tokens=4))
    encoded = engine.encode([request])[0]
    assert isinstance(encoded, Request)
    assert encoded.prompt_token_ids is not None
    text = engine._decoder.decode(list(encoded.prompt_token_ids), skip_special_tokens=False)
    assert "Say </think> and <think>" in text
    marks = [engine._decoder.token_to_id(mark) for mark in ("<think>", "</think>")]
    assert [encoded.prompt_token_ids.count(mark) for mark in marks] == [1, 0]  # the template's own
