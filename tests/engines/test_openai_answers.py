"""The parser of answers: any JSON, any bytes, any status give a completion or a reason, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tool_prompts import CALL, CALLING, WEATHER

from synthgen.config import EndpointConfig, ModelConfig
from synthgen.engines.openai.answers import read_answer
from synthgen.engines.openai.dialect import make_dialect, write_body
from synthgen.engines.openai.listing import read_listing
from synthgen.engines.openai.reply import Kind, Refusal, Reply
from synthgen.engines.openai.retry_after import find_wait_s
from synthgen.engines.openai.words import find_most_output, find_room, read_finish_reason
from synthgen.records import GENERATIONS_SCHEMA, Completion, OutputFormat, Request, Sampling, WrittenCall

FORM = OutputFormat("regex", "[1-5]", choices=("1", "2", "3", "4", "5"))
KEYS = st.sampled_from(
    [
        "choices",
        "message",
        "content",
        "finish_reason",
        "usage",
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "error",
        "code",
        "text",
        "type",
        "logprobs",
        "top_logprobs",
        "token",
        "logprob",
        "refusal",
        "reasoning_content",
        "delta",
        "detail",
        "loc",
        "msg",
        "metadata",
        "raw",
        "cached_tokens",
        "prompt_tokens_details",
        "data",
        "id",
    ]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=8)
    | st.sampled_from(["stop", "length", "content_filter", "error", "4", " 4", "\ud800", "text"])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=6),
    max_leaves=30,
)
ENVELOPES = st.builds(
    lambda message, finish, logprobs, usage, more: {
        "choices": [{"message": message, "finish_reason": finish, "logprobs": logprobs}],
        "usage": usage,
        **more,
    },
    VALUES, VALUES, VALUES, VALUES, st.dictionaries(KEYS, VALUES, max_size=1),
)  # fmt: skip
HEADERS = st.dictionaries(
    st.sampled_from(["retry-after", "retry-after-ms", "x-ratelimit-reset-requests", "x-ratelimit-remaining-requests"]),
    st.text(max_size=30) | st.floats().map(str) | st.integers().map(str),
)


def check(reply: Reply) -> None:
    """Whatever comes out can be stored: in a row, in a file of failures, on a terminal."""
    found = read_answer(reply, FORM, now=0.0)
    assert isinstance(found, Completion | Refusal)
    if isinstance(found, Completion):
        assert 200 <= reply.status < 300
        assert found.text
        found.text.encode()
        found.finish_reason.encode()
        assert found.finish_reason not in ("content_filter", "error")
        for count in (found.prompt_tokens, found.cached_tokens, found.output_tokens):
            assert 0 <= count < 2**31
        for place in found.choice_logprobs:
            assert found.text[place.start] in FORM.choices
    else:
        assert found.reason == found.reason.strip() != ""
        assert "\n" not in found.message
        (found.message + found.raw + found.reason).encode()
        assert len(found.message) < 1000
        assert found.after_s is None or 0 <= found.after_s < 10**6
        assert found.room is None or found.room >= 0


@given(status=st.integers(100, 599), body=st.binary(max_size=200), headers=HEADERS)
def test_any_bytes_are_an_answer_or_a_reason(status: int, body: bytes, headers: dict[str, str]) -> None:
    check(Reply(status, body, headers))
    read_listing(body)


@settings(max_examples=500)
@given(status=st.sampled_from([200, 200, 200, 201, 400, 403, 404, 422, 429, 500]), value=VALUES | ENVELOPES)
def test_any_json_is_an_answer_or_a_reason(status: int, value: Any) -> None:
    body = json.dumps(value).encode()
    check(Reply(status, body))
    read_listing(body)


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"a":' * 50_000, b"1" * 5000, b'{"choices":[{"message":' + b"[" * 400]
)
def test_json_that_breaks_parsers_is_a_reason(body: bytes) -> None:
    check(Reply(200, body))
    assert read_listing(body) == []


def answer(choice: dict[str, Any], form: OutputFormat | None = FORM, **more: Any) -> Completion | Refusal:
    return read_answer(Reply(200, json.dumps({"choices": [choice], **more}).encode()), form)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("stop", "stop"),
        ("end_turn", "stop"),
        ("STOP", "stop"),
        ("eos", "stop"),
        ("COMPLETE", "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("MAX_TOKENS", "length"),
        ("FINISH_REASON_LENGTH", "length"),
        ("content_filter", "content_filter"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("error", "error"),
        ("insufficient_system_resource", "error"),
        ("tool_calls", "tool_calls"),
        ("function_call", "function_call"),
        ("Something New", "something_new"),
        (None, "unknown"),
        (7, "unknown"),
        ("", "unknown"),
        ("\n\u202e", "unknown"),
    ],
)
def test_finish_reasons_are_each_their_own(word: object, reason: str) -> None:
    assert read_finish_reason(word) == reason
    found = answer({"message": {"content": "half a text"}, "finish_reason": word})
    if reason in ("content_filter", "error"):
        assert isinstance(found, Refusal)
        assert found.kind is (Kind.give_up if reason == "content_filter" else Kind.again)
        assert "half a text" in found.raw
    else:
        assert isinstance(found, Completion)
        assert found.finish_reason == reason


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        (None, (0, 0, 0)),
        ({}, (0, 0, 0)),
        ("many", (0, 0, 0)),
        ({"prompt_tokens": 7.0, "completion_tokens": 3.9}, (7, 0, 3)),
        ({"prompt_tokens": "7", "completion_tokens": None}, (7, 0, 0)),
        ({"prompt_tokens": 7, "total_tokens": 10}, (7, 0, 3)),
        ({"prompt_tokens": -7, "completion_tokens": True}, (0, 0, 0)),
        ({"prompt_tokens": 10**12, "completion_tokens": float("nan")}, (0, 0, 0)),
        ({"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}, (7, 4, 3)),
        ({"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 400}}, (7, 7, 3)),
        ({"prompt_tokens": 7, "completion_tokens": 3, "prompt_cache_hit_tokens": 5}, (7, 5, 3)),
    ],
)
def test_usage_is_taken_as_far_as_it_goes(usage: Any, counts: tuple[int, int, int]) -> None:
    found = answer({"message": {"content": "a"}, "finish_reason": "stop"}, usage=usage)
    assert isinstance(found, Completion)
    assert (found.prompt_tokens, found.cached_tokens, found.output_tokens) == counts


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]}, "a b"),
        ({"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "b"}]}, "b"),
        ({"content": ["a", "b"]}, "ab"),
        ({"content": "a\ud800b"}, "a\ufffdb"),
        ({"content": "\ud83d\ude00"}, "😀"),
        ({"content": "ok", "reasoning_content": "hm"}, "ok"),
        ({"content": "ok", "refusal": None, "tool_calls": None}, "ok"),
    ],
)
def test_content_of_every_shape_is_read(message: dict[str, Any], text: str) -> None:
    found = answer({"message": message, "finish_reason": "stop"})
    assert isinstance(found, Completion)
    assert found.text == text


@pytest.mark.parametrize(
    ("message", "finish", "usage", "thought", "tokens", "fault"),
    [
        ({"content": "ok", "reasoning_content": "hm"}, "stop", {"completion_tokens": 20}, "hm", 10, None),
        ({"content": "ok", "reasoning": "hm"}, "stop", {"completion_tokens": 20}, "hm", 10, None),
        ({"content": "ok", "reasoning_content": None, "reasoning": None}, "stop", {}, None, None, None),
        ({"content": "ok", "reasoning": ""}, "stop", {"completion_tokens": 4}, None, None, None),
        (
            {"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "ok"}]},
            "stop",
            {},
            "hm",
            0,
            None,
        ),
        ({"content": None, "reasoning": "hm"}, "stop", {"completion_tokens": 20}, "hm", 20, "no_answer"),
        ({"content": "", "reasoning_content": "hm"}, "length", {"completion_tokens": 20}, "hm", 20, "thought_cut_off"),
        ({"content": "a\n", "reasoning": "b\ud800"}, "stop", {"completion_tokens": 8}, "b\ufffd", 4, None),
        (
            {"content": "ok"},
            "stop",
            {"completion_tokens": 20, "completion_tokens_details": {"reasoning_tokens": 15}},
            "",
            15,
            None,
        ),
        (
            {"content": "ok"},
            "stop",
            {"completion_tokens": 20, "completion_tokens_details": {"reasoning_tokens": 0}},
            None,
            None,
            None,
        ),
        ({"content": ""}, "length", {"completion_tokens": 20}, "", 20, "thought_cut_off"),
    ],
)
def test_thought_is_read_beside_the_answer_and_without_one(
    message: dict[str, Any],
    finish: str,
    usage: dict[str, Any],
    thought: str | None,
    tokens: int | None,
    fault: str | None,
) -> None:
    found = answer({"message": message, "finish_reason": finish}, None, usage=usage)
    assert isinstance(found, Completion)
    assert (found.reasoning, found.reasoning_tokens, found.fault) == (thought, tokens, fault)


@pytest.mark.parametrize(("finish", "reason"), [("stop", "no_answer"), ("length", "thought_cut_off")])
def test_thought_without_an_answer_of_the_form_that_was_asked_for_is_refused(finish: str, reason: str) -> None:
    found = answer({"message": {"content": None, "reasoning": "hm"}, "finish_reason": finish})
    assert isinstance(found, Refusal)
    assert (found.reason, found.kind, found.thought) == (reason, Kind.give_up, True)


@pytest.mark.parametrize(
    ("choice", "reason", "kind", "words"),
    [
        ({"message": {"content": None}, "finish_reason": "stop"}, "no_text", Kind.again, "no text"),
        ({"message": {"content": ""}, "finish_reason": "stop"}, "no_text", Kind.again, "no text"),
        (
            {"message": {"content": None, "refusal": "I will not"}, "finish_reason": "stop"},
            "refusal",
            Kind.give_up,
            "I will not",
        ),
        ({"finish_reason": "content_filter"}, "content_filter", Kind.give_up, "content_filter"),
        ({"message": {"content": None}, "finish_reason": "tool_calls"}, "tool_calls", Kind.give_up, "tool_calls"),
        (
            {"error": {"code": 502, "message": "provider away"}, "message": {"content": "ha"}},
            "server_error",
            Kind.again,
            "provider away",
        ),
        ({"error": {"code": 429, "message": "slow down"}}, "rate_limited", Kind.slow_down, "slow down"),
    ],
)
def test_answer_without_a_text_says_why(choice: dict[str, Any], reason: str, kind: Kind, words: str) -> None:
    found = answer(choice, usage={"prompt_tokens": 5, "completion_tokens": 6})
    assert isinstance(found, Refusal)
    assert (found.reason, found.kind) == (reason, kind)
    assert words in found.message
    assert found.bill.output_tokens == 6


@pytest.mark.parametrize(
    ("status", "body", "reason", "kind"),
    [
        (200, b"", "bad_answer", Kind.again),
        (200, b"\n\n\n", "bad_answer", Kind.again),
        (200, b'{"choices": [{"mess', "bad_answer", Kind.again),
        (200, b"\xff\xfe\x00", "bad_answer", Kind.again),
        (200, b"<html>a proxy's page</html>", "bad_answer", Kind.again),
        (200, b"null", "bad_answer", Kind.again),
        (200, b'{"choices": []}', "no_choices", Kind.again),
        (200, b'{"error": {"message": "overloaded"}}', "server_error", Kind.again),
        (200, b'{"error": {"message": "no credit", "code": 402}}', "quota", Kind.exhausted),
        (200, b'{"promptFeedback": {"blockReason": "SAFETY"}}', "content_filter", Kind.give_up),
        (
            400,
            b'{"error": {"code": "content_filter", "message": "content management policy"}}',
            "content_filter",
            Kind.give_up,
        ),
        (400, b'{"error": {"message": "temperature must be below 2"}}', "refused", Kind.give_up),
        (400, b'{"error": {"message": "Unsupported parameter: seed"}}', "refused", Kind.parameter),
        (
            422,
            b'{"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}',
            "refused",
            Kind.parameter,
        ),
        (401, b"", "no_access", Kind.no_access),
        (403, b"blocked", "no_access", Kind.no_access),
        (403, b'{"error": {"message": "flagged by moderation"}}', "content_filter", Kind.give_up),
        (404, b"", "no_access", Kind.no_access),
        (402, b"", "quota", Kind.exhausted),
        (408, b"", "server_error", Kind.again),
        (409, b"", "server_error", Kind.again),
        (425, b"", "server_error", Kind.again),
        (429, b"", "rate_limited", Kind.slow_down),
        (
            429,
            b'{"error": {"code": "insufficient_quota", "message": "exceeded your current quota"}}',
            "quota",
            Kind.exhausted,
        ),
        (
            429,
            b'{"error": {"message": "exceeded your current quota. Please retry in 34s"}}',
            "rate_limited",
            Kind.slow_down,
        ),
        (429, b'{"error": {"message": "Request too large for m: limit 30000"}}', "too_large", Kind.give_up),
        (498, b"", "server_error", Kind.again),
        (413, b"", "prompt_too_long", Kind.too_long),
        (500, b"<html>", "server_error", Kind.again),
        (529, b"", "server_error", Kind.again),
        (301, b"", "redirected", Kind.no_access),
    ],
)
def test_every_status_calls_for_something(status: int, body: bytes, reason: str, kind: Kind) -> None:
    found = read_answer(Reply(status, body))
    assert isinstance(found, Refusal)
    assert (found.reason, found.kind) == (reason, kind)


@pytest.mark.parametrize(
    ("message", "room"),
    [
        ("maximum context length is 4096 tokens and your request has 4000 input tokens", 96),
        ("maximum context length is 4097 tokens. However, your messages resulted in 4000 tokens.", 97),
        ("maximum context length is 100 tokens, you asked for 150 (90 in the messages, 60 in the completion)", 10),
        ("maximum context length is 100 tokens. However, your messages resulted in 900 tokens.", 0),
        ("maximum context length is 4096 tokens. However, your prompt contains at least 4033 input tokens", None),
        ("the prompt is too long", None),
        # OpenRouter
        ("This endpoint's maximum context length is 4096 tokens. However, you requested about 4110 tokens "
         "(4046 of text input, 64 in the output). Please reduce the length of either one", 50),
        # SGLang
        ("Requested token count exceeds the model's maximum context length of 4096 tokens. You requested a total of "
         "4110 tokens: 4046 tokens from the input messages and 64 tokens for the completion.", 50),
        ("The input (5000 tokens) is longer than the model's context length (4096 tokens).", 0),
        # Together
        ("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097. Given: 4047 `inputs` tokens and "
         "64 `max_new_tokens`", 50),
        # Anthropic
        ("prompt is too long: 205000 tokens > 200000 maximum", 0),
        ("input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease input length", 10000),
        # Gemini
        ("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", 0),
        # llama.cpp
        ("request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it", 0),
        ('{"type": "exceed_context_size_error", "n_prompt_tokens": 4046, "n_ctx": 4096}', 50),
        # Mistral
        ("Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length", 0),
    ],
)  # fmt: skip
def test_room_is_read_in_every_servers_words(message: str, room: int | None) -> None:
    assert find_room(message) == room
    body = json.dumps({"error": {"message": message}}).encode()
    found = read_answer(Reply(400, body if "n_ctx" not in message else message.encode()))
    assert isinstance(found, Refusal)
    assert (found.reason, found.room) == ("prompt_too_long", room)


@pytest.mark.parametrize(
    ("message", "most"),
    [
        ("max_tokens is too large: 8192. This model supports at most 4096 completion tokens", 4096),
        ("Range of max_tokens should be [1, 8192]", 8192),
        ("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", 8192),
        ("max_tokens: 8192 > 4096, which is the maximum allowed number of output tokens", 4096),
        ("`max_tokens` must be less than or equal to `4096`", None),
        ("max_tokens must be less than or equal to 4096", 4096),
        ("temperature must be below 2", None),
    ],
)
def test_most_output_is_read_in_servers_words(message: str, most: int | None) -> None:
    assert find_most_output(message) == most


@pytest.mark.parametrize(
    ("headers", "message", "wait_s"),
    [
        ({}, "", None),
        ({"retry-after": "17"}, "", 17.0),
        ({"retry-after": "1.5"}, "", 1.5),
        ({"retry-after-ms": "250"}, "", 0.25),
        ({"retry-after": "Thu, 01 Jan 1970 00:16:50 GMT"}, "", 10.0),
        ({"retry-after": "1970-01-01T00:16:45+00:00"}, "", 5.0),
        ({"retry-after": "soon"}, "", None),
        ({"retry-after": "-5"}, "", 0.0),
        ({"retry-after": "nan"}, "", None),
        ({"x-ratelimit-reset-requests": "6m0s"}, "", 360.0),
        ({"x-ratelimit-reset-tokens": "20ms"}, "", 0.02),
        (
            {"x-ratelimit-reset-requests": "1m0s", "x-ratelimit-remaining-requests": "0",
             "x-ratelimit-reset-tokens": "1h", "x-ratelimit-remaining-tokens": "10"},
            "", 60.0,
        ),
        ({"x-ratelimit-reset": "1700000000000"}, "", 7 * 86400.0),
        ({}, "Rate limit reached. Please try again in 20s.", 20.0),
        ({}, "Please try again in 6m0s.", 360.0),
        ({}, "try again in 553ms", 0.553),
        ({}, "Please retry in 7.5s", 7.5),
        ({}, '"retryDelay": "34s"', 34.0),
        ({}, "Please retry after 12 seconds.", 12.0),
        ({}, "Retry-After: 3", 3.0),
    ],
)  # fmt: skip
def test_wait_is_read_in_all_its_forms(headers: dict[str, str], message: str, wait_s: float | None) -> None:
    assert find_wait_s(headers, message, now=1000.0) == wait_s


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b'{"object": "list", "data": [{"id": "m"}]}', ["m"]),
        (b'[{"id": "m"}, {"name": "n"}, {}]', ["m", "n"]),
        (b'{"data": [{"object": "model"}, "m", null, 7]}', ["m"]),
        (b'{"id": "m"}\n{"id": "n"}\n', ["m", "n"]),
        (b'{"models": [{"model": "m"}]}', ["m"]),
        (b"<html></html>", []),
        (b"", []),
        (b'{"data": null}', []),
    ],
)
def test_listing_of_every_shape_is_read(body: bytes, names: list[str]) -> None:
    assert [item.name for item in read_listing(body)] == names


@pytest.mark.parametrize(
    ("logprobs", "expected"),
    [
        (None, 0),
        ({}, 0),
        ({"content": None}, 0),
        ({"content": [{"token": "4"}]}, 0),
        ({"content": [{"token": "4", "logprob": -0.1, "top_logprobs": None}]}, 0),
        ({"content": [{"token": "4", "logprob": -0.1, "top_logprobs": [None, {"token": "5"}, {"logprob": -1}]}]}, 0),
        ({"content": [{"token": "4", "top_logprobs": [{"token": "4", "logprob": -0.1}]}]}, 1),
        (
            {
                "content": [
                    {"token": "4", "top_logprobs": [{"token": "4", "logprob": "x"}, {"token": "5", "logprob": 900}]}
                ]
            },
            0,
        ),
        ({"content": "4"}, 0),
    ],
)
def test_logprobs_are_taken_where_there_are_any(logprobs: Any, expected: int) -> None:
    found = answer({"message": {"content": "4"}, "finish_reason": "stop", "logprobs": logprobs})
    assert isinstance(found, Completion)
    assert len(found.choice_logprobs) == expected


def test_finish_reasons_fit_their_column() -> None:
    assert GENERATIONS_SCHEMA.field("finish_reason").type == "string"


def test_calls_are_read_where_the_request_had_tools() -> None:
    def answer(message: dict[str, Any], finish: str = "tool_calls", *, calls: bool = True) -> Completion | Refusal:
        body = {"choices": [{"message": message, "finish_reason": finish}], "usage": {"completion_tokens": 9}}
        return read_answer(Reply(200, json.dumps(body).encode()), calls=calls)

    one = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "it"}'}}
    made = answer({"content": None, "tool_calls": [one]})
    assert isinstance(made, Completion)
    assert (made.text, made.finish_reason, made.tool_calls) == (
        "",
        "stop",
        (WrittenCall("look", '{"at": "it"}', "c1"),),
    )
    both = answer({"content": "Wait.", "tool_calls": [{"function": {"name": "look", "arguments": {"at": 1}}}, 3, {}]})
    assert isinstance(both, Completion)
    assert (both.text, both.tool_calls) == ("Wait.", (WrittenCall("look", '{"at":1}'),))
    cut = answer({"content": None, "tool_calls": [one]}, "length")
    assert isinstance(cut, Completion)
    assert cut.finish_reason == "length"
    older = answer({"content": None, "function_call": {"name": "look", "arguments": "{}"}}, "function_call")
    assert isinstance(older, Completion)
    assert older.tool_calls == (WrittenCall("look", "{}"),)
    thought = answer({"content": None, "reasoning_content": "Hm.", "tool_calls": [one]})
    assert isinstance(thought, Completion)
    assert (thought.reasoning, thought.fault) == ("Hm.", None)
    unasked = answer({"content": None, "tool_calls": [one]}, calls=False)
    assert isinstance(unasked, Refusal)
    assert unasked.reason == "tool_calls"
    assert isinstance(answer({"content": None, "tool_calls": [{"function": {}}]}), Refusal)


def test_a_request_with_tools_has_ids_and_arguments_as_text() -> None:
    turns: Any = [CALLING[0], {**CALLING[1], "tool_calls": [{**CALL, "id": ""}]}, {"role": "tool", "content": "21"}]
    model = ModelConfig(id="m", engine="openai", endpoint=EndpointConfig(base_url="http://x/v1"))
    body = write_body(make_dialect(model.endpoint), model, Request("r", turns, Sampling(), tools=(WEATHER,)), 0, 8)
    assert body["tools"] == [WEATHER]
    (call,) = body["messages"][1]["tool_calls"]
    assert call["function"]["arguments"] == '{"city":"Łódź"}'
    assert call["id"] == body["messages"][2]["tool_call_id"] == "call_0"
    plain = write_body(make_dialect(model.endpoint), model, Request("r", CALLING[:1], Sampling()), 0, 8)  # type: ignore[arg-type]
    assert "tools" not in plain
    assert plain["messages"] == CALLING[:1]
