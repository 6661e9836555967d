"""Runs whose prompts have tools, whole: from a file to a data set that TRL reads, and what happens on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tool_prompts import CALLING, CLOCK, WEATHER, read_template, write_tool_prompts

from synthgen.config.compose import compose_config
from synthgen.errors import ConfigError
from synthgen.export.kept import check_names
from synthgen.ledger.storage import open_storage
from synthgen.records import list_conversations, list_tools, make_prompt_id
from synthgen.runtime.run import run as run_whole
from tests.inline_runs import inline_runs, killed_at, run_inline

FORMATS = ("sft", "conversations", "text", "sharegpt", "ranked", "jsonl")


def write_overrides(inputs: Path, run_dir: Path) -> list[str]:
    """Write what a run reads, in which most completions call a tool and a third of those badly; return its command."""
    check = inputs / "check.py"
    check.write_text(
        "def count_calls(*, tool_calls, metadata, **_):\n"
        "    names = {tool['function']['name'] for tool in metadata.get('tools') or ()}\n"
        "    return sum(call['function']['name'] in names for call in tool_calls)\n"
    )
    return [
        "experiment=echo", f"prompts.path={write_tool_prompts(inputs / 'prompts.jsonl', 10)}", f"run.dir={run_dir}",
        "run.unit_size=4", "generators.main.n=6", "generators.main.model.echo.call_share=0.7",
        "generators.main.model.echo.bad_call_share=0.3", f"scorers.calls.kind={check}:count_calls",
        "run.max_failed_fraction=1.0", f"export.formats=[{','.join(FORMATS)}]", "export.test_fraction=0.0",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The directory of a whole run, and its report."""
    directory = tmp_path_factory.mktemp("tools")
    return directory / "run", run_inline(write_overrides(directory, directory / "run"))


def read(directory: Path, config: str) -> list[dict[str, Any]]:
    from datasets import load_dataset

    files = [str(path) for path in sorted((directory / "dataset" / config).glob("*.parquet"))]
    loaded = load_dataset("parquet", data_files=files, split="train", cache_dir=str(directory.parent / "cache"))
    return [dict(row) for row in loaded]


def test_a_call_that_cannot_be_made_is_a_row_with_a_reason(run: tuple[Path, dict[str, Any]]) -> None:
    (stage,) = (run[0] / "stages").glob("generate-main-*")
    rows = [row for path in sorted(stage.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    with_calls = [row for row in rows if row.get("tool_calls")]
    errors = {row["error"] for row in with_calls}
    assert errors == {None, "unknown_tool", "bad_tool_call"}
    for row in with_calls:
        (call,) = json.loads(row["tool_calls"])
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        if row["error"] is None:
            assert (row["text"], row["finish_reason"]) == ("", "stop")
            assert name in ("get_weather", "read_clock")
            assert isinstance(arguments, dict)
        else:
            assert row["text"] is None
            assert row["error"] == ("bad_tool_call" if isinstance(arguments, str) else "unknown_tool")
    failures = run[1]["stages"]["generate-main"]["failures"]
    assert set(failures) == {"unknown_tool", "bad_tool_call"}


def test_the_data_set_has_tools_and_calls_in_trl_s_form(run: tuple[Path, dict[str, Any]]) -> None:
    rows = read(run[0], "data")
    assert rows
    called = 0
    for row in rows:
        for side in ("chosen", "rejected"):
            (turn,) = row[side]
            assert set(turn) <= {"role", "content", "tool_calls"}
            if "tool_calls" in turn:
                called += 1
                assert {call["function"]["name"] for call in turn["tool_calls"]} <= {"get_weather", "read_clock"}
                assert all(isinstance(call["function"]["arguments"], dict) for call in turn["tool_calls"])
        tools = row["tools"] and json.loads(row["tools"])
        assert tools in ([WEATHER, CLOCK], [WEATHER], None)
        if len(row["prompt"]) > 1:
            assert row["prompt"] == CALLING
        else:
            assert set(row["prompt"][0]) == {"role", "content"}
        assert not any(name.endswith(".calls") for name in row)
    assert called
    kto = read(run[0], "kto")
    assert any("tool_calls" in row["completion"][0] for row in kto)
    generations = read(run[0], "generations")
    assert {json.loads(row["tool_calls"])[0]["function"]["name"] for row in generations if row["tool_calls"]} >= {
        "get_weather"
    }


def test_a_verifier_of_one_s_own_sees_the_calls(run: tuple[Path, dict[str, Any]]) -> None:
    rows = [row for row in read(run[0], "generations") if row["error"] is None]
    for row in rows:
        (value,) = [score["value"] for score in row["scores"] if score["scorer"] == "calls"]
        assert value == (1.0 if row["tool_calls"] else 0.0)
    assert {bool(row["tool_calls"]) for row in rows} == {True, False}


def test_no_column_of_the_data_set_can_be_kept_a_second_time(run: tuple[Path, dict[str, Any]]) -> None:
    names = {name for path in (run[0] / "dataset").glob("*/*.parquet") for name in pq.read_schema(path).names}
    assert {"tools", "tool_calls"} <= names
    for name in names:
        with pytest.raises(ConfigError, match="columns that the data set has itself"):
            check_names([name])


def test_the_card_says_how_the_data_set_is_read(run: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    from datasets import load_dataset

    loaded = load_dataset(str(run[0] / "dataset"), "kto", split="train", cache_dir=str(tmp_path))
    assert {turn["role"] for row in loaded for turn in row["prompt"]} == {"user", "assistant", "tool"}


def test_every_format_has_the_calls_in_turns_or_in_text(run: tuple[Path, dict[str, Any]]) -> None:
    best = read(run[0], "sft")
    assert any(row["messages"][-1].get("tool_calls") for row in best)
    assert all(row["messages"][-1]["role"] == "assistant" for row in best)
    whole = read(run[0], "conversations")
    assert any(turn.get("tool_calls") for row in whole for turn in row["chosen"])
    text = read(run[0], "text")
    assert any(row["chosen"].startswith('[Tool call] {"name": ') for row in text)
    assert "tools" not in text[0]
    assert any("[Tool call]" in row["chosen"]["value"] for row in read(run[0], "sharegpt"))
    assert any("[Tool call]" in row["completions"][0]["completion"][0]["content"] for row in read(run[0], "ranked"))
    lines = [json.loads(line) for path in (run[0] / "dataset" / "jsonl").glob("*.jsonl") for line in path.open()]
    calls = [call for line in lines for call in line["preferred_output"][0].get("tool_calls", ())]
    assert all(isinstance(call["function"]["arguments"], str) and call["id"] for call in calls)
    assert calls
    assert any(line["input"]["tools"] == [WEATHER, CLOCK] for line in lines)


def test_trl_s_templates_render_every_row(run: tuple[Path, dict[str, Any]], tiny_model_dir: Path) -> None:
    """As `DPOTrainer` tokenizes: prompt and answer together, tools from their column."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    for name in ("qwen3", "llama3_1"):
        tokenizer.chat_template = read_template(name)
        rendered = 0
        for row in read(run[0], "data"):
            tools = json.loads(row["tools"]) if row["tools"] else None
            text = tokenizer.apply_chat_template(row["prompt"] + row["chosen"], tools=tools, tokenize=False)
            assert ("A" if tools is None else "get_weather") in text
            for call in row["chosen"][0].get("tool_calls", ()):
                rendered += call["function"]["name"] in text.rpartition("assistant")[2]
        assert rendered


def test_pairing_anew_gives_the_run_s_own_pairs(run: tuple[Path, dict[str, Any]]) -> None:
    import synthgen

    opened = synthgen.open_run(run[0])
    again = opened.pair()
    assert again.pairs.to_pylist() == opened.table("default").to_pylist()


def test_a_run_that_is_killed_half_way_ends_with_the_same_rows(
    run: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    overrides = write_overrides(tmp_path, tmp_path / "run")

    def start() -> Any:
        return run_whole(compose_config(overrides), quiet=True)

    with inline_runs() as life:
        assert killed_at(life, 14, start, open_storage(str(tmp_path / "run")))
        units = list((tmp_path / "run" / "stages").glob("generate-main-*/*.parquet"))
        assert units
        assert not (tmp_path / "run" / "dataset").exists()
        start()
    for config in ("data", "kto", "sft"):
        assert read(tmp_path / "run", config) == read(run[0], config)


def test_prompts_are_known_again_by_their_tools(run: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    units = [pq.read_table(path) for path in sorted((run[0] / "prompts").glob("*.parquet"))]
    ids = [one for unit in units for one in unit["prompt_id"].to_pylist()]
    found = [
        make_prompt_id(messages, tools)
        for unit in units
        for messages, tools in zip(list_conversations(unit), list_tools(unit), strict=True)
    ]
    assert ids == found
    assert len(set(ids)) == 12
    assert make_prompt_id(CALLING, [WEATHER]) in ids  # type: ignore[arg-type]
    plain = [{"role": "user", "content": "Say hello."}]
    assert make_prompt_id(plain) in ids  # type: ignore[arg-type]
    said = json.loads((run[0] / "prompts" / "manifest.json").read_text())
    assert all(unit["tools"] for unit in said["units"][:2])
