"""The optional exports: each read back the way its users would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from exported_runs import export_units, rows_of
from hypothesis import given
from hypothesis import strategies as st
from trl import extract_prompt

from synthgen.config import Config, ExportConfig, PairsConfig
from synthgen.export.transcripts import render_hh, render_text
from synthgen.records import Message

Run = tuple[Path, dict[str, list[dict[str, Any]]]]
roles = st.sampled_from(["user", "assistant"])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("run")
    formats = ["sft", "text", "hh", "ultrafeedback", "jsonl"]
    config = Config(export=ExportConfig(formats=formats), pairs=PairsConfig(max_pairs_per_prompt=2, policy="all_pairs"))
    result = export_units(path, 3, config, generators=("main", "other"))
    names = ("default", "generations", "sft", "text", "hh", "ultrafeedback")
    return path, {name: rows_of(path, result, name) for name in names}


def test_sft_holds_the_best_completion_of_each_prompt(run: Run) -> None:
    _, rows = run
    best = {}
    for row in rows["generations"]:
        if row["text"] is not None and row["score"] is not None:
            best.setdefault(row["prompt_id"], []).append((-row["score"], len(best.get(row["prompt_id"], [])), row))
    assert [row["prompt_id"] for row in rows["sft"]] == sorted(best)
    for row in rows["sft"]:
        _, _, winner = min(best[row["prompt_id"]], key=lambda entry: entry[:2])
        answer = {"role": "assistant", "content": winner["text"]}
        assert row["messages"] == [*winner["prompt"], answer]
        assert (row["completion_id"], row["model"], row["score"]) == (
            winner["completion_id"],
            winner["model"],
            winner["score"],
        )


def test_text_holds_strings(run: Run) -> None:
    _, rows = run
    assert len(rows["text"]) == len(rows["default"])
    for text, pair in zip(rows["text"], rows["default"], strict=True):
        assert text["chosen"] == pair["chosen"][0]["content"]
        assert text["rejected"] == pair["rejected"][0]["content"]
        assert text["prompt"].endswith(pair["prompt"][-1]["content"])
        assert text["prompt"].startswith("System: Be brief.\n\nUser: Hello\n\nAssistant: Hi.\n\nUser: ") == (
            len(pair["prompt"]) > 1
        )


def test_hh_gives_trl_the_prompt_and_both_answers_back(run: Run) -> None:
    _, rows = run
    for text, pair in zip(rows["hh"], rows["default"], strict=True):
        for side in ("chosen", "rejected"):
            turns = text[side].split("\n\nAssistant: ")
            assert turns[-1] == pair[side][0]["content"]
            assert len(turns) == 1 + sum(turn["role"] == "assistant" for turn in [*pair["prompt"], *pair[side]])
        split = extract_prompt(text)
        assert split["prompt"] + split["chosen"] == text["chosen"]
        assert pair["chosen"][0]["content"].endswith(split["chosen"].removeprefix("Assistant:").strip())


def test_ultrafeedback_has_argilla_s_columns(run: Run) -> None:
    _, rows = run
    columns = "source instruction chosen chosen-rating chosen-model rejected rejected-rating rejected-model"
    assert list(rows["ultrafeedback"][0]) == columns.split()
    for row, pair in zip(rows["ultrafeedback"], rows["default"], strict=True):
        for side in ("chosen", "rejected"):
            assert row[side] == pair["prompt"] + pair[side]
            assert (row[f"{side}-rating"], row[f"{side}-model"]) == (pair[f"{side}_score"], pair[f"{side}_model"])


def test_jsonl_is_one_openai_preference_per_line(run: Run) -> None:
    path, rows = run
    lines = (path / "dataset/jsonl/train-00000-of-00001.jsonl").read_bytes().decode().split("\n")
    assert lines.pop() == ""
    assert [json.loads(line) for line in lines] == [
        {
            "input": {"messages": pair["prompt"]},
            "preferred_output": pair["chosen"],
            "non_preferred_output": pair["rejected"],
        }
        for pair in rows["default"]
    ]


@given(st.lists(st.tuples(roles, st.text(alphabet="\n :Humanssit", max_size=30)), min_size=1, max_size=5))
def test_render_hh_keeps_the_number_of_turns_whatever_the_text(turns: list[tuple[str, str]]) -> None:
    text = render_hh([Message(role=role, content=content) for role, content in turns])
    assert text.count("\n\nHuman:") + text.count("\n\nAssistant:") == len(turns)


def test_render_text_of_one_turn_is_its_text() -> None:
    assert render_text([Message(role="user", content="Why?\n\nUser: x")]) == "Why?\n\nUser: x"
