"""The endpoint engine against a scripted server: what is retried, what is refused, and what is sent."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from local_ray import free_port
from scripted_endpoint import Broken, Endpoint, Script, answer, failure, serve

from synthgen.config import EndpointConfig, ModelConfig
from synthgen.engines.openai import OpenAIEngine
from synthgen.engines.openai.rate_limit import WINDOW_S, RateLimit
from synthgen.errors import ConfigError, RequestError, RunFailedError
from synthgen.records import Message, OutputFormat, Request, Sampling
from tests.still_clock import Clock

HELLO = Request("r", [Message(role="user", content="Hello?")], Sampling(max_tokens=64), seed=5)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make_engine(url: str, clock: Clock | None = None, **fields: Any) -> OpenAIEngine:
    endpoint = EndpointConfig(base_url=url, **{"max_retries": 3, "outage_s": 60.0, **fields})
    clock = clock or Clock()
    return OpenAIEngine(ModelConfig(name="api", id="m", engine="openai", endpoint=endpoint), clock, clock.sleep)


@asynccontextmanager
async def started(endpoint: Endpoint, clock: Clock | None = None, **fields: Any) -> AsyncIterator[OpenAIEngine]:
    async with serve(endpoint):
        engine = make_engine(endpoint.url, clock, **fields)
        await engine.start()
        try:
            yield engine
        finally:
            await engine.close()


def replies(*scripted: Any) -> Script:
    return lambda number, _: scripted[min(number, len(scripted) - 1)]


async def test_rate_limited_request_waits_as_long_as_the_server_says(clock: Clock) -> None:
    endpoint = Endpoint(replies(failure(429, "slow down", {"Retry-After": "17"}), answer("late")))
    async with started(endpoint, clock) as engine:
        (completion,) = await engine.generate(HELLO)
    assert completion.text == "late"
    assert sum(clock.slept) == 17.0


async def test_free_tier_without_retry_after_serves_everybody(clock: Clock) -> None:
    """30 requests a minute, and no word on how long to wait."""
    served: deque[float] = deque()

    def script(_: int, body: dict[str, Any]) -> Any:
        while served and clock.now - served[0] >= 60:
            served.popleft()
        if len(served) >= 30:
            return failure(429)
        served.append(clock.now)
        return answer("ok")

    endpoint = Endpoint(script)
    async with started(endpoint, clock, outage_s=1800.0) as engine:
        done = await asyncio.gather(*[engine.generate(replace(HELLO, seed=seed)) for seed in range(200)])
    assert [completion.text for (completion,) in done] == ["ok"] * 200
    assert len(endpoint.bodies) < 400


async def test_limit_that_never_opens_gives_the_request_up(clock: Clock) -> None:
    async with started(Endpoint(replies(failure(429))), clock) as engine:
        with pytest.raises(RequestError) as failed:
            await engine.generate(HELLO)
    assert (failed.value.reason, failed.value.retryable) == ("rate_limited", True)
    assert sum(clock.slept) > 60.0


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


async def test_server_error_is_tried_again_with_backoff(clock: Clock) -> None:
    endpoint = Endpoint(replies(failure(500), failure(503), answer("at last")))
    async with started(endpoint, clock) as engine:
        (completion,) = await engine.generate(HELLO)
    assert completion.text == "at last"
    assert len(clock.slept) == 2
    assert 0 < clock.slept[0] < clock.slept[1]


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_key_is_one_line_that_names_the_variable(status: int) -> None:
    listing = failure(status, "bad key")
    async with serve(Endpoint(replies(answer()), listing=listing, serves=lambda: listing)) as endpoint:
        engine = make_engine(endpoint.url, api_key_env="MY_KEY")
        with pytest.raises(ConfigError, match=r"refuses the key in MY_KEY; export MY_KEY=…"):
            await engine.start()
        await engine.close()


@pytest.mark.parametrize(
    "listing",
    [
        failure(403), failure(404), failure(405), failure(400), failure(422), (200, [{"id": "alias"}], {}),
        (200, "<html></html>", {}), (200, b'{"id": "a"}\n{"id": "b"}', {}), (200, {"data": [{"object": "model"}]}, {}),
        (200, b"", {}), (500, b"", {}),
    ],
)  # fmt: skip
async def test_server_that_can_chat_need_not_list_its_models(listing: Any) -> None:
    endpoint = Endpoint(replies(answer("fine")), listing=listing)
    async with started(endpoint) as engine:
        (completion,) = await engine.generate(HELLO)
    assert completion.text == "fine"
    assert len(endpoint.questions) == 1


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_key_or_model_refused_before_anything_was_served_is_one_line(status: int) -> None:
    refused = failure(status, "not for\nyou")
    async with started(Endpoint(replies(refused), serves=lambda: refused)) as engine:
        with pytest.raises(ConfigError, match=r"http.*not for") as failed:
            await engine.generate(HELLO)
    assert "\n" not in str(failed.value)


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_refusal_in_the_middle_is_about_one_prompt(status: int) -> None:
    """A firewall, a router, a token that has just expired: others are served."""
    endpoint = Endpoint(replies(answer("a"), failure(status, "not this one"), answer("b")))
    async with started(endpoint) as engine:
        await engine.generate(HELLO)
        with pytest.raises(RequestError) as failed:
            await engine.generate(HELLO)
        (completion,) = await engine.generate(HELLO)
    assert (failed.value.reason, failed.value.retryable) == ("no_access", False)
    assert completion.text == "b"
    assert len(endpoint.questions) == 1


async def test_key_that_is_revoked_ends_the_run_with_the_mend() -> None:
    revoked = failure(401, "revoked")
    endpoint = Endpoint(replies(answer("a"), revoked), serves=lambda: revoked)
    async with started(endpoint) as engine:
        await engine.generate(HELLO)
        with pytest.raises(
            RunFailedError, match=r"refuses the key in OPENAI_API_KEY; export .* what was committed is kept"
        ):
            await engine.generate(HELLO)


async def test_used_up_credit_ends_the_run_with_the_mend() -> None:
    endpoint = Endpoint(replies(answer("a"), failure(402, "no credit left")))
    async with started(endpoint) as engine:
        await engine.generate(HELLO)
        with pytest.raises(
            RunFailedError, match="credit or quota of OPENAI_API_KEY is used up: 402: no credit left; what"
        ):
            await engine.generate(HELLO)


async def test_other_keys_go_on_where_one_is_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_A", "aaaaaaaa")
    monkeypatch.setenv("KEY_B", "bbbbbbbb")
    endpoint = Endpoint(lambda number, _: answer(str(number)))
    used_up = failure(402, "no credit for aaaaaaaa")

    def script(number: int, _: dict[str, Any]) -> Any:
        return used_up if endpoint.headers[number]["Authorization"] == "Bearer aaaaaaaa" else answer("b")

    endpoint.script = script
    async with started(endpoint, api_key_env="KEY_A, KEY_B") as engine:
        done = await asyncio.gather(*[engine.generate(replace(HELLO, seed=seed)) for seed in range(40)])
    assert [completion.text for (completion,) in done] == ["b"] * 40


async def test_key_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    endpoint = Endpoint(replies(failure(400, "sk-very-secret may not do that")))
    async with started(endpoint) as engine:
        with pytest.raises(RequestError) as failed:
            await engine.generate(HELLO)
    assert "secret" not in str(failed.value) + failed.value.raw


async def test_outage_is_waited_for_and_costs_nothing(clock: Clock) -> None:
    """A server that restarts: everything fails for five minutes."""
    back_at = clock.now + 300

    def serve_later() -> Any:
        return answer("Hi") if clock.now >= back_at else Broken("reset")

    endpoint = Endpoint(lambda _, body: answer("ok") if clock.now >= back_at else Broken("reset"), serves=serve_later)
    async with started(endpoint, clock, outage_s=1800.0) as engine:
        asking = asyncio.gather(*[engine.generate(replace(HELLO, seed=seed)) for seed in range(20)])
        notices = set()
        while not asking.done():
            await asyncio.sleep(0)
            notices.add(engine.notice().partition(" since")[0])
        done = await asking
    assert [completion.text for (completion,) in done] == ["ok"] * 20
    assert f"waiting for {endpoint.url}" in notices
    assert endpoint.paid_tokens <= 22 * 10  # twenty answers, and the question or two that found it alive


async def test_outage_that_does_not_end_ends_the_run(clock: Clock) -> None:
    endpoint = Endpoint(replies(answer()), serves=lambda: Broken("reset"))
    async with started(endpoint, clock) as engine:
        endpoint.script = replies(Broken("reset"))
        with pytest.raises(
            RunFailedError, match=r"has served nothing for endpoint.outage_s=60 s: .*; what was committed"
        ):
            await engine.generate(HELLO)


async def test_request_that_is_always_reset_does_not_stop_the_others(clock: Clock) -> None:
    poison = replace(HELLO, messages=[Message(role="user", content="poison")])
    endpoint = Endpoint(lambda _, body: Broken("reset") if "poison" in str(body["messages"]) else answer("ok"))
    async with started(endpoint, clock) as engine:
        with pytest.raises(RequestError) as failed:
            await engine.generate(poison)
        (completion,) = await engine.generate(HELLO)
    assert (failed.value.reason, failed.value.retryable) == ("lost", True)
    assert completion.text == "ok"
    assert len(endpoint.bodies) == 5  # max_retries=3: four tries, and the other's


async def test_newline_now_and_then_ends_by_the_wall_clock() -> None:
    async with started(Endpoint(replies(Broken("drip"), answer("ok"))), timeout_s=0.3) as engine:
        (completion,) = await engine.generate(HELLO)
    assert completion.text == "ok"


async def test_dead_address_leaves_the_work_to_the_others(clock: Clock) -> None:
    dead = f"http://127.0.0.1:{free_port()}/v1"
    endpoint = Endpoint(replies(answer("ok")))
    async with started(endpoint, clock, base_urls=[dead], outage_s=1e9) as engine:
        done = await asyncio.gather(*[engine.generate(replace(HELLO, seed=seed)) for seed in range(20)])
    assert [completion.text for (completion,) in done] == ["ok"] * 20


@pytest.mark.parametrize(
    ("refusal", "gone"),
    [
        ("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", "max_tokens"),
        ("Unrecognized request argument supplied: seed", "seed"),
        ("'temperature' does not support 0.5 with this model. Only the default (1) is supported.", "temperature"),
        ("top_p is not supported by this model", "top_p"),
        ("This model does not support logprobs", "logprobs"),
        ("Extra inputs are not permitted: top_logprobs", "top_logprobs"),
    ],
)
async def test_first_refusal_teaches_what_a_server_takes(refusal: str, gone: str) -> None:
    form = OutputFormat("regex", "", choices=("1", "2"))
    request = replace(HELLO, sampling=Sampling(temperature=0.5, max_tokens=64), output_format=form)
    endpoint = Endpoint(lambda _, body: failure(400, refusal) if gone in body else answer("ok"))
    async with started(endpoint) as engine:
        for _ in range(3):
            (completion,) = await engine.generate(request)
        assert len(engine.lessons) == 1
    assert completion.text == "ok"
    assert len(endpoint.bodies) == 4  # one refusal, three answers
    assert ("max_completion_tokens" in endpoint.bodies[-1]) == (gone == "max_tokens")


async def test_smaller_maximum_of_tokens_is_learnt() -> None:
    words = "max_tokens is too large: 64. This model supports at most 16 completion tokens, whereas you provided 64."
    endpoint = Endpoint(lambda _, body: failure(400, words) if body["max_tokens"] > 16 else answer("ok"))
    async with started(endpoint) as engine:
        await engine.generate(replace(HELLO, n=3))
        await engine.generate(HELLO)
    assert [body["max_tokens"] for body in endpoint.bodies if body["max_tokens"] <= 16] == [16] * 4


async def test_sampling_that_changes_the_text_is_not_left_out_in_silence() -> None:
    request = replace(HELLO, sampling=Sampling(top_p=0.5, max_tokens=8))
    endpoint = Endpoint(replies(failure(400, "top_p is not supported by this model")))
    async with started(endpoint) as engine:
        with pytest.raises(RequestError, match="top_p is not supported") as failed:
            await engine.generate(request)
    assert failed.value.reason == "refused"
    assert len(endpoint.bodies) == 1


async def test_seeds_stay_below_31_bits_and_apart() -> None:
    endpoint = Endpoint(lambda _, body: answer(str(body["seed"])))
    async with started(endpoint) as engine:
        completions = await engine.generate(replace(HELLO, seed=2**62 - 1, n=4))
    seeds = [int(completion.text) for completion in completions]
    assert len(set(seeds)) == 4
    assert all(0 <= seed < 2**31 for seed in seeds)


async def test_thought_of_a_judge_gets_more_room_and_a_generators_does_not() -> None:
    thought = {"choices": [{"message": {"content": "", "reasoning": "hm"}, "finish_reason": "length"}]}
    endpoint = Endpoint(lambda _, body: answer("4") if body["max_tokens"] >= 200 else (200, thought, {}))
    judged = replace(HELLO, output_format=OutputFormat("regex", "", choices=("4",)))
    async with started(endpoint) as engine:
        (completion,) = await engine.generate(judged)
        (alone,) = await engine.generate(HELLO)
    assert completion.text == "4"
    assert (alone.text, alone.reasoning, alone.fault) == ("", "hm", "thought_cut_off")
    assert [body["max_tokens"] for body in endpoint.bodies] == [64, 128, 256, 64]


async def test_redirect_on_the_same_host_is_followed_and_another_named() -> None:
    async with serve(Endpoint(replies(answer("there")))) as target:
        there = target.url.removesuffix("/v1") + "/v1/chat/completions"
        endpoint = Endpoint(replies(failure(308, "", {"Location": there})))
        async with started(endpoint) as engine:
            (completion,) = await engine.generate(HELLO)
    assert completion.text == "there"
    moved = failure(301, "", {"Location": "https://elsewhere.example/v1"})
    async with serve(Endpoint(replies(moved), listing=moved, serves=lambda: moved)) as endpoint:
        engine = make_engine(endpoint.url)
        with pytest.raises(ConfigError, match=r"redirected: 301: it points to https://elsewhere.example/v1"):
            await engine.start()
        await engine.close()


async def test_extra_fields_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_HEADER", "from outside")
    endpoint = Endpoint(replies(answer()))
    fields = {
        "extra_body": {"provider": {"order": ["a"]}, "top_p": 0.1},
        "extra_headers": {"X-Title": "mine", "X-Secret": "env:MY_HEADER"},
        "chat_template_kwargs": {"enable_thinking": False},
        "service_tier": "flex",
        "leave_out": ["seed"],
    }
    async with started(endpoint, **fields) as engine:
        await engine.generate(HELLO)
    body, headers = endpoint.bodies[0], endpoint.headers[0]
    assert (body["provider"], body["top_p"], body["service_tier"]) == ({"order": ["a"]}, 0.1, "flex")
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert "seed" not in body
    assert (headers["X-Title"], headers["X-Secret"]) == ("mine", "from outside")


async def test_thinking_is_switched_and_bounded_by_the_model_and_the_sampling() -> None:
    endpoint = Endpoint(replies(answer()))
    async with started(endpoint, chat_template_kwargs={"b": 2}) as engine:
        engine._model.chat_template_kwargs.update({"a": 1, "b": 1})
        await engine.generate(replace(HELLO, sampling=Sampling(max_tokens=100, thinking_budget=30)))
        await engine.generate(HELLO)
    first, second = endpoint.bodies[-2:]
    assert first["chat_template_kwargs"] == {"a": 1, "b": 2}
    assert (first["max_tokens"], first["thinking_token_budget"]) == (130, 30)
    assert "thinking_token_budget" not in second


@pytest.mark.parametrize(
    ("takes", "found"),
    [("structured_outputs", "vllm"), ("response_format", "json_schema"), ("", "none"), ("refused", "none")],
)
async def test_structured_output_is_found_by_a_probe(takes: str, found: str) -> None:
    def script(_: int, body: dict[str, Any]) -> Any:
        if "structured_outputs" in body:
            if takes == "refused":
                return failure(400, "Unrecognized request argument supplied: structured_outputs")
            return answer("777" if takes == "structured_outputs" else "Hello!")
        if "response_format" in body:
            return answer('{"n": 7}' if takes == "response_format" else "Hello!")
        return answer("plain")

    endpoint = Endpoint(script)
    request = replace(HELLO, output_format=OutputFormat("json", '{"type": "object"}'))
    async with started(endpoint) as engine:
        await engine.generate(request)
        await engine.generate(request)
    probes = len(endpoint.bodies) - 2
    assert probes == (1 if found == "vllm" else 2)
    key = {"vllm": "structured_outputs", "json_schema": "response_format"}.get(found)
    for body in endpoint.bodies[-2:]:
        assert {"structured_outputs", "response_format"} & set(body) == ({key} if key else set())


async def test_unix_socket_is_connected_to(tmp_path: Path) -> None:
    endpoint = Endpoint(replies(answer("through a socket")))
    path = str(tmp_path / "s")
    async with serve(endpoint, unix_socket=path):
        engine = make_engine("http://server/v1", unix_socket=path)
        await engine.start()
        (completion,) = await engine.generate(HELLO)
        await engine.close()
    assert completion.text == "through a socket"


async def test_proxy_is_asked_for_the_host_that_base_url_names() -> None:
    """The proxy here answers itself: what counts is that it is asked, for a name that nobody can look up."""
    endpoint = Endpoint(replies(answer("through a proxy")))
    async with serve(endpoint):
        proxy = endpoint.url.removesuffix("/v1")
        engine = make_engine("http://nowhere.invalid/v1", proxy=proxy)
        await engine.start()
        (completion,) = await engine.generate(HELLO)
        await engine.close()
    assert completion.text == "through a proxy"
    assert endpoint.headers[0]["Host"] == "nowhere.invalid"


def make_certificate(directory: Path) -> ssl.SSLContext:
    """Write a certificate of `localhost` that nobody but itself has signed to `cert.pem`; return a server's context."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (directory / "key.pem").write_bytes(pem)
    (directory / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    return context


async def test_own_authority_is_trusted_only_where_it_is_named(tmp_path: Path) -> None:
    context = make_certificate(tmp_path)
    endpoint = Endpoint(replies(answer("safe")))
    async with serve(endpoint, ssl_context=context):
        url = endpoint.url.replace("127.0.0.1", "localhost")
        stranger = make_engine(url)
        with pytest.raises(ConfigError, match=r"CERTIFICATE_VERIFY_FAILED.*; set endpoint.ca_file"):
            await stranger.start()
        await stranger.close()
        engine = make_engine(url, ca_file=str(tmp_path / "cert.pem"))
        await engine.start()
        (completion,) = await engine.generate(HELLO)
        await engine.close()
    assert completion.text == "safe"


async def test_unserved_model_is_one_line_that_names_those_there_are() -> None:
    unknown = failure(404, "no such model")
    models = [{"id": "other", "object": "model"}]
    async with serve(Endpoint(replies(answer()), models=models, serves=lambda: unknown)) as endpoint:
        with pytest.raises(ConfigError, match=r"model\.id=m is not served by http.*; it has other"):
            await make_engine(endpoint.url).start()


async def test_server_that_is_not_there_is_waited_for(clock: Clock) -> None:
    engine = make_engine(f"http://127.0.0.1:{free_port()}/v1", clock)
    with pytest.raises(RunFailedError, match=r"has served nothing for endpoint.outage_s=60 s"):
        await engine.start()
    await engine.close()


async def test_prompt_beyond_the_context_is_a_row() -> None:
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
