"""The echo engine: what it writes, how it judges, how it breaks."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from synthgen.config import EchoConfig, ModelConfig
from synthgen.engines.echo import EchoEngine
from synthgen.engines.echo_judge import ECHO_JUDGES, fill_template
from synthgen.errors import ConfigError, EngineDeadError, RequestError
from synthgen.records import Completion, OutputFormat, Request, RequestFailure, Sampling

RATINGS = ("1", "2", "3", "4", "5")


def make_echo(max_model_len: int | None = None, max_num_seqs: int | None = None, **echo: object) -> EchoEngine:
    config = EchoConfig(**echo)  # type: ignore[arg-type]
    return EchoEngine(
        ModelConfig(
            name="echo",
            id="echo",
            engine="echo",
            max_model_len=max_model_len,
            max_num_seqs=max_num_seqs,
            echo=config,
        )
    )


def make_request(content: str = "How far is the moon?", *, n: int = 1, seed: int = 7, **sampling: object) -> Request:
    return Request("r", [{"role": "user", "content": content}], Sampling(**sampling), n=n, seed=seed)  # type: ignore[arg-type]


def make_judgement(texts: Sequence[str], *, seed: int = 0, template: str | None = None) -> Request:
    if template is None:
        template = "\n".join(f"Rating: {{{slot}}}" for slot in range(len(texts)))
    form = OutputFormat("regex", ".*", RATINGS, template, tuple(texts))
    return replace(make_request(seed=seed), output_format=form)


def drawn_ratings(completion: Completion) -> list[int]:
    return [int(completion.text[entry.start]) for entry in completion.choice_logprobs]


async def test_echo_same_request_gives_the_same_texts() -> None:
    first = await make_echo().generate(make_request(n=4))
    assert first == await make_echo().generate(make_request(n=4))
    assert len({completion.text for completion in first}) == 4


async def test_echo_text_depends_on_messages_and_seed() -> None:
    engine = make_echo()
    base = (await engine.generate(make_request()))[0].text
    assert (await engine.generate(make_request("How far is the sun?")))[0].text != base
    assert (await engine.generate(make_request(seed=8)))[0].text != base


async def test_echo_sample_i_is_sample_0_of_seed_plus_i() -> None:
    engine = make_echo()
    samples = await engine.generate(make_request(n=3, seed=40))
    assert samples[2] == (await engine.generate(make_request(seed=42)))[0]


async def test_echo_counts_words_as_tokens_and_cuts_at_max_tokens() -> None:
    engine = make_echo(output_tokens=50)
    whole = (await engine.generate(make_request("one two  three")))[0]
    cut = (await engine.generate(make_request("one two  three", max_tokens=5)))[0]
    assert whole.prompt_tokens == 3
    assert (whole.finish_reason, whole.output_tokens) == ("stop", len(whole.text.split()))
    assert (cut.finish_reason, cut.output_tokens, len(cut.text.split())) == ("length", 5, 5)


async def test_echo_honours_min_tokens_ignore_eos_and_stop() -> None:
    engine = make_echo(output_tokens=4)
    assert (await engine.generate(make_request(min_tokens=90)))[0].output_tokens == 90
    full = (await engine.generate(make_request(ignore_eos=True, max_tokens=100)))[0]
    assert (full.output_tokens, full.finish_reason) == (100, "length")
    stopped = (await engine.generate(make_request(ignore_eos=True, max_tokens=100, stop=(". ",))))[0]
    assert full.text.startswith(stopped.text)
    assert ". " not in stopped.text
    assert stopped.finish_reason == "stop"


async def test_echo_long_tail_keeps_the_mean_and_has_a_tail() -> None:
    engine = make_echo(output_tokens=40, long_tail=True)
    lengths = [c.output_tokens for c in await engine.generate(make_request(n=4000, max_tokens=10_000))]
    assert 36 < sum(lengths) / len(lengths) < 44
    assert max(lengths) > 300


async def test_echo_takes_hostile_text() -> None:
    text = "\ud800 lone \x00 <|eot_id|> {0} " + "x" * 10**6
    assert (await make_echo().generate(make_request(text)))[0].text


def test_echo_without_speed_never_waits() -> None:
    with pytest.raises(StopIteration) as done:  # a coroutine that waits for nothing ends in its first step
        make_echo().generate(make_request(n=4)).send(None)
    assert len(done.value.value) == 4


async def test_echo_speed_holds_max_num_seqs_sequences_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    active, most, waits = 0, 0, []
    real_sleep = asyncio.sleep

    async def sleep(seconds: float) -> None:
        nonlocal active, most
        active += 1
        most = max(most, active)
        waits.append(seconds)
        await real_sleep(0)
        active -= 1

    monkeypatch.setattr("synthgen.engines.echo.asyncio.sleep", sleep)
    engine = make_echo(max_num_seqs=3, tokens_per_s=100.0)
    answers = await asyncio.gather(*[engine.generate(make_request(str(i), n=4)) for i in range(5)])
    assert most == 3
    assert sorted(waits) == sorted(c.output_tokens / 100 for answer in answers for c in answer)


async def test_echo_poison_kills_the_engine_for_good() -> None:
    engine = make_echo(poison="arsenic")
    assert await engine.generate(make_request())
    for content in ("some arsenic please", "harmless"):
        with pytest.raises(EngineDeadError, match=r"echo\.poison=arsenic"):
            await engine.generate(make_request(content))


async def test_echo_hanging_request_ends_when_the_engine_closes() -> None:
    engine = make_echo(hang="tarpit")
    hanging = asyncio.ensure_future(engine.generate(make_request("a tarpit")))
    assert await engine.generate(make_request())
    assert not hanging.done()
    await engine.close()
    await engine.close()
    with pytest.raises(EngineDeadError, match="closed"):
        await hanging


async def test_echo_fail_start_raises() -> None:
    with pytest.raises(EngineDeadError, match="fail_start"):
        await make_echo(fail_start=True).start()


async def test_echo_info_has_the_configured_limits() -> None:
    info = await make_echo(max_model_len=100, max_num_seqs=5).start()
    assert (info.max_num_seqs, info.context_length) == (5, 100)


async def test_echo_encode_quarantines_long_prompts_in_place() -> None:
    engine = make_echo(max_model_len=5)
    short, long = make_request("one two three four"), make_request("one two three four five")
    encoded = engine.encode([short, long, short])
    assert encoded[0] == encoded[2] == short
    assert isinstance(encoded[1], RequestFailure)
    assert encoded[1].reason == "prompt_too_long"
    assert (await engine.generate(short))[0].output_tokens == 1


def test_echo_unknown_judge_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"echo\.judge=strict .*slot1"):
        make_echo(judge="strict")


async def test_echo_refuses_an_expression_without_a_template() -> None:
    request = replace(make_request(), output_format=OutputFormat("regex", "a+"))
    with pytest.raises(RequestError, match="template"):
        await make_echo().generate(request)


async def test_echo_writes_freely_where_a_format_enforces_nothing() -> None:
    request = replace(make_request(), output_format=OutputFormat("regex", "", RATINGS))
    assert await make_echo().generate(request) == await make_echo().generate(make_request())


class Address(BaseModel):
    street: str = Field(min_length=12, max_length=20)
    kind: Literal["home", "work"]


class Person(BaseModel):
    name: str
    age: int = Field(ge=18, lt=20)
    share: float = Field(gt=0, lt=1)
    addresses: list[Address] = Field(min_length=1, max_length=3)
    friend: Person | None
    tags: list[str]
    happy: bool


async def test_echo_json_fits_its_schema() -> None:
    form = OutputFormat("json", json.dumps(Person.model_json_schema()))
    request = replace(make_request(n=40, max_tokens=10_000), output_format=form)
    answers = await make_echo().generate(request)
    assert len({answer.text for answer in answers}) == 40
    people = [Person.model_validate_json(answer.text) for answer in answers]
    assert any(person.friend for person in people)
    assert not all(person.friend for person in people)
    assert answers == await make_echo().generate(request)


@pytest.mark.parametrize("schema", ["{", '{"type": "planet"}', '{"$ref": "#/$defs/nowhere"}', '{"enum": []}', "7"])
async def test_echo_refuses_a_schema_that_it_cannot_follow(schema: str) -> None:
    request = replace(make_request(), output_format=OutputFormat("json", schema))
    with pytest.raises(RequestError, match="JSON schema"):
        await make_echo().generate(request)


async def test_echo_quality_judge_is_blind_to_order() -> None:
    texts = [f"text {i}" for i in range(6)]
    engine = make_echo(judge="quality")
    forward = drawn_ratings((await engine.generate(make_judgement(texts, seed=1)))[0])
    backward = drawn_ratings((await engine.generate(make_judgement(texts[::-1], seed=2)))[0])
    assert forward == backward[::-1]
    assert len(set(forward)) > 1


async def test_echo_slot1_judge_always_prefers_the_first() -> None:
    texts = [f"text {i}" for i in range(6)]
    for shown in (texts, texts[::-1]):
        ratings = drawn_ratings((await make_echo(judge="slot1").generate(make_judgement(shown)))[0])
        assert ratings[0] == 5
        assert max(ratings[1:]) <= 3


async def test_echo_longer_judge_is_monotone_in_length() -> None:
    texts = ["a" * length for length in (300, 10, 150, 600)]
    judgement = (await make_echo(judge="longer").generate(make_judgement(texts)))[0]
    expected = [sum(int(k) * math.exp(p) for k, p in entry.logprobs.items()) for entry in judgement.choice_logprobs]
    assert sorted(range(4), key=lambda i: expected[i]) == [1, 2, 0, 3]


async def test_echo_random_judge_goes_by_the_seed_and_constant_by_nothing() -> None:
    texts = ["a", "bb", "ccc", "dddd"]
    seen = {
        tuple(drawn_ratings((await make_echo(judge="random").generate(make_judgement(texts, seed=s)))[0]))
        for s in range(9)
    }
    assert len(seen) > 3
    assert drawn_ratings((await make_echo(judge="constant").generate(make_judgement(texts)))[0]) == [3, 3, 3, 3]


async def test_echo_cut_judgement_loses_the_ratings_that_do_not_fit() -> None:
    request = replace(make_judgement(["a", "b", "c"]), sampling=Sampling(max_tokens=4))
    completion = (await make_echo().generate(request))[0]
    assert completion.finish_reason == "length"
    assert len(completion.text.split()) == 4
    assert len(completion.choice_logprobs) == 2


@given(
    rule=st.sampled_from(sorted(ECHO_JUDGES)),
    texts=st.lists(st.text(max_size=30), min_size=1, max_size=8),
    filler=st.lists(st.text(alphabet="ab {}\n3", max_size=12), min_size=9, max_size=9),
    choices=st.sampled_from([RATINGS, (*RATINGS, "N/A"), tuple(str(k) for k in range(11))]),
    seed=st.integers(0, 2**62),
)
def test_fill_template_offsets_point_at_a_likeliest_choice(
    rule: str, texts: list[str], filler: list[str], choices: tuple[str, ...], seed: int
) -> None:
    slots = [filler[k].replace("{", "(") + f"{{{k}}}" for k in range(len(texts))]
    form = OutputFormat("regex", "", choices, "".join(slots) + filler[8].replace("{", "("), tuple(texts))
    text, entries = fill_template(form, rule, seed)
    assert len(entries) == len(texts)
    for entry in entries:
        top = max(entry.logprobs.values())
        likeliest = [choice for choice, logprob in entry.logprobs.items() if logprob == pytest.approx(top)]
        assert any(text.startswith(choice, entry.start) for choice in likeliest)
        assert sum(map(math.exp, entry.logprobs.values())) == pytest.approx(1)


def test_fill_template_leaves_other_braces_alone() -> None:
    form = OutputFormat("json", "", RATINGS, '{"a": {0}, "b": {9}, "c": {}}', ("x",))
    text, entries = fill_template(form, "constant", 0)
    assert text == '{"a": 3, "b": {9}, "c": {}}'
    assert [entry.start for entry in entries] == [6]
