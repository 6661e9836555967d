"""`synthgen models`: the catalog in a table."""

from __future__ import annotations

import json

import pytest

from synthgen.planning import format_models, list_models, models_to_json, nearest_models
from synthgen.planning.catalog import ModelSummary

SUMMARIES = {summary.name: summary for summary in list_models()}


def test_list_models_is_sorted_and_complete() -> None:
    names = [summary.name for summary in list_models()]
    assert names == sorted(names)
    assert {"tiny", "small-random", "echo", "hub", "openai_endpoint", "llama-3.1-405b-fp8"} <= set(names)


def test_list_models_gives_the_numbers() -> None:
    w8a8 = SUMMARIES["llama-3.3-70b-w8a8"]
    assert w8a8.weights_gib == pytest.approx(67.69, abs=0.01)
    assert w8a8.kv_kib_per_token == 320
    assert (w8a8.license, w8a8.gated) == ("llama3.3", False)
    assert w8a8.smallest == "1 × A100-80"
    meta = SUMMARIES["llama-3.1-405b-fp8"]
    assert (meta.license, meta.gated, meta.smallest) == ("llama3.1", True, "2 × B300")
    assert SUMMARIES["qwen2.5-0.5b"].smallest == "CPU"
    assert "bitsandbytes" in SUMMARIES["llama-3.1-8b-bnb-nf4"].note
    assert "vllm-gguf-plugin" in SUMMARIES["llama-3-8b-gguf"].note


def test_list_models_names_a_set_up_for_all_that_can_be_served() -> None:
    for summary in SUMMARIES.values():
        if summary.weights_gib and not summary.note.startswith("vLLM 0.32 "):  # which cannot serve it
            assert summary.smallest, summary.name


def test_format_models_has_a_line_for_each() -> None:
    text = format_models(list(SUMMARIES.values()))
    lines = text.splitlines()
    assert lines[0].split()[:2] == ["model", "params"]
    for name in SUMMARIES:
        assert sum(line.split("  ")[0] == name for line in lines) == 1, name
    assert "gated" in text


def test_format_models_of_an_empty_catalog() -> None:
    assert format_models([]).startswith("model")


def test_models_to_json_is_plain() -> None:
    values = json.loads(json.dumps(models_to_json([ModelSummary("a", "b", "vllm")])))
    assert values[0]["name"] == "a"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("llama-3.1-405b-instruct-fp8", "llama-3.1-405b-fp8"),
        ("Llama-3.3-70B", "llama-3.3-70b"),
        ("qwen2.5", "qwen2.5-7b"),
        ("tinny", "tiny"),
    ],
)
def test_nearest_models_helps(name: str, expected: str) -> None:
    assert expected in nearest_models(name)


def test_nearest_models_has_no_idea() -> None:
    assert nearest_models("zzzzzzzz") == []
