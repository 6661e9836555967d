"""A hostile server as generator and as judge: what comes out, and how many requests are paid, for each of its answers.

A unit has a plain prompt, one at which the server is hostile, and a plain one, and two samples of each. The server is
hostile once (its first answer to that prompt), or always. Time passes only while someone sleeps.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from scripted_endpoint import Broken, Endpoint, Reply, answer, failure, serve

from synthgen.config import EndpointConfig, GeneratorConfig, JudgeConfig, ModelConfig
from synthgen.engines.openai import OpenAIEngine
from synthgen.ledger.run_dir import PROMPTS, RunDir
from synthgen.records import GENERATIONS_SCHEMA, PROMPTS_SCHEMA, UnitCounts
from synthgen.runtime.replica import Replica
from synthgen.runtime.scheduler import Task
from synthgen.stages.base import LLMStage, StageFiles
from synthgen.stages.generate import GenerateStage
from synthgen.stages.judge import JudgeStage
from tests.still_clock import Clock

HOSTILE = "Be hostile."
GOOD = "#### Output for Text 1\nRating: 4\nRationale: fine\n\n#### Output for Text 2\nRating: 2\nRationale: poor"
PAID = {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11}
RETRIES = 2


def ok(choice: dict[str, Any], **more: Any) -> Reply:
    return 200, {"choices": [{"index": 0, **choice}], "usage": PAID, **more}, {}


def said(finish_reason: Any, text: Any = GOOD, **message: Any) -> Reply:
    return ok({"message": {"role": "assistant", "content": text, **message}, "finish_reason": finish_reason})


def usage(value: Any) -> Reply:
    choice = {"message": {"role": "assistant", "content": GOOD}, "finish_reason": "stop"}
    return 200, {"choices": [choice], "usage": value}, {}


def logprobs(value: Any) -> Reply:
    return ok({"message": {"content": GOOD}, "finish_reason": "stop", "logprobs": value})


def refuse(key: str, words: str) -> Callable[[dict[str, Any]], Reply]:
    """A server that does not know a parameter."""
    return lambda body: failure(400, words) if key in body else answer(GOOD)


@dataclass(frozen=True)
class Case:
    """One behaviour.

    Attributes:
        reply: the hostile answer.
        always: the error of a row if the server is always so; empty: there is a row without one.
        tries: requests for the hostile prompt's two samples if it is always so.
        once: the error of the one sample that meets it, if it is so once.
    """

    name: str
    reply: Reply | Broken | Callable[[dict[str, Any]], Reply]
    always: str = ""
    tries: int = 2
    once: str = ""

    def longest_wait_s(self, *, always: bool) -> float:
        """Return what the tries may wait, all samples together: half a second, then a second, and a fifth more."""
        if self.tries != AGAIN and not isinstance(self.reply, Broken):
            return 0.0
        return 1.2 * 2 * (0.5 + 1.0) if always else 1.2 * 2 * 0.5


AGAIN = 2 * (1 + RETRIES)
CASES = [
    # What is taken as it is
    Case("plain", answer(GOOD)),
    Case("usage null", usage(None)),
    Case("usage partial", usage({"prompt_tokens": 5})),
    Case("usage fractional", usage({"prompt_tokens": 5.5, "completion_tokens": 6.25, "total_tokens": 11.75})),
    Case("usage as text", usage({"prompt_tokens": "5", "completion_tokens": "6"})),
    Case("usage of other types", usage([5, 6])),
    Case("usage too large for a column", usage({"prompt_tokens": 2**40, "completion_tokens": 6})),
    Case("content in parts", said("stop", [{"type": "text", "text": GOOD[:20]}, {"type": "text", "text": GOOD[20:]}])),
    Case("thought beside the text", said("stop", reasoning_content="hm")),
    Case("lone surrogate", (200, json.dumps(said("stop", GOOD + "\ud800")[1]).encode(), {})),
    Case("NUL", said("stop", GOOD + "\x00")),
    Case("bytes that are not UTF-8", (200, json.dumps(said("stop")[1]).encode().replace(b"fine", b"f\xff\xfee"), {})),
    Case("empty lines before the answer", (200, b"\n\n\n" + json.dumps(said("stop")[1]).encode(), {})),
    Case("served as HTML", (200, json.dumps(said("stop")[1]), {})),
    Case("logprobs null", logprobs(None)),
    Case("logprobs without top_logprobs", logprobs({"content": [{"token": "4", "logprob": -0.1}]})),
    Case("top_logprobs null", logprobs({"content": [{"token": "4", "logprob": -0.1, "top_logprobs": None}]})),
    Case("logprobs of other types", logprobs([1, 2])),
    Case("several choices", (200, {"choices": [said("stop")[1]["choices"][0]] * 3, "usage": PAID}, {})),
    Case("no role, no index", (200, {"choices": [{"message": {"content": GOOD}, "finish_reason": "stop"}]}, {})),
    Case("legacy text", (200, {"choices": [{"text": GOOD, "finish_reason": "stop"}], "usage": PAID}, {})),
    # Finish reasons
    Case("end_turn", said("end_turn")),
    Case("MAX_TOKENS", said("MAX_TOKENS")),
    Case("max_tokens", said("max_tokens")),
    Case("tool_calls with a text", said("tool_calls")),
    Case("finish_reason null", said(None)),
    Case("finish_reason of a new kind", said("something_new")),
    Case("content_filter", said("content_filter"), "content_filter", 2, "content_filter"),
    Case("filter, no message", ok({"finish_reason": "content_filter"}), "content_filter", 2, "content_filter"),
    Case("SAFETY", said("SAFETY", None), "content_filter", 2, "content_filter"),
    Case("blocked", (200, {"promptFeedback": {"blockReason": "A"}}, {}), "content_filter", 2, "content_filter"),
    Case("refusal field", said("stop", None, refusal="I will not."), "refusal", 2, "refusal"),
    Case("tool_calls without a text", said("tool_calls", None), "tool_calls", 2, "tool_calls"),
    Case("error after half a text", said("error", "half a te"), "server_error", AGAIN),
    Case("out of resources", said("insufficient_system_resource", "half"), "server_error", AGAIN),
    Case("error within the choice", ok({"error": {"code": 502}, "message": {"content": "x"}}), "server_error", AGAIN),
    # No text
    Case("content null", said("stop", None), "no_text", AGAIN),
    Case("content empty", said("stop", ""), "no_text", AGAIN),
    Case("content empty, nothing billed", (200, {"choices": [{"message": {"content": ""}}]}, {}), "no_text", AGAIN),
    Case("thought without an answer", said("stop", "", reasoning="hm"), "no_answer", 2, "no_answer"),
    Case("no choices", (200, {"choices": []}, {}), "no_choices", AGAIN),
    Case("choices null", (200, {"choices": None}, {}), "no_choices", AGAIN),
    Case("choices of other types", (200, {"choices": [None, 7]}, {}), "no_choices", AGAIN),
    # No answer
    Case("empty 200", (200, b"", {}), "bad_answer", AGAIN),
    Case("only empty lines", (200, b"\n\n\n\n", {}), "bad_answer", AGAIN),
    Case("JSON cut off", (200, b'{"choices": [{"message": {"con', {}), "bad_answer", AGAIN),
    Case("HTML", (200, "<html>a proxy's page</html>", {}), "bad_answer", AGAIN),
    Case("a bare list", (200, b"[]", {}), "bad_answer", AGAIN),
    Case("null", (200, b"null", {}), "bad_answer", AGAIN),
    Case("nested without end", (200, b"[" * 100_000, {}), "bad_answer", AGAIN),
    Case("bad gzip", (200, b"\x1f\x8bnot gzip", {"Content-Encoding": "gzip"}), "bad_answer", AGAIN),
    Case("error in a 200", (200, {"error": {"message": "overloaded"}}, {}), "server_error", AGAIN),
    Case("error 503 in a 200", (200, {"error": {"message": "overloaded", "code": 503}}, {}), "server_error", AGAIN),
    Case("reset", Broken("reset"), "lost", AGAIN),
    Case("cut", Broken("cut"), "lost", AGAIN),
    Case("newlines for ever", Broken("drip"), "timeout", 4),
    # Statuses
    Case("400", failure(400, "no"), "refused", 2, "refused"),
    Case("422", (422, {"detail": [{"loc": ["body", "messages"], "msg": "wrong"}]}, {}), "refused", 2, "refused"),
    Case("400 of a filter", failure(400, "content management policy"), "content_filter", 2, "content_filter"),
    Case("401", failure(401, "expired"), "no_access", 2, "no_access"),
    Case("403 of a firewall", (403, "<html>blocked</html>", {}), "no_access", 2, "no_access"),
    Case("403 of a moderation", failure(403, "flagged by moderation"), "content_filter", 2, "content_filter"),
    Case("404", failure(404, "no endpoint for this"), "no_access", 2, "no_access"),
    Case("408", failure(408), "server_error", AGAIN),
    Case("409", failure(409), "server_error", AGAIN),
    Case("425", failure(425), "server_error", AGAIN),
    Case("498", failure(498), "server_error", AGAIN),
    Case("500", failure(500), "server_error", AGAIN),
    Case("500 as HTML", (500, "<html>", {}), "server_error", AGAIN),
    Case("502", failure(502), "server_error", AGAIN),
    Case("503", failure(503), "server_error", AGAIN),
    Case("504", failure(504), "server_error", AGAIN),
    Case("529", failure(529), "server_error", AGAIN),
    Case("a request that no minute has room for", failure(429, "Request too large for m"), "too_large", 2, "too_large"),
    Case("413", (413, b"", {}), "prompt_too_long", 14),
    Case("too long", failure(400, "prompt is too long: 2050 tokens > 2000"), "prompt_too_long", 2, "prompt_too_long"),
    # Parameters
    Case("no seed", refuse("seed", "Unrecognized request argument supplied: seed"), tries=4),
    Case("no temperature", refuse("temperature", "'temperature' does not support 1 with this model"), tries=4),
    Case("no top_p", refuse("top_p", "top_p: Extra inputs are not permitted"), tries=4),
    Case("other name", refuse("max_tokens", "Unsupported: use 'max_completion_tokens' instead"), tries=4),
]  # fmt: skip


class Server(Endpoint):
    """Hostile at one prompt: always, or with its first answer only."""

    def __init__(self, case: Case, *, always: bool) -> None:
        super().__init__(self.reply)
        self.case = case
        self.always = always
        self.hostile = 0
        self.clock = Clock()

    @property
    def waited_s(self) -> float:
        """How long was waited between tries, all samples together."""
        return sum(self.clock.slept)

    def reply(self, _: int, body: dict[str, Any]) -> Reply | Broken:
        if HOSTILE not in str(body["messages"]):
            return answer(GOOD)
        self.hostile += 1
        if not self.always and self.hostile > 1:
            return answer(GOOD)
        return self.case.reply(body) if callable(self.case.reply) else self.case.reply


def make_prompts() -> pa.Table:
    texts = ["A plain question?", HOSTILE, "Another plain question?"]
    rows = [
        {
            "prompt_id": f"p{i}", "messages": [{"role": "user", "content": text}], "source": "s", "source_row": i,
            "metadata": "{}",
        }
        for i, text in enumerate(texts)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=PROMPTS_SCHEMA)


def make_generations() -> pa.Table:
    rows = [
        {
            "prompt_id": f"p{i}", "completion_id": f"main:{k}", "generator": "main", "model": "m", "sample_index": k,
            "seed": k, "text": f"An answer {i} {k}.", "finish_reason": "stop", "output_tokens": 4,
        }
        for i in range(3) for k in range(2)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=GENERATIONS_SCHEMA)


async def run_unit(directory: Path, server: Server, stage: LLMStage) -> tuple[pa.Table, UnitCounts]:
    """Run a stage over the unit as a replica does, and return what it committed."""
    run_dir = RunDir(str(directory))
    run_dir.commit_unit(PROMPTS, 0, make_prompts())
    run_dir.commit_unit("stages/generate-main-0", 0, make_generations(), UnitCounts())
    inputs = {PROMPTS: PROMPTS, "generate-main": "stages/generate-main-0"}
    files = StageFiles(stage, "stages/tested-0", {name: inputs[name] for name in stage.inputs})
    replica = Replica(run_dir, stage.model, {stage.name: files}, None, "r")
    clock = Clock()
    server.clock = clock
    replica._engine = OpenAIEngine(stage.model, clock, clock.sleep)
    await replica.start()
    try:
        counts = await replica.run(Task(stage.name, 0))
    finally:
        await replica.close()
    assert isinstance(counts, UnitCounts)
    assert counts.may_pass or not list(directory.glob("stages/tested-0/journal/*"))
    return run_dir.read_unit("stages/tested-0", 0), counts


def make_model(server: Server) -> ModelConfig:
    timeout_s = 2.0 if server.case.always == "timeout" else 60.0  # short only where it is what ends the request
    endpoint = EndpointConfig(
        base_url=server.url, max_retries=RETRIES, timeout_s=timeout_s, structured_output="none", outage_s=60.0
    )
    return ModelConfig(name="api", id="m", engine="openai", endpoint=endpoint)


@pytest.mark.parametrize("always", [True, False], ids=["always", "once"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_generator_keeps_what_is_paid_for(tmp_path: Path, case: Case, always: bool) -> None:
    async with serve(Server(case, always=always)) as server:
        assert isinstance(server, Server)
        config = GeneratorConfig(model=make_model(server), n=2)
        config.sampling.max_tokens = 64
        table, counts = await run_unit(tmp_path, server, GenerateStage("main", config, run_seed=0))
    errors = table["error"].to_pylist()
    assert errors[:2] + errors[4:] == [None] * 4  # the plain prompts
    if always:
        assert errors[2:4] == [case.always or None] * 2
        assert server.hostile == case.tries
    else:
        assert sorted(errors[2:4], key=str) == sorted([case.once or None, None], key=str)
        assert server.hostile <= 4
    assert server.waited_s <= case.longest_wait_s(always=always)
    assert len(server.bodies) == server.hostile + 4  # no plain sample is asked for twice
    assert all(text is None or text for text in table["text"].to_pylist())
    billed = counts.billed_input_tokens + counts.billed_output_tokens
    known = isinstance(case.reply, tuple) and "usage" in str(case.reply[1])
    if not known:  # where the hostile answers bill nothing of their own, the bill is that of the good ones
        assert billed == server.paid_tokens - 10 * len(server.questions)


@pytest.mark.parametrize("always", [True, False], ids=["always", "once"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_judge_keeps_what_is_paid_for(tmp_path: Path, case: Case, always: bool) -> None:
    async with serve(Server(case, always=always)) as server:
        assert isinstance(server, Server)
        config = JudgeConfig(model=make_model(server), canary_fraction=0.0, max_tokens=64, max_retries=0)
        table, _ = await run_unit(tmp_path, server, JudgeStage(config, ("main",), 0))
    rows = table.to_pylist()
    for row in (rows[0], rows[-1]):
        assert (row["status"], row["error"], row["ratings"]) in [("ok", None, [4, 2]), ("ok", None, [2, 4])]
    halves = rows[1:-1] if len(rows) > 3 else []
    if halves:  # what is too long for two texts is asked again for each of them
        assert case.always == "prompt_too_long"
        assert [row["error"] for row in halves] == [case.always if always else None] * 2
        assert len(server.bodies) == server.hostile + 2
        return
    expected = case.always if always else case.once
    if expected == "no_answer" and not always:
        expected = ""  # a judge's thought is given more room
    if expected:
        assert (rows[1]["status"], rows[1]["error"]) == ("error", expected)
    else:
        assert rows[1]["status"] == "ok"
    assert server.waited_s <= case.longest_wait_s(always=always)
    assert len(server.bodies) == server.hostile + 2


async def test_samples_that_failed_are_described_beside_their_siblings(tmp_path: Path) -> None:
    case = Case("filter", said("content_filter", "half a text"))
    async with serve(Server(case, always=False)) as server:
        assert isinstance(server, Server)
        config = GeneratorConfig(model=make_model(server), n=2)
        await run_unit(tmp_path, server, GenerateStage("main", config, run_seed=0))
    (line,) = (tmp_path / "failures/generate-main/unit-000000.jsonl").read_text().splitlines()
    failed = json.loads(line)
    assert (failed["reason"], failed["request_id"], failed["retryable"]) == ("content_filter", "p1", False)
    assert failed["sample_index"] in (0, 1)
    assert "half a text" in failed["raw"]


async def test_finished_samples_survive_the_death_of_their_task(tmp_path: Path) -> None:
    """The credit ends in the middle of a unit: the next start pays for what is missing, and for nothing else."""
    case = Case("credit", failure(402, "no credit"))
    async with serve(Server(case, always=True)) as server:
        assert isinstance(server, Server)
        config = GeneratorConfig(model=make_model(server), n=2)
        stage = GenerateStage("main", config, run_seed=0)
        with pytest.raises(Exception, match="no credit"):
            await run_unit(tmp_path, server, stage)
        paid = len(server.bodies) - server.hostile
        assert list(tmp_path.glob("stages/tested-0/journal/*"))
        server.case = replace(case, reply=answer(GOOD))
        table, counts = await run_unit(tmp_path, server, stage)
    assert table["error"].to_pylist() == [None] * 6
    asked = len([body for body in server.bodies if HOSTILE not in str(body["messages"])])
    assert asked == 4
    assert paid > 0
    assert counts.billed_requests == 6
