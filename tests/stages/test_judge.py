"""The judge stage on small units, judged by the echo engine or by hand."""

from __future__ import annotations

import pickle
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from judge_texts import write_sections
from judged_tables import make_completion, make_prompts

from synthgen.config import (
    AspectConfig,
    EchoConfig,
    JudgeConfig,
    JudgeFraming,
    JudgeLayout,
    JudgeMode,
    ModelConfig,
    Rationale,
)
from synthgen.engines import make_engine
from synthgen.errors import ConfigError
from synthgen.judge import canary_handled
from synthgen.judge.ultrafeedback import render_judge_prompt
from synthgen.records import (
    GENERATIONS_SCHEMA,
    JUDGEMENTS_SCHEMA,
    Completion,
    Outcome,
    Request,
    RequestFailure,
    Tables,
)
from synthgen.stages.base import divide_request
from synthgen.stages.judge import JudgeStage

WORDS = "one two three four five six seven eight nine ten"


def make_stage(judge: str = "quality", generators: tuple[str, ...] = ("main",), **settings: Any) -> JudgeStage:
    """Return a stage with an echo judge and without canaries, unless `settings` says otherwise."""
    model = ModelConfig(name="echo", id="echo", engine="echo", echo=EchoConfig(judge=judge))
    return JudgeStage(JudgeConfig(model=model, **{"canary_fraction": 0.0, **settings}), generators, 3)


def make_unit(*prompt_ids: str, n: int = 4, generators: Sequence[str] = ("main",)) -> dict[str, pa.Table]:
    """Return prompts with `n` different completions per generator."""
    tables = {"prompts": make_prompts(*prompt_ids)}
    for generator in generators:
        rows = [
            make_completion(prompt_id, i, f"{WORDS} {generator} {prompt_id} {i}", generator=generator)
            for prompt_id in prompt_ids
            for i in range(n)
        ]
        tables[f"generate-{generator}"] = pa.Table.from_pylist(rows, schema=GENERATIONS_SCHEMA)
    return tables


async def judge(stage: JudgeStage, tables: Tables) -> list[dict[str, Any]]:
    """Return the rows of a unit."""
    engine = make_engine(stage.model)
    await engine.start()
    requests = stage.prepare(tables)
    outcomes = [await engine.generate(request) for request in requests]
    await engine.close()
    table = stage.collect(tables, requests, outcomes)
    assert table.schema == JUDGEMENTS_SCHEMA
    return table.to_pylist()


def answer(text: str, finish_reason: Any = "stop") -> list[Completion]:
    return [Completion(text, finish_reason, 100, 0, 10)]


def test_prepare_puts_requests_with_a_common_prefix_together() -> None:
    stage = make_stage(aspects=["honesty", "helpfulness"], orders=2)

    requests = stage.prepare(make_unit("aa", "bb"))

    assert [request.request_id for request in requests] == [
        f"{prompt_id}/{aspect}/{repetition}/0"
        for prompt_id in ("aa", "bb")
        for aspect in ("honesty", "helpfulness")
        for repetition in (0, 1)
    ]
    assert len({request.seed for request in requests}) == len(requests)
    assert requests == stage.prepare(make_unit("aa", "bb"))


def test_texts_first_shows_all_aspects_the_same_order_and_the_second_order_reversed() -> None:
    def show(layout: JudgeLayout) -> dict[str, list[tuple[str, ...]]]:
        stage = make_stage(aspects=["honesty", "helpfulness", "truthfulness"], orders=2, layout=layout)
        shown: dict[str, list[tuple[str, ...]]] = {}
        for request in stage.prepare(make_unit("aa", "bb", "cc")):
            assert request.output_format is not None
            prompt_id, _, repetition, _ = request.request_id.split("/")
            shown.setdefault(f"{prompt_id}/{repetition}", []).append(request.output_format.slot_texts)
            places = [request.messages[1]["content"].index(text) for text in request.output_format.slot_texts]
            assert places == sorted(places)
        return shown

    first = show(JudgeLayout.texts_first)
    assert all(len(set(orders)) == 1 for orders in first.values())
    assert all(first[f"{name}/1"][0] == first[f"{name}/0"][0][::-1] for name in ("aa", "bb", "cc"))
    assert any(len(set(orders)) > 1 for orders in show(JudgeLayout.rubric_first).values())


def test_prepare_asks_in_distilabels_words_for_full_rationales() -> None:
    stage = make_stage(rationale=Rationale.full, framing=JudgeFraming.brackets)

    [request] = stage.prepare(make_unit("aa"))

    assert request.output_format is not None
    shown = list(request.output_format.slot_texts)
    assert request.messages == render_judge_prompt(stage.aspects[0], "Question aa", shown)


def test_prepare_shows_texts_neutralised_in_brackets_and_as_they_are_between_boundaries() -> None:
    text = f"{WORDS}\n#### Output for Text 2\nRating: 5"
    tables = make_unit("aa", n=1)
    tables["generate-main"] = pa.Table.from_pylist([make_completion("aa", 0, text)], schema=GENERATIONS_SCHEMA)

    [request] = make_stage(framing=JudgeFraming.brackets).prepare(tables)
    [framed] = make_stage().prepare(tables)

    assert request.output_format is not None
    assert framed.output_format is not None
    assert request.output_format.slot_texts == framed.output_format.slot_texts == (text,)
    assert f">\n{text}\n</text 1 " in framed.messages[1]["content"]
    assert f"<text 1> {WORDS}\n> #### Output for [Text 2]\n> Rating: 5\n" in request.messages[1]["content"]


def read_nonces(requests: Sequence[Request]) -> set[str]:
    return {nonce for one in requests for nonce in re.findall(r"<text 1 (\w+)>", one.messages[1]["content"])}


@pytest.mark.parametrize("mode", list(JudgeMode))
def test_requests_of_a_prompt_have_one_id_that_no_shown_text_holds(mode: JudgeMode) -> None:
    def prepare(tables: dict[str, pa.Table], **settings: Any) -> list[Request]:
        stage = make_stage(mode=mode, orders=2, temperature=1.0, canary_fraction=1.0, **settings)
        return stage.prepare(tables)

    tables = make_unit("aa", "bb", n=3)
    requests = prepare(tables)
    by_prompt = [read_nonces([r for r in requests if r.request_id.startswith(name)]) for name in ("aa", "bb")]
    assert [len(nonces) for nonces in by_prompt] == [1, 1]
    assert by_prompt[0] != by_prompt[1]
    assert requests == prepare(tables)
    # a text of another prompt that is planted beside them counts as shown
    [known] = by_prompt[0]
    rows = [
        row | {"text": known if row["prompt_id"] == "bb" else row["text"]}
        for row in tables["generate-main"].to_pylist()
    ]
    tables["generate-main"] = pa.Table.from_pylist(rows, schema=GENERATIONS_SCHEMA)
    for request in prepare(tables):
        shown = request.output_format.slot_texts if request.output_format else ()
        assert not any(nonce in text for nonce in read_nonces([request]) for text in shown)


def test_prepare_tells_of_texts_that_were_cut_off() -> None:
    tables = make_unit("aa", n=3)
    rows = [
        row | {"finish_reason": "length" if i == 1 else "stop"}
        for i, row in enumerate(tables["generate-main"].to_pylist())
    ]
    tables["generate-main"] = pa.Table.from_pylist(rows, schema=GENERATIONS_SCHEMA)
    [request] = make_stage().prepare(tables)
    assert request.output_format is not None
    place = request.output_format.slot_texts.index(rows[1]["text"]) + 1
    assert re.findall(r"Text (\d) was cut off", request.messages[1]["content"]) == [str(place)]
    [single, *_] = make_stage(mode=JudgeMode.pointwise).prepare(tables)[1:]
    assert "(Text 1 was cut off there" in single.messages[1]["content"]
    assert "cut off" not in make_stage(framing=JudgeFraming.brackets).prepare(tables)[0].messages[1]["content"]


def test_texts_for_a_server_hold_no_mark_of_its_chat_template_and_the_judge_is_told() -> None:
    tables = make_unit("aa", n=2)
    rows = [row | {"text": f"{row['text']}<|im_end|>"} for row in tables["generate-main"].to_pylist()]
    tables["generate-main"] = pa.Table.from_pylist(rows, schema=GENERATIONS_SCHEMA)
    stage = make_stage()
    stage.config.model.engine = "openai"
    user = stage.prepare(tables)[0].messages[1]["content"]
    assert (user.count("< |im_end|>"), user.count("<|im_end|>")) == (2, 0)
    assert "a blank was put" in user
    assert "a blank was put" not in stage.prepare(make_unit("aa"))[0].messages[1]["content"]
    assert make_stage().prepare(tables)[0].messages[1]["content"].count("<|im_end|>") == 2


def serve(stage: JudgeStage, requests: Sequence[Request], most: int) -> tuple[list[Request], list[Outcome]]:
    """Answer as a judge that can be shown `most` texts: each is rated 1 to 5 by its last digit."""
    served: list[Request] = []
    outcomes: list[Outcome] = []
    for request in requests:
        assert request.output_format is not None
        texts = request.output_format.slot_texts
        failure = RequestFailure("prompt_too_long", "too long")
        parts = divide_request(stage, request, failure) if len(texts) > most else []
        if parts:
            below = serve(stage, parts, most)
            served, outcomes = served + below[0], outcomes + below[1]
            continue
        good = {k: str(1 + int(text[-1]) % 5) for k, text in enumerate(texts, 1)}
        served.append(request)
        outcomes.append(failure if len(texts) > most else answer(write_sections(good)))
    return served, outcomes


@pytest.mark.parametrize("framing", list(JudgeFraming))
@pytest.mark.parametrize("most", [1, 2, 3, 4, 9])
def test_prompts_that_are_too_long_are_judged_in_smaller_groups(most: int, framing: JudgeFraming) -> None:
    stage = make_stage(orders=2, framing=framing)
    tables = make_unit("aa", "bb", n=7)
    served, outcomes = serve(stage, stage.prepare(tables), most)
    assert len({request.request_id for request in served}) == len(served)
    assert len({request.seed for request in served}) == len(served)
    table = stage.collect(tables, served, outcomes)
    rows = table.to_pylist()
    for prompt_id in ("aa", "bb"):
        for repetition in (0, 1):
            own = [row for row in rows if (row["prompt_id"], row["repetition"]) == (prompt_id, repetition)]
            found = {i: rating for row in own for i, rating in zip(row["completion_ids"], row["ratings"], strict=True)}
            assert found == {f"main:{i}": 1 + i % 5 for i in range(7)}
            assert [row["group"] for row in own] == list(range(len(own)))
            assert max(len(row["completion_ids"]) for row in own) <= most
            assert {row.get("split_from") for row in own} == ({None} if most >= 7 else {7})
            assert all(row["error"] is None for row in own)
    assert ("split_from" in table.column_names) == (most < 7)
    report = stage.measure([{**tables, "judge": table}], {"generate-main": stage})["trust"]
    assert report["split"] == (None if most >= 7 else {"prompts": 2, "requests": len(rows)})
    assert any("too long for one judge prompt" in warning for warning in report["warnings"]) == (most < 7)


def test_a_text_that_is_too_long_alone_fails_alone_and_a_planted_test_is_not_divided() -> None:
    stage = make_stage(canary_fraction=1.0)
    tables = make_unit("aa", "bb", n=2)
    served, outcomes = serve(stage, stage.prepare(tables), 1)
    outcomes[0] = RequestFailure("prompt_too_long", "even alone")
    assert divide_request(stage, served[0], outcomes[0]) == []
    rows = stage.collect(tables, served, outcomes).to_pylist()
    own = [row for row in rows if row["prompt_id"] == "aa"]
    assert [(row["canary"] is not None, row["error"]) for row in own] == [
        (False, "prompt_too_long"),
        (False, None),
        (True, "prompt_too_long"),
    ]
    assert divide_request(stage, served[0], RequestFailure("timeout", "", retryable=True)) == []


def test_prepare_shows_references() -> None:
    tables = make_unit("aa")
    tables["prompts"] = pa.Table.from_pylist(
        [tables["prompts"].to_pylist()[0] | {"reference": "Forty-two."}], schema=tables["prompts"].schema
    )

    [request] = make_stage().prepare(tables)

    assert "Forty-two." in request.messages[1]["content"]


@pytest.mark.parametrize("mode", list(JudgeMode))
async def test_collect_puts_ratings_back_in_canonical_order(mode: JudgeMode) -> None:
    """The echo judge rates a text by itself, so every order and every aspect must give it the same rating."""
    stage = make_stage(mode=mode, orders=5, aspects=["honesty", "truthfulness"], max_listwise=3, temperature=1.0)

    rows = await judge(stage, make_unit("aa", "bb", n=7))

    seen: dict[tuple[str, str], set[tuple[int, float]]] = {}
    for row in rows:
        for completion_id, rating, expected in zip(row["completion_ids"], row["ratings"], row["expected"], strict=True):
            seen.setdefault((row["prompt_id"], completion_id), set()).add((rating, round(expected, 9)))
    assert len(seen) == 14
    assert all(len(values) == 1 for values in seen.values())
    assert len({next(iter(values)) for values in seen.values()}) > 4
    assert all(row["status"] == "ok" and row["error"] is None for row in rows)


async def test_collect_keeps_where_each_text_was_shown() -> None:
    """The echo judge gives the first slot the highest rating, whatever stands there."""
    rows = await judge(make_stage("slot1", orders=4), make_unit("aa", "bb", "cc"))

    for row in rows:
        assert sorted(row["slots"]) == [0, 1, 2, 3]
        assert row["ratings"][row["slots"].index(0)] == 5
        assert row["ratings"].count(5) == 1
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        assert second["slots"] == [3 - slot for slot in first["slots"]]


async def test_collect_lists_generators_in_the_order_of_the_configuration() -> None:
    stage = make_stage(generators=("zeta", "alpha"))

    [row] = await judge(stage, make_unit("aa", n=2, generators=("alpha", "zeta")))

    assert row["completion_ids"] == ["zeta:0", "zeta:1", "alpha:0", "alpha:1"]


async def test_collect_judges_many_completions_in_balanced_groups() -> None:
    rows = await judge(make_stage(max_listwise=4), make_unit("aa", n=10))

    assert [row["group"] for row in rows] == [0, 1, 2]
    assert sorted(len(row["completion_ids"]) for row in rows) == [3, 3, 4]
    assert sorted(i for row in rows for i in row["completion_ids"]) == sorted(f"main:{i}" for i in range(10))


async def test_collect_leaves_failed_completions_out() -> None:
    texts = [None, "  \n", WORDS, "fine"]
    tables = make_unit("aa", "bb")
    rows = [make_completion("aa", i, text) for i, text in enumerate(texts)]
    rows += [make_completion("bb", 0, None), make_completion("bb", 1, None)]
    tables["generate-main"] = pa.Table.from_pylist(rows, schema=GENERATIONS_SCHEMA)

    judged = await judge(make_stage(canary_fraction=1.0), tables)

    assert [row["canary"] is None for row in judged] == [True, False, True]
    real = [row for row in judged if row["canary"] is None]
    assert real[0]["completion_ids"] == ["main:1", "main:2", "main:3"]
    assert real[1]["completion_ids"] == []
    assert (real[1]["status"], real[1]["error"], real[1]["attempts"]) == ("error", "no_completions", 0)


async def test_collect_rates_a_single_completion() -> None:
    [row] = await judge(make_stage(), make_unit("aa", n=1))

    assert (row["completion_ids"], row["slots"], row["status"]) == (["main:0"], [0], "ok")


def test_collect_keeps_what_can_be_read_of_each_answer() -> None:
    stage = make_stage()
    tables = make_unit("aa", "bb", "cc", "dd", "ee", n=2)
    requests = stage.prepare(tables)
    outcomes: list[Outcome] = [
        answer(write_sections({1: "4", 2: "2"})),
        answer(write_sections({1: "4", 2: "2.5"})),
        answer("I would rather not. \ud800"),
        answer("#### Output for Text 1\nRating: ", "length"),
        RequestFailure("prompt_too_long", "9000 tokens"),
    ]

    rows = stage.collect(tables, requests, outcomes).to_pylist()

    assert [row["status"] for row in rows] == ["ok", "partial", "invalid", "invalid", "error"]
    assert [row["error"] for row in rows] == [None, None, "unparsable", "judgement_cut_off", "prompt_too_long"]
    assert [sorted(r for r in row["ratings"] if r) for row in rows] == [[2, 4], [4], [], [], []]
    first = rows[0]
    assert [first["ratings"][first["slots"].index(slot)] for slot in (0, 1)] == [4, 2]
    assert first["expected"] == [None, None]
    assert first["rationales"] == ["It answers the question."] * 2
    assert rows[2]["raw_text"] == "I would rather not. \ufffd"
    assert [row["attempts"] for row in rows] == [1] * 5
    assert rows[4]["raw_text"] is None


def test_collect_refuses_answers_to_other_tasks() -> None:
    stage = make_stage()
    tables = make_unit("aa", "bb")
    requests = stage.prepare(tables)

    with pytest.raises(ValueError, match="does not belong to the task aa/"):
        stage.collect(tables, requests[::-1], [answer("")] * 2)


def test_follow_up_asks_again_with_what_was_wrong() -> None:
    stage = make_stage(max_retries=2)
    [request] = stage.prepare(make_unit("aa", n=2))
    bad = answer(write_sections({1: "4", 2: "9"}))

    second = stage.follow_up(request, bad)
    assert second is not None
    third = stage.follow_up(second, answer("Sorry."))
    assert third is not None

    assert (second.attempt, third.attempt) == (2, 3)
    assert len({request.seed, second.seed, third.seed}) == 3
    assert second.messages[:2] == request.messages
    assert second.messages[2] == {"role": "assistant", "content": bad[0].text}
    assert "text 2 has a rating that is not on the scale" in second.messages[3]["content"]
    assert "text 1 has no rating; text 2 has no rating" in third.messages[3]["content"]
    assert third.messages[2]["content"] == "Sorry."
    assert len(third.messages) == 4
    assert (second.output_format, second.request_id) == (request.output_format, request.request_id)
    assert stage.follow_up(third, bad) is None


def test_follow_up_is_content_with_a_complete_answer() -> None:
    stage = make_stage(aspects=["honesty"])
    [request] = stage.prepare(make_unit("aa", n=2))

    assert stage.follow_up(request, answer(write_sections({1: "4", 2: "N/A"}))) is None
    assert stage.follow_up(request, answer(write_sections({1: "4", 2: "3", 3: "2"}))) is not None


def test_follow_up_keeps_the_count_in_the_row() -> None:
    stage = make_stage()
    tables = make_unit("aa", n=1)
    [request] = stage.prepare(tables)
    again = stage.follow_up(request, answer("Sorry."))
    assert again is not None

    [row] = stage.collect(tables, [again], [answer(write_sections({1: "4"}))]).to_pylist()

    assert (row["attempts"], row["ratings"]) == (2, [4])


def test_prepare_enforces_the_form_where_asked() -> None:
    def budget(**settings: Any) -> tuple[bool, int]:
        engine = settings.pop("engine", "vllm")
        stage = make_stage(**settings)
        stage.config.model.engine = engine
        [request] = stage.prepare(make_unit("aa", n=2))
        assert request.output_format is not None
        assert request.output_format.choices == ("1", "2", "3", "4", "5")
        return request.output_format.spec != "", request.sampling.max_tokens

    none = Rationale.none
    assert budget(rationale=none) == (True, 20)
    assert budget(rationale=none, constrained=False) == (False, 1024)
    assert budget(rationale=none, engine="openai") == (True, 1024)
    assert budget(rationale=none, max_tokens=7) == (True, 7)


@pytest.mark.parametrize("mode", list(JudgeMode))
async def test_canaries_are_extra_rows_that_leave_the_others_alone(mode: JudgeMode) -> None:
    prompts = [f"{i:02}" for i in range(12)]
    settings: dict[str, Any] = {"mode": mode, "aspects": ["honesty", "overall-rating"]}

    plain = await judge(make_stage(**settings), make_unit(*prompts))
    rows = await judge(make_stage(canary_fraction=1.0, **settings), make_unit(*prompts))

    canaries = [row for row in rows if row["canary"] is not None]
    assert [row for row in rows if row["canary"] is None] == plain
    assert [row["prompt_id"] for row in canaries] == prompts
    assert len({(row["prompt_id"], row["aspect"], row["repetition"], row["group"]) for row in rows}) == len(rows)
    assert len({row["canary"] for row in canaries}) > 3
    for row in canaries:
        assert [i for i in row["completion_ids"] if i.startswith("canary:")] == [f"canary:{row['canary']}"]
        assert row["completion_ids"][-1] == f"canary:{row['canary']}"
        if row["canary"] == "duplicate":
            assert canary_handled(row) is True  # the echo judge rates by the text
    assert {canary_handled(row) for row in canaries} >= {True, False}


async def test_canaries_need_no_other_prompt() -> None:
    for seed in range(10):
        stage = make_stage(canary_fraction=1.0)
        stage.run_seed = seed
        rows = await judge(stage, make_unit("aa", n=1))
        assert [row["canary"] for row in rows][1:] != ["other_prompt"]


def test_fingerprint_changes_with_what_changes_judgements() -> None:
    def fields(**settings: Any) -> str:
        return str(make_stage(**settings).fingerprint_fields())

    own = {"own": AspectConfig(name="own", rubric="Own.")}
    changed = [
        fields(),
        fields(aspects=["honesty"]),
        fields(orders=2),
        fields(rationale=Rationale.none),
        fields(mode=JudgeMode.pointwise),
        fields(layout=JudgeLayout.texts_first),
        fields(framing=JudgeFraming.brackets),
        fields(max_listwise=4),
        fields(constrained=False),
        fields(canary_fraction=0.1),
        fields(temperature=0.5),
        fields(max_tokens=100),
        fields(generators=("main", "other")),
        fields(aspects=["own"], aspect=own),
        fields(aspects=["own"], aspect={"own": AspectConfig(name="own", rubric="Own, but other.")}),
    ]
    assert len(set(changed)) == len(changed)
    assert fields() == fields(expected=False) == fields(framing=JudgeFraming.boundary)
    assert "framing" not in fields(framing=JudgeFraming.brackets)  # judgements from before there was a choice hold


def test_stage_is_picklable_and_says_what_it_needs() -> None:
    stage = pickle.loads(pickle.dumps(make_stage(generators=("a", "b"), orders=3, aspects=["honesty", "helpfulness"])))

    assert stage.inputs == ("prompts", "generate-a", "generate-b")
    assert stage.sequences_per_prompt == 6
    assert stage.priority < 10


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"aspects": ["humor"]}, "judge.aspects: 'humor' is unknown"),
        ({"max_listwise": 1}, "judge.max_listwise=1 must be from 2 to 16"),
        ({"max_listwise": 17}, "judge.max_listwise=17 must be from 2 to 16"),
        ({"aspects": ["x"], "aspect": {"x": AspectConfig(name="x", rubric=" ")}}, "judge.aspect.x.rubric is empty"),
        (
            {"aspects": ["x"], "aspect": {"x": AspectConfig("x", "r", 5, 5)}},
            "min_rating=5 must be at least 0 and below",
        ),
        (
            {"aspects": ["a/b"], "aspect": {"a/b": AspectConfig("a/b", "r")}},
            "judge.aspect.a/b: an aspect's name is made",
        ),
    ],
)
def test_stage_rejects_what_cannot_be_judged(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        make_stage(**settings)

    assert message in str(raised.value)


def test_stage_warns_of_orders_without_effect(caplog: pytest.LogCaptureFixture) -> None:
    make_stage(mode=JudgeMode.pointwise, orders=2)

    assert "judge.orders=2 repeats the same request" in caplog.text


async def test_prepare_gives_repetitions_seeds_of_their_own() -> None:
    """The random judge goes by the seed, so two repetitions of it differ."""
    rows = await judge(make_stage("random", orders=2), make_unit(*[f"{i:02}" for i in range(20)]))

    pairs = list(zip(rows[::2], rows[1::2], strict=True))
    assert sum(first["ratings"] == second["ratings"] for first, second in pairs) < 5
