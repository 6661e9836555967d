"""Tools and calls as data sets hold them: read into one form, or refused by name; and prompts that have none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tool_prompts import CALL, CALLING, CLOCK, WEATHER

from synthgen.config import PromptsConfig
from synthgen.prompts import PromptSource
from synthgen.prompts.messages import read_messages
from synthgen.prompts.tools import read_calls, read_tools
from synthgen.prompts.twins import make_twin_id
from synthgen.prompts.unusable import UnusableRowError
from synthgen.records import list_conversations, list_tools, make_prompt_id

BARE = WEATHER["function"]
XLAM = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "parameters": {"city": {"type": "str", "description": None}, "type": {"type": "str"}},
}


@pytest.mark.parametrize(
    "value",
    [
        [WEATHER],
        [BARE],
        json.dumps([WEATHER]),
        json.dumps(BARE),
        [json.dumps(WEATHER)],  # what `arrow.json` becomes
        [{"function": BARE}, None],
        [{**WEATHER, "function": {**BARE, "parameters": json.dumps(BARE["parameters"]), "strict": None}}],
    ],
)
def test_tools_come_in_as_openai_writes_them(value: Any) -> None:
    assert read_tools(value) == (WEATHER,)


def test_parameters_that_list_properties_alone_become_a_schema() -> None:
    (tool,) = read_tools(json.dumps([XLAM])) or ()
    assert tool["function"]["parameters"] == {
        "type": "object",
        "properties": {"city": {"type": "str"}, "type": {"type": "str"}},
    }
    (silent,) = read_tools([{"name": "f"}]) or ()
    assert silent["function"] == {"name": "f", "parameters": {"type": "object", "properties": {}}}


@pytest.mark.parametrize("value", [None, "", [], {}, " ", "[]"])
def test_no_tools_are_none(value: Any) -> None:
    assert read_tools(value) == ()


@pytest.mark.parametrize("value", ["a hammer", ["hammer", "saw"], [{"price": 3}], 3])
def test_a_column_that_nobody_named_may_hold_other_things(value: Any) -> None:
    assert read_tools(value, named=False) is None
    with pytest.raises(UnusableRowError):
        read_tools(value)


@pytest.mark.parametrize(
    "value",
    ['[{"name": "f", "para', [{"name": "f", "parameters": "no JSON"}], [{"name": "f\0"}], [{"description": "x"}]],
)
def test_tools_that_cannot_be_read_are_refused(value: Any) -> None:
    with pytest.raises(UnusableRowError):
        read_tools(value)


@pytest.mark.parametrize(
    "turn",
    [
        {"tool_calls": [CALL]},
        {"tool_calls": [{**CALL, "function": {"name": "get_weather", "arguments": '{"city": "Łódź"}'}}, None]},
        {"tool_calls": json.dumps([CALL])},
        {"tool_calls": [{"id": "call_1", "name": "get_weather", "arguments": {"city": "Łódź", "days": None}}]},
    ],
)
def test_calls_come_in_with_their_arguments_as_objects(turn: dict[str, Any]) -> None:
    assert read_calls(turn) == [CALL]


@pytest.mark.parametrize("arguments", ['{"city": ', "[1]", "3"])
def test_a_turn_whose_call_is_broken_gives_no_prompt(arguments: str) -> None:
    broken = {**CALLING[1], "tool_calls": [{"function": {"name": "get_weather", "arguments": arguments}}]}
    with pytest.raises(UnusableRowError) as caught:
        read_messages([CALLING[0], broken, CALLING[2]])
    assert caught.value.reason == "bad_tool_call"


def test_sharegpt_s_calls_and_observations_are_turns_of_the_same_form() -> None:
    messages, answer = read_messages(
        [
            {"from": "human", "value": "Is it warm?"},
            {"from": "function_call", "value": json.dumps({"name": "get_weather", "arguments": {"city": "Łódź"}})},
            {"from": "observation", "value": '{"celsius": 21}'},
            {"from": "gpt", "value": "Yes."},
        ]
    )
    assert [turn["role"] for turn in messages] == ["user", "assistant", "tool"]
    assert messages[1]["tool_calls"][0]["function"]["arguments"] == {"city": "Łódź"}
    assert answer == "Yes."


def test_an_answer_that_calls_is_told_in_the_reference() -> None:
    _, answer = read_messages(CALLING[:2])
    assert answer == '[Tool call] {"name": "get_weather", "arguments": {"city": "Łódź"}}'
    messages, _ = read_messages([*CALLING[:2], {"role": "tool", "content": {"celsius": 21}}])
    assert messages[-1] == {"role": "tool", "content": '{"celsius":21}'}


def test_conversations_are_kept_whole_and_the_column_of_tools_is_no_metadata(tmp_path: Path) -> None:
    rows = [
        {"messages": CALLING, "tools": [WEATHER], "n": 1},
        {"messages": [{"role": "user", "content": "Hello"}], "tools": "none of them", "n": 2},
    ]
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (table,) = PromptSource(PromptsConfig(path=str(path))).tables(10)
    assert list_conversations(table)[0] == CALLING
    assert list_tools(table) == [(WEATHER,), ()]
    assert [json.loads(text) for text in table["metadata"].to_pylist()] == [{"n": 1}, {"n": 2, "tools": "none of them"}]
    (plain,) = PromptSource(PromptsConfig(path=str(path), tools_column="", limit=2)).tables(10)
    assert "tools" in json.loads(plain["metadata"][0].as_py())
    (old,) = PromptSource(PromptsConfig(path=str(path), max_bad_fraction=1.0), rules=1).tables(10)
    assert old.column_names == plain.select(old.column_names).column_names
    assert old.num_rows == 1, "a run that began before turns of tools were known goes on without them"


def test_a_prompt_without_tools_has_the_id_that_it_always_had() -> None:
    """The id of version 0.1.0, as its run directories hold it."""
    assert make_prompt_id([{"role": "user", "content": "Hello"}]) == "1c10724717b3563565aa"
    with_tools = make_prompt_id([{"role": "user", "content": "Hello"}], [WEATHER])
    assert with_tools != make_prompt_id([{"role": "user", "content": "Hello"}], [CLOCK])


def test_conversations_that_differ_in_the_ids_of_calls_are_twins() -> None:
    def identify(identity: str) -> tuple[str, str]:
        turns: Any = [CALLING[0], {**CALLING[1], "tool_calls": [{**CALL, "id": identity}]}, CALLING[2]]
        prompt_id = make_prompt_id(turns, [WEATHER])
        return prompt_id, make_twin_id(turns, prompt_id, [WEATHER])

    (one, first), (other, second) = identify("call_1"), identify("call_2")
    assert one != other
    assert first == second
