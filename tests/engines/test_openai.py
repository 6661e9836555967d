"""The endpoint engine against a scripted server: what is retried, what is refused, and what is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from local_ray import free_port
from scripted_endpoint import Endpoint, Script, answer, failure, serve

from synthgen.config import EndpointConfig, EngineKind, ModelConfig
from synthgen.engines.openai import OpenAIEngine
from synthgen.engines.openai_answers import find_room
from synthgen.engines.rate_limit import WINDOW_S, RateLimit
from synthgen.errors import ConfigError, EngineDeadError, RequestError
from synthgen.records import Message, OutputFormat, Request, Sampling

HELLO = Request("r", [Message(role="user", content="Hello?")], Sampling(max_tokens=64), seed=5)


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits of the client before it tries again; none of them takes time."""
    found: list[float] = []

    async def note(seconds: float) -> None:
        found.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr("openai._base_client.anyio.sleep", note)
    return found


def make_engine(url: str, **fields: Any) -> OpenAIEngine:
    endpoint = EndpointConfig(base_url=url, **{"max_retries": 3, **fields})
    return OpenAIEngine(ModelConfig(name="api", id="m", engine=EngineKind.openai, endpoint=endpoint))


@asynccontextmanager
async def started(endpoint: Endpoint, **fields: Any) -> AsyncIterator[OpenAIEngine]:
    async with serve(endpoint):
        engine = make_engine(endpoint.url, **fields)
        await engine.start()
        try:
            yield engine
        finally:
            await engine.close()


def replies(*scripted: Any) -> Script:
    return lambda number, _: scripted[min(number, len(scripted) - 1)]


async def test_rate_limited_request_waits_as_long_as_the_server_says(sleeps: list[float]) -> None:
    endpoint = Endpoint(replies(failure(429, "slow down", {"Retry-After": "17"}), answer("late")))
    async with started(endpoint) as engine:
        (completion,) = await engine.generate(HELLO)
    assert completion.text == "late"
    assert sleeps == [17.0]


async def test_system_message_that_the_server_refuses_goes_into_the_user_turn() -> None:
    def script(_: int, body: dict[str, Any]) -> Any:
        if body["messages"][0]["role"] == "system":
            return failure(400, "System role not supported None")
        return answer(body["messages"][0]["content"])

    asked = replace(HELLO, messages=[Message(role="system", content="Be brief."), *HELLO.messages])
    endpoint = Endpoint(script)
    async with started(endpoint) as engine:
        texts = [(await engine.generate(asked))[0].text for _ in range(2)]
    assert texts == ["Be brief.\n\nHello?"] * 2
    assert len(endpoint.bodies) == 3, "it is tried with a system message once"


async def test_server_error_is_tried_again_with_backoff(sleeps: list[float]) -> None:
    endpoint = Endpoint(replies(failure(500), failure(503), answer("at last")))
    async with started(endpoint) as engine:
        (completion,) = await engine.generate(HELLO)
    assert completion.text == "at last"
    assert len(sleeps) == 2
    assert 0 < sleeps[0] < sleeps[1]


@pytest.mark.parametrize(
    ("reply", "reason", "retryable"),
    [
        (failure(429), "rate_limited", True),
        (failure(500), "server_error", True),
        (failure(400, "temperature must be below 2"), "refused", False),
        (failure(422, "no"), "refused", False),
        ((200, "<html>a proxy's page</html>", {}), "no_text", True),
        ((200, {"choices": []}, {}), "no_text", True),
        (answer(None), "no_text", True),
    ],
)
async def test_failed_request_is_a_row_with_a_reason(
    sleeps: list[float], reply: Any, reason: str, retryable: bool
) -> None:
    async with started(Endpoint(replies(reply))) as engine:
        with pytest.raises(RequestError) as failed:
            await engine.generate(HELLO)
    assert (failed.value.reason, failed.value.retryable) == (reason, retryable)
    assert "\n" not in str(failed.value)


async def test_refused_key_is_one_line_that_names_the_variable() -> None:
    async with serve(Endpoint(replies(answer()), refuse_key=True)) as endpoint:
        engine = make_engine(endpoint.url, api_key_env="MY_KEY")
        with pytest.raises(ConfigError, match=r"refuses the key in MY_KEY; export MY_KEY=…"):
            await engine.start()


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_key_or_model_refused_later_ends_the_run_in_one_line(status: int) -> None:
    async with started(Endpoint(replies(failure(status, "not for\nyou")))) as engine:
        with pytest.raises(ConfigError, match=r"http.*: .*not for") as failed:
            await engine.generate(HELLO)
    assert "\n" not in str(failed.value)


async def test_unserved_model_is_one_line_that_names_those_there_are() -> None:
    async with serve(Endpoint(replies(answer()), models=[{"id": "other", "object": "model"}])) as endpoint:
        with pytest.raises(ConfigError, match=r"model\.id=m is not served by http.*; it has other"):
            await make_engine(endpoint.url).start()


async def test_server_that_is_not_there_kills_the_engine(sleeps: list[float]) -> None:
    with pytest.raises(EngineDeadError, match="does not answer"):
        await make_engine(f"http://127.0.0.1:{free_port()}/v1").start()


async def test_server_that_goes_away_kills_the_engine(sleeps: list[float]) -> None:
    endpoint = Endpoint(replies(answer()))
    async with serve(endpoint):
        engine = make_engine(endpoint.url)
        await engine.start()
    with pytest.raises(EngineDeadError, match="does not answer"):
        await engine.generate(HELLO)
    await engine.close()


async def test_prompt_beyond_the_context_is_a_row(sleeps: list[float]) -> None:
    message = (
        "This model's maximum context length is 4096 tokens. However, your prompt contains at least 4097 input tokens"
    )
    endpoint = Endpoint(replies(failure(400, message)))
    async with started(endpoint) as engine:
        with pytest.raises(RequestError) as failed:
            await engine.generate(HELLO)
    assert failed.value.reason == "prompt_too_long"
    assert not failed.value.retryable


async def test_output_is_cut_to_the_room_that_is_left() -> None:
    message = "This model's maximum context length is 100 tokens and your request has 90 input tokens"
    endpoint = Endpoint(lambda _, body: answer("fits") if body["max_tokens"] <= 10 else failure(400, message))
    async with started(endpoint) as engine:
        (completion,) = await engine.generate(HELLO)
    assert completion.text == "fits"
    assert [body["max_tokens"] for body in endpoint.bodies] == [64, 10]


@pytest.mark.parametrize(
    ("message", "room"),
    [
        ("maximum context length is 4096 tokens and your request has 4000 input tokens", 96),
        ("maximum context length is 4097 tokens. However, your messages resulted in 4000 tokens.", 97),
        ("maximum context length is 100 tokens, you asked for 150 (90 in the messages, 60 in the completion)", 10),
        ("maximum context length is 100 tokens. However, your messages resulted in 900 tokens.", 0),
        ("maximum context length is 4096 tokens. However, your prompt contains at least 4033 input tokens", None),
        ("the prompt is too long", None),
    ],
)
def test_find_room_reads_what_servers_say(message: str, room: int | None) -> None:
    assert find_room(message) == room


async def test_samples_are_requests_with_seeds_of_their_own() -> None:
    endpoint = Endpoint(lambda _, body: answer(f"seed {body['seed']}", completion_tokens=body["seed"]))
    async with started(endpoint) as engine:
        completions = await engine.generate(replace(HELLO, n=3))
    assert [completion.text for completion in completions] == ["seed 5", "seed 6", "seed 7"]
    assert [completion.output_tokens for completion in completions] == [5, 6, 7]


async def test_sampling_is_sent_in_the_servers_names() -> None:
    sampling = Sampling(
        temperature=0.5, top_p=0.9, top_k=4, min_p=0.1, max_tokens=9, stop=("x",), logit_bias=((3, 2.0),)
    )
    endpoint = Endpoint(replies(answer(finish_reason="length", prompt_tokens_details={"cached_tokens": 4})))
    async with started(endpoint) as engine:
        (completion,) = await engine.generate(replace(HELLO, sampling=sampling))
    body = endpoint.bodies[0]
    sent = {key: body[key] for key in ("model", "temperature", "top_p", "top_k", "min_p", "max_tokens", "stop")}
    assert sent == {
        "model": "m", "temperature": 0.5, "top_p": 0.9, "top_k": 4, "min_p": 0.1, "max_tokens": 9, "stop": ["x"],
    }  # fmt: skip
    assert body["logit_bias"] == {"3": 2.0}
    assert "presence_penalty" not in body
    assert (completion.finish_reason, completion.cached_tokens, completion.prompt_tokens) == ("length", 4, 7)


async def test_json_schema_is_sent_where_the_server_takes_one() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    request = replace(HELLO, output_format=OutputFormat("json", json.dumps(schema)))
    endpoint = Endpoint(replies(answer('{"a": 1}')))
    async with started(endpoint, structured_output="json_schema") as engine:
        await engine.generate(request)
        await engine.generate(replace(HELLO, output_format=OutputFormat("regex", "a+")))
    assert endpoint.bodies[0]["response_format"]["json_schema"]["schema"] == schema
    assert "response_format" not in endpoint.bodies[1]


async def test_formats_are_sent_to_vllm_as_its_own_argument() -> None:
    endpoint = Endpoint(replies(answer()), models=[{"id": "m", "object": "model", "owned_by": "vllm"}])
    request = replace(HELLO, output_format=OutputFormat("regex", "[1-5]", choices=("1", "5")))
    async with started(endpoint) as engine:
        await engine.generate(request)
    assert endpoint.bodies[0]["structured_outputs"] == {"regex": "[1-5]"}
    assert endpoint.bodies[0]["logprobs"] is True


async def test_text_that_utf8_cannot_hold_is_mended_before_it_is_sent() -> None:
    endpoint = Endpoint(replies(answer()))
    async with started(endpoint) as engine:
        (request,) = engine.encode([replace(HELLO, messages=[Message(role="user", content="a\ud800b\x00")])])
        assert isinstance(request, Request)
        await engine.generate(request)
    assert endpoint.bodies[0]["messages"][0]["content"] == "a?b\x00"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"url": ""}, "endpoint.base_url is empty"),
        (
            {"url": "http://x/v1", "structured_output": "xml"},
            "endpoint.structured_output=xml is unknown; choose from auto",
        ),
    ],
)
def test_endpoint_that_cannot_work_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_engine(**fields)


class Clock:
    """Time that passes only while someone sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


async def test_rate_limit_paces_requests_over_a_window() -> None:
    clock = Clock()
    limit = RateLimit(EndpointConfig(requests_per_minute=3), clock, clock.sleep)
    for _ in range(7):
        await limit.wait()
    assert clock.slept == [WINDOW_S, WINDOW_S]


async def test_rate_limit_counts_tokens_of_the_last_minute() -> None:
    clock = Clock()
    limit = RateLimit(EndpointConfig(tokens_per_minute=100), clock, clock.sleep)
    await limit.wait()
    limit.spend(60)
    clock.now += 20
    await limit.wait()
    limit.spend(60)
    await limit.wait()
    assert clock.slept == [WINDOW_S - 20]


async def test_rate_limit_without_limits_never_waits() -> None:
    clock = Clock()
    limit = RateLimit(EndpointConfig(), clock, clock.sleep)
    for _ in range(1000):
        await limit.wait()
        limit.spend(10**6)
    assert clock.slept == []
