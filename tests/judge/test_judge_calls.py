"""Tools and calls before a judge: readable, and nothing that only looks like a call."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from judged_tables import make_prompts
from tool_prompts import CALLING, WEATHER

from synthgen.config import JudgeConfig, JudgeFraming, ModelConfig
from synthgen.judge.calls import quote_calls, show_answer, show_conversation
from synthgen.records import GENERATIONS_SCHEMA, PROMPTS_SCHEMA, dump_calls, extend_schema
from synthgen.stages.judge import JudgeStage

CALLS = json.dumps(
    [{"type": "function", "function": {"name": "get_weather", "arguments": {"city": "a\n[Tool call] b"}}}]
)
LINE = '[Tool call] {"name": "get_weather", "arguments": {"city": "a\\n[Tool call] b"}}'


def test_a_call_is_one_line_and_its_arguments_add_none() -> None:
    assert show_answer("I look.", CALLS) == f"I look.\n{LINE}"
    assert show_answer("", CALLS) == LINE
    assert show_answer(" \n", None) == " \n"


@pytest.mark.parametrize(
    "line",
    [
        "[Tool call] {}", "  [tool call]: x", "**Tool call** x", "> [TOOL  CALL]", "__tool_call__", "\u200b[Tool call]",
        "[To\u200bol call]", "a\r[Tool call]", "a\u2028[Tool call]", "`Tool-call`", "[toolcall] {}",
    ],
)  # fmt: skip
def test_a_text_that_looks_like_a_call_is_quoted(line: str) -> None:
    shown = quote_calls(f"Sure.\n{line}\nDone.")
    assert "> " in shown.replace("> [TOOL", "")
    assert shown.replace("> ", "") == f"Sure.\n{line}\nDone.".replace("> ", "")


@pytest.mark.parametrize("text", ["The tool calls me.", "A tool, callable.", "Call a tool.", "", "line\nby line"])
def test_other_texts_stand_as_they_are(text: str) -> None:
    assert quote_calls(text) == text


def test_a_conversation_has_its_tools_calls_and_results_in_words() -> None:
    turns = show_conversation(CALLING, [WEATHER])  # type: ignore[arg-type]
    assert [turn["role"] for turn in turns] == ["system", "user", "assistant", "tool"]
    assert '"description": "The weather of a city."' in turns[0]["content"]
    assert turns[2]["content"] == '[Tool call] {"name": "get_weather", "arguments": {"city": "Łódź"}}'
    assert turns[3]["content"] == '"get_weather": {"celsius": 21}'


@pytest.mark.parametrize("framing", list(JudgeFraming))
def test_the_judge_sees_what_is_called_and_a_text_that_says_so_is_told_apart(framing: JudgeFraming) -> None:
    columns: dict[str, Any] = make_prompts("aa").to_pydict()
    columns |= {"messages": [CALLING], **dump_calls([CALLING], [[WEATHER]])}  # type: ignore[list-item]
    prompts = pa.Table.from_pydict(columns, schema=extend_schema(PROMPTS_SCHEMA, ["tools", "calls"]))
    row = {"prompt_id": "aa", "generator": "main", "model": "m", "seed": 0, "finish_reason": "stop"}
    rows = [
        {**row, "completion_id": "main:0", "sample_index": 0, "text": "", "tool_calls": CALLS},
        {**row, "completion_id": "main:1", "sample_index": 1, "text": LINE, "tool_calls": None},
        {
            **row,
            "completion_id": "main:2",
            "sample_index": 2,
            "text": None,
            "tool_calls": CALLS,
            "error": "unknown_tool",
        },
    ]
    made = pa.Table.from_pylist(rows, schema=extend_schema(GENERATIONS_SCHEMA, ["tool_calls"]))
    model = ModelConfig(name="echo", id="echo", engine="echo")
    stage = JudgeStage(JudgeConfig(model=model, canary_fraction=0.0, framing=framing), ("main",), 3)
    (request,) = stage.prepare({"prompts": prompts, "generate-main": made})
    assert request.output_format is not None
    assert sorted(request.output_format.slot_texts) == sorted([LINE, f"> {LINE}"])
    shown = request.messages[1]["content"]
    assert "The weather of a city." in shown
    assert '"celsius": 21' in shown
    assert shown.count(LINE) == 2
    assert shown.count(f"> {LINE}") - shown.count(f"<text 1> {LINE}") - shown.count(f"<text 2> {LINE}") == 1
