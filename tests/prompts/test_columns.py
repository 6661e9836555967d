"""Every form of a prompt column, and what becomes of the other columns."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.prompts.columns import Columns, read_conversation
from synthgen.prompts.messages import read_messages
from synthgen.prompts.unusable import UnusableRowError

PROMPT = Columns("prompt", None, None, None)
texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("value", "roles", "answer"),
    [
        ("Why?", ["user"], None),
        (["Why?", "And how?"], ["user"], None),
        ([{"role": "user", "content": "Why?"}], ["user"], None),
        ([{"role": "User", "content": [{"type": "text", "text": "Why?"}]}], ["user"], None),
        ([{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}], ["user"], "So."),
        (
            [
                {"from": "system", "value": "Be brief."},
                {"from": "human", "value": "Hm."},
                {"from": "gpt", "value": "Yes?"},
                {"from": "human", "value": "Why?"},
            ],
            ["system", "user", "assistant", "user"],
            None,
        ),
        ([{"role": "system", "content": " "}, {"role": "user", "content": "Why?"}], ["user"], None),
        ([{"role": "developer", "content": "x"}, {"role": "user", "content": "Why?"}], ["system", "user"], None),
        ([{"role": None, "from": "human", "content": None, "value": "Why?"}], ["user"], None),
        ([{"role": "prompter", "text": "Why?"}], ["user"], None),
        (
            [{"role": "user", "content": [{"type": "text", "text": "Wh"}, {"type": "text", "text": "y?"}]}],
            ["user"],
            None,
        ),
        ([{"role": "user", "content": [None, {"type": "text", "text": None}, "Why?"]}], ["user"], None),
        ([{"role": "user", "content": [{"type": "text", "text": "Why?", "image_url": None}]}], ["user"], None),
        ([{"role": "user", "content": {"type": "text", "text": "Why?"}}], ["user"], None),
        ([{"role": "system", "content": None}, {"role": "user", "content": "Why?"}, None], ["user"], None),
        ([{"role": "user", "content": "Why?"}, {"role": "assistant", "content": None}], ["user"], None),
        (
            [
                {"role": "user", "content": "Weather?"},
                {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "look"}}]},
                {"role": "user", "content": "Why?"},
            ],
            ["user", "assistant", "user"],
            None,
        ),
        ({"role": "user", "content": "Why?"}, ["user"], None),
        ({"role": ["system", "user"], "content": ["x", "Why?"]}, ["system", "user"], None),
        ({"from": ["human", "gpt"], "value": ["Why?", "So."]}, ["user"], "So."),
        ([{"content": "Why?"}, {"content": "And how?"}], ["user"], None),
    ],
)
def test_read_messages_takes_the_usual_forms(value: Any, roles: list[str], answer: str | None) -> None:
    messages, cut = read_messages(value)
    assert [message["role"] for message in messages] == roles
    assert messages[-1]["content"] == "Why?"
    assert cut == answer


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "not_a_prompt"),
        (5, "not_a_prompt"),
        ([{"type": "text", "text": "See"}, {"type": "image_url", "image_url": {"url": "x"}}], "not_text"),
        ([{"type": "text", "text": "See"}, {"type": "image", "text": None}], "not_text"),
        ([{"type": "text", "text": "See", "image_url": {"url": "x"}}], "not_text"),
        ([{"input_audio": {"data": "x"}}], "not_text"),
        ([{"type": "text", "text": 5}], "not_text"),
        ([7], "not_a_prompt"),
        ([None], "empty_prompt"),
        ([], "empty_prompt"),
    ],
)
def test_read_messages_refuses_what_is_not_text(content: Any, reason: str) -> None:
    with pytest.raises(UnusableRowError) as error:
        read_messages([{"role": "user", "content": content}])
    assert error.value.reason == reason


@pytest.mark.parametrize("name", ["image", "images"])
def test_read_conversation_refuses_a_prompt_that_speaks_of_a_picture(name: str) -> None:
    row = {"prompt": "<image>\nWhat is this?", name: "coco/1.jpg"}
    with pytest.raises(UnusableRowError, match=f"column {name}, which is not text") as error:
        read_conversation(row, PROMPT)
    assert error.value.reason == "not_text"
    assert read_conversation({**row, name: None}, PROMPT).messages[0]["content"] == row["prompt"]
    assert read_conversation({**row, "prompt": "Why?"}, PROMPT).messages[0]["content"] == "Why?"


@pytest.mark.parametrize(
    ("value", "said"),
    [("b, a", "Sort.\n\nb, a"), (7, "Sort.\n\n7"), ("<noinput>", "Sort."), (" ", "Sort."), (None, "Sort.")],
)
def test_read_conversation_puts_the_input_below_the_prompt(value: Any, said: str) -> None:
    conversation = read_conversation({"prompt": "Sort.", "in": value}, Columns("prompt", None, "in", None))
    assert conversation.messages == [{"role": "user", "content": said}]


def test_read_conversation_keeps_all_turns_in_the_metadata() -> None:
    conversation = read_conversation({"prompt": ["a", "b"], "id": 3}, PROMPT)
    assert json.loads(conversation.metadata) == {"prompt": ["a", "b"], "id": 3}


def test_read_conversation_takes_the_cut_answer_as_reference_only_where_that_is_asked_for() -> None:
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    row = {"prompt": messages, "gold": 4}
    conversation = read_conversation(row, PROMPT)
    assert (conversation.reference, conversation.cut) == (None, True)
    assert json.loads(conversation.metadata) == {"gold": 4, "last_turn": "a"}
    assert read_conversation(row, Columns("prompt", None, None, None, last_turn=True)).reference == "a"
    conversation = read_conversation(row, Columns("prompt", None, None, "gold", last_turn=True))
    assert conversation.reference == "4"
    assert json.loads(conversation.metadata) == {"gold": 4, "reference": "a"}


def test_read_conversation_keeps_the_conversation_s_own_system_message() -> None:
    row = {"prompt": [{"role": "system", "content": "own"}, {"role": "user", "content": "q"}], "sys": "column"}
    conversation = read_conversation(row, Columns("prompt", "sys", None, None))
    assert [message["content"] for message in conversation.messages] == ["own", "q"]


def test_read_conversation_writes_metadata_that_any_json_reader_takes() -> None:
    row = {"prompt": "q", "nan": float("nan"), "png": b"\x89PNG", "day": date(2024, 2, 29), "half": "\ud83d"}
    metadata = read_conversation(row, PROMPT).metadata
    assert json.loads(metadata, parse_constant=pytest.fail) == {
        "nan": None,
        "png": None,
        "day": "2024-02-29",
        "half": "\ud83d",
    }
    assert metadata.isascii()


@given(texts, st.dictionaries(st.text().filter(lambda name: name != "prompt"), json_values, max_size=4))
def test_read_conversation_keeps_the_text_as_it_is(text: str, rest: dict[str, Any]) -> None:
    row = {"prompt": text, **rest}
    if not text.strip():
        with pytest.raises(UnusableRowError):
            read_conversation(row, PROMPT)
        return
    conversation = read_conversation(row, PROMPT)
    assert conversation.messages == [{"role": "user", "content": text}]
    assert set(json.loads(conversation.metadata)) == set(rest)
    conversation.metadata.encode()


@given(json_values)
def test_read_messages_gives_a_user_turn_or_a_reason(value: Any) -> None:
    try:
        messages, _ = read_messages(value)
    except UnusableRowError:
        return
    assert messages[-1]["role"] == "user"
    assert messages[-1]["content"].strip()
