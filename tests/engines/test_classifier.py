"""The classifier engine: what it gives is what transformers computes of each text alone."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tiny_config import make_tiny_config
from tiny_scorers import LABELS, make_classifier, make_guard, make_prompt_guard

from synthgen.config import ModelConfig
from synthgen.engines import make_engine
from synthgen.engines.base import Engine
from synthgen.engines.prompt_encoder import cut_windows
from synthgen.errors import ConfigError, EngineDeadError
from synthgen.records import Message, Request, RequestFailure, Sampling

CONTEXT = 64
TEXTS = ("A loaf is baked for forty minutes.", "No.", "", "Ignore all of this. " * 3, "The river <|eot_id|> ran.")
LONG = "Bread is baked of flour and water. " * 30


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_prompt_guard(tmp_path_factory.mktemp("models") / "prompt-guard")


def make_model(directory: Path, **fields: Any) -> ModelConfig:
    return make_tiny_config(name=directory.name, id=str(directory), engine="transformers", **fields)


def ask(text: str, number: int = 0, *, windowed: bool = False, priority: int = 0) -> Request:
    return Request(
        f"r{number}", [Message(role="user", content=text)], Sampling(), render="plain", windowed=windowed,
        priority=priority,
    )  # fmt: skip


async def classify(engine: Engine, requests: Sequence[Request]) -> list[dict[str, Any]]:
    """Return the answers to the requests, all at once, beside the ids that were read for each."""
    encoded = engine.encode(requests)
    assert not [one for one in encoded if isinstance(one, RequestFailure)]
    answers = await asyncio.gather(*[engine.generate(one) for one in encoded if isinstance(one, Request)])
    return [
        {**json.loads(answer[0].text), "read": one.windows or [one.prompt_token_ids], "tokens": answer[0].prompt_tokens}
        for answer, one in zip(answers, encoded, strict=True)
        if isinstance(one, Request)
    ]


def compute(directory: Path, ids: Sequence[int]) -> list[float]:
    """Return transformers' own logits of one text."""
    import torch
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(directory, dtype=torch.float32)
    with torch.no_grad():
        logits: list[float] = model(torch.tensor([list(ids)])).logits[0].tolist()
    return logits


@pytest.mark.parametrize("most", [1, 3, 64])
async def test_batches_give_what_each_text_gives_alone(guard: Path, most: int) -> None:
    from transformers import AutoTokenizer

    engine = make_engine(make_model(guard, max_num_seqs=most))
    info = await engine.start()
    answers = await classify(engine, [ask(text, number) for number, text in enumerate(TEXTS)])
    await engine.close()

    assert (info.context_length, info.details["labels"]) == (CONTEXT, list(LABELS.values()))
    tokenizer = AutoTokenizer.from_pretrained(guard)
    assert answers[0]["read"] == [tokenizer(TEXTS[0])["input_ids"]]
    assert answers[2]["read"] == [tokenizer("")["input_ids"]]
    for answer in answers:
        assert answer["labels"] == list(LABELS.values())
        assert answer["logits"] == pytest.approx(compute(guard, answer["read"][0]), abs=1e-4)
    values = [answer["logits"][0] - answer["logits"][1] for answer in answers]
    assert max(values) - min(values) > 0.1  # or the comparison would say little


async def test_longer_texts_are_read_in_windows(guard: Path) -> None:
    engine = make_engine(make_model(guard))
    await engine.start()
    [refused] = engine.encode([ask(LONG)])
    assert isinstance(refused, RequestFailure)
    assert refused.reason == "prompt_too_long"
    [answer, short] = await classify(engine, [ask(LONG, 0, windowed=True), ask("No.", 1, windowed=True)])
    await engine.close()

    assert len(answer["windows"]) == len(answer["read"]) > 3
    assert all(len(window) == CONTEXT for window in answer["read"])
    assert answer["logits"] == answer["windows"][0]
    assert answer["tokens"] == CONTEXT * len(answer["read"])
    for logits, ids in zip(answer["windows"], answer["read"], strict=True):
        assert logits == pytest.approx(compute(guard, ids), abs=1e-4)
    assert "windows" not in short


@pytest.mark.parametrize("length", [1, 15, 16, 17, 30, 31, 100])
def test_windows_hold_every_token(length: int) -> None:
    windows = cut_windows(range(length), 16)
    assert {token for window in windows for token in window} == set(range(length))
    assert all(len(window) == min(length, 16) for window in windows)
    assert all(right[0] - left[0] in range(1, 15) for left, right in pairwise(windows))


async def test_text_that_fills_the_context_is_read_whole(guard: Path) -> None:
    engine = make_engine(make_model(guard))
    await engine.start()
    lengths = {}
    for words in range(20, 70):
        [one] = engine.encode([ask("a " * words)])
        if isinstance(one, Request):
            lengths[len(one.prompt_token_ids or ())] = one
    await engine.close()
    assert max(lengths) == CONTEXT


async def test_urgent_requests_go_first(guard: Path) -> None:
    engine = make_engine(make_model(guard, max_num_seqs=1))
    await engine.start()
    order: list[str] = []
    requests = [ask("later " * 9, 0, priority=10), ask("now", 1, priority=0)]

    async def follow(request: Any) -> None:
        await engine.generate(request)
        order.append(request.request_id)

    await asyncio.gather(*[follow(one) for one in engine.encode(requests)])
    await engine.close()
    assert order == ["r1", "r0"]


async def test_engine_that_breaks_ends_every_request(guard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine(make_model(guard, max_num_seqs=1))
    await engine.start()
    encoded = [one for one in engine.encode([ask("one", 1), ask("two", 2)]) if isinstance(one, Request)]

    def fail(*_: object) -> None:
        raise RuntimeError("CUDA out of memory\nat /somewhere")

    monkeypatch.setattr(engine, "_run", fail)
    found = await asyncio.gather(*[engine.generate(one) for one in encoded], return_exceptions=True)
    assert [type(one) for one in found] == [EngineDeadError, EngineDeadError]
    assert "out of memory" in str(found[0])
    with pytest.raises(EngineDeadError, match="not running"):
        await engine.generate(encoded[0])


async def test_closed_engine_answers_nobody(guard: Path) -> None:
    engine = make_engine(make_model(guard))
    await engine.start()
    [request] = engine.encode([ask("one")])
    assert isinstance(request, Request)
    waits = asyncio.ensure_future(engine.generate(request))
    await asyncio.sleep(0)
    await engine.close()
    with pytest.raises(EngineDeadError):
        await waits
    await engine.close()


async def test_model_that_only_writes_is_refused(tmp_path: Path) -> None:
    turns = [[Message(role="user", content=text), Message(role="assistant", content="So.")] for text in TEXTS[:2]]
    engine = make_engine(make_model(make_guard(tmp_path / "guard", turns)))
    with pytest.raises(ConfigError, match=r"is no classifier \(its files lack score\.weight\)"):
        await engine.start()


async def test_decoder_that_names_no_padding_is_read_as_it_was_published(tmp_path: Path) -> None:
    """Where the padding of the tokenizer is the token that ends a text, it must not be taken for padding there."""
    directory = make_classifier(tmp_path / "classifier")
    config = json.loads((directory / "config.json").read_text())
    config.pop("pad_token_id")
    (directory / "config.json").write_text(json.dumps(config))
    tokenizer = json.loads((directory / "tokenizer_config.json").read_text())
    (directory / "tokenizer_config.json").write_text(json.dumps({**tokenizer, "pad_token": "<|eot_id|>"}))
    engine = make_engine(make_model(directory))
    await engine.start()
    texts = [replace(ask(text, number), render="whole") for number, text in enumerate(TEXTS[:3])]
    answers = await classify(engine, texts)
    await engine.close()
    assert len({len(answer["read"][0]) for answer in answers}) > 1
    for answer in answers:
        assert answer["logits"] == pytest.approx(compute(directory, answer["read"][0]), abs=1e-4)


async def test_positions_behind_that_of_the_padding_are_not_counted_twice(tmp_path: Path) -> None:
    """RoBERTa's own are two more than its texts have tokens, and a tokenizer may not say how many those are."""
    directory = make_prompt_guard(tmp_path / "roberta")
    from transformers import RobertaConfig, RobertaForSequenceClassification

    vocabulary = json.loads((directory / "config.json").read_text())["vocab_size"]
    config = RobertaConfig(
        vocab_size=vocabulary, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=CONTEXT + 2, pad_token_id=1, type_vocab_size=1, num_labels=2,
    )  # fmt: skip
    RobertaForSequenceClassification(config).eval().save_pretrained(directory)
    said = json.loads((directory / "tokenizer_config.json").read_text())
    said.pop("model_max_length", None)
    (directory / "tokenizer_config.json").write_text(json.dumps(said))
    engine = make_engine(make_model(directory))
    assert (await engine.start()).context_length == CONTEXT
    [answer] = await classify(engine, [ask(LONG, windowed=True)])
    await engine.close()
    for logits, ids in zip(answer["windows"], answer["read"], strict=True):
        assert logits == pytest.approx(compute(directory, ids), abs=1e-4)


async def test_requests_that_are_given_up_cost_nobody_else_anything(guard: Path) -> None:
    engine = make_engine(make_model(guard, max_num_seqs=1))
    await engine.start()
    encoded = [
        one for one in engine.encode([ask("one", 1), ask("two", 2), ask("three", 3)]) if isinstance(one, Request)
    ]
    given_up = [asyncio.ensure_future(engine.generate(one)) for one in encoded[:2]]
    await asyncio.sleep(0)
    for one in given_up:
        one.cancel()
    assert await asyncio.gather(*given_up, return_exceptions=True)
    before = engine.heartbeat()
    assert (await engine.generate(encoded[2]))[0].finish_reason == "stop"
    assert engine.heartbeat() > before + 1  # it grows with the layers, so that a long batch does not look like a stall
    await engine.close()


async def test_engine_that_is_closed_in_the_middle_of_a_batch(guard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine: Any = make_engine(make_model(guard, max_num_seqs=1))
    await engine.start()
    encoded = [one for one in engine.encode([ask("one", 1), ask("two", 2)]) if isinstance(one, Request)]
    begun, release, run = threading.Event(), threading.Event(), engine._run

    def wait(*given: Any) -> Any:
        begun.set()
        assert release.wait(30)
        return run(*given)

    monkeypatch.setattr(engine, "_run", wait)
    waits = [asyncio.ensure_future(engine.generate(one)) for one in encoded]
    await asyncio.to_thread(begun.wait, 30)
    await engine.close()
    release.set()
    found = await asyncio.gather(*waits, return_exceptions=True)
    kinds = sorted(type(one).__name__ for one in found)
    assert kinds == ["EngineDeadError", "list"]  # the batch that ran came to its end


async def test_device_that_is_not_there_is_refused(guard: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    engine = make_engine(make_model(guard, engine_args={"device": "cuda"}))
    with pytest.raises(ConfigError, match=r"finds no GPU .* set model\.engine_args\.device=cpu"):
        await engine.start()
