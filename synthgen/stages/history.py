"""The turns before the last: one generator answers the user turns that nobody has answered, one after the other.

A conversation has an **open turn** where a user turn is followed by another user turn. `HistoryStage` fills them with
the generator's own answers (one sample each), so that every completion of the last turn, whoever writes it, stands
behind the same conversation: only then can two of them be a pair. All later stages are put into `Continued`, which
shows them the conversations as they were filled; they know nothing of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config import Config, GeneratorConfig, GeneratorTurns, ModelConfig
from synthgen.config.stage_names import HISTORY
from synthgen.records import (
    HISTORY_SCHEMA,
    WHOLE_FINISH_REASONS,
    Completion,
    Message,
    Messages,
    Outcome,
    Request,
    RequestFailure,
    Tables,
    fill_turns,
    find_open_turn,
    list_conversations,
    list_tools,
    make_prompt_id,
    make_seed,
    sampling_fields,
)
from synthgen.stages.base import LLMStage
from synthgen.stages.generate import GENERATE_PRIORITY, fit_seed, to_sampling

REST, GIVEN = "rest", "given"
"""Tags of a request: the turns that come behind its last one, and the answers that it was given so far, as JSON."""


class HistoryStage:
    """The LLM stage that answers the turns before the last (see synthgen.stages.base.LLMStage)."""

    name = HISTORY
    kind = None
    inputs: tuple[str, ...] = ("prompts",)
    priority = GENERATE_PRIORITY
    schema = HISTORY_SCHEMA
    prompt_parts = ("messages",)
    sequences_per_prompt = 1

    def __init__(self, generator: str, config: GeneratorConfig, *, run_seed: int) -> None:
        self.generator = generator
        self.config = config
        self.run_seed = run_seed

    @property
    def model(self) -> ModelConfig:
        """The generator's model."""
        return self.config.model

    @property
    def max_tokens(self) -> int:
        """Most tokens of one answer, its thought counted."""
        return to_sampling(self.config.sampling).most_tokens

    def fingerprint_fields(self) -> Mapping[str, Any]:
        """Return what changes the answers, the model left out; `n` and principles are of the last turn alone."""
        adapter = self.config.adapter
        return {
            **({} if adapter is None else {"adapter": self.config.model.adapters[adapter]}),
            "generator": self.generator,
            "sampling": sampling_fields(self.config.sampling),
            "system_prompt": self.config.system_prompt,
            "seed": self.run_seed,
        }

    def prepare(self, tables: Tables) -> list[Request]:
        """Return a request for the first open turn of each prompt that has one, in the order of the unit."""
        prompts = tables["prompts"]
        columns = (prompts["prompt_id"].to_pylist(), list_conversations(prompts), list_tools(prompts))
        requests = []
        for prompt_id, messages, tools in zip(*columns, strict=True):
            place = find_open_turn(messages)
            if place is None:
                continue
            first = Request(
                request_id=prompt_id,
                messages=[],
                sampling=to_sampling(self.config.sampling),
                priority=self.priority,
                adapter=self.config.adapter,
                tools=tools,
            )
            requests.append(self._ask(first, messages[: place + 1], messages[place + 1 :], []))
        return requests

    def follow_up(self, request: Request, completions: Sequence[Completion]) -> Request | None:
        """Return the request for the next open turn, with the answer to this one before it; None: there is none, or
        what was answered is no turn of a conversation."""
        if _find_fault(completions[0]) is not None:
            return None
        rest = cast(list[Message], json.loads(request.tags[REST]))
        place = find_open_turn(rest)
        if place is None:
            return None
        answer = Message(role="assistant", content=completions[0].text)
        given = [*json.loads(request.tags[GIVEN]), completions[0].text]
        return replace(
            self._ask(request, [*request.messages, answer, *rest[: place + 1]], rest[place + 1 :], given),
            attempt=request.attempt + 1,
            prompt_token_ids=None,
        )

    def collect(self, tables: Tables, requests: Sequence[Request], outcomes: Sequence[Outcome]) -> pa.Table:
        """Return HISTORY_SCHEMA rows: one per prompt, in the order of the unit. A turn that could not be answered gives
        the row its reason, and what was answered before it."""
        ended = {request.request_id: (request, outcome) for request, outcome in zip(requests, outcomes, strict=True)}
        rows = []
        for prompt_id in tables["prompts"]["prompt_id"].to_pylist():
            row: dict[str, Any] = {"prompt_id": prompt_id, "model": self.model.id, "answers": [], "error": None}
            if prompt_id in ended:
                request, outcome = ended[prompt_id]
                row["answers"] = json.loads(request.tags[GIVEN])
                sample = outcome if isinstance(outcome, RequestFailure) else outcome[0]
                row["error"] = sample.reason if isinstance(sample, RequestFailure) else _find_fault(sample)
                if isinstance(sample, Completion) and row["error"] is None:
                    row["answers"].append(sample.text)
            rows.append(row)
        return pa.Table.from_pylist(rows, schema=self.schema)

    def measure(self, units: Iterable[Tables], upstream: Mapping[str, LLMStage]) -> Mapping[str, Any]:
        """Return how many turns were answered so, in how many prompts, and in how many one could not be."""
        prompts = turns = failed = 0
        for tables in units:
            table = tables[self.name]
            answered = pc.list_value_length(table["answers"])
            turns += pc.sum(answered).as_py() or 0
            bad = pc.is_valid(table["error"])
            failed += pc.sum(bad).as_py() or 0
            prompts += pc.sum(pc.or_(bad, pc.greater(answered, 0))).as_py() or 0
        found = {"generator": self.generator, "prompts": prompts, "turns": turns, "failed_prompts": failed}
        return {"history": found}

    def _ask(self, request: Request, messages: Messages, rest: Messages, given: Sequence[str]) -> Request:
        """The request with a conversation whose last turn is to be answered. The seed is the conversation's: prompts
        that begin alike (`prompts.turns=each`) are answered alike."""
        seed = make_seed(self.run_seed, "turn", self.generator, make_prompt_id(messages, request.tools))
        said = self.config.system_prompt
        if said is not None and messages[0]["role"] != "system":
            messages = [Message(role="system", content=said), *messages]
        tags = {REST: json.dumps(list(rest)), GIVEN: json.dumps(list(given))}
        return replace(request, messages=list(messages), seed=fit_seed(seed, self.model, 1), tags=tags)


def _find_fault(completion: Completion) -> str | None:
    """Why an answer cannot be a turn before others; None: it can. One that a limit cut off can."""
    if completion.fault is not None:
        return completion.fault
    if completion.tool_calls or completion.bad_call is not None:
        return "calls_a_tool"  # which nobody answers
    if completion.finish_reason not in WHOLE_FINISH_REASONS:
        return "unfinished_turn"
    return None if completion.text.strip() else "empty_turn"


class Continued:
    """A stage that is shown the conversations with their open turns filled, and not those where one could not be.

    All else is the stage's own, what it need not have too.
    """

    def __init__(self, stage: LLMStage) -> None:
        self.stage = stage
        self.name = stage.name
        self.priority = stage.priority
        self.schema = stage.schema
        self.inputs: tuple[str, ...] = (*stage.inputs, HISTORY)

    @property
    def model(self) -> ModelConfig:
        """The stage's model."""
        return self.stage.model

    @property
    def sequences_per_prompt(self) -> int:
        """The stage's."""
        return self.stage.sequences_per_prompt

    def fingerprint_fields(self) -> Mapping[str, Any]:
        """Return the stage's; that it reads the history says the fingerprint of the table."""
        return self.stage.fingerprint_fields()

    def prepare(self, tables: Tables) -> list[Request]:
        """Return the stage's requests of the conversations as they were filled."""
        return self.stage.prepare(_show_filled(tables))

    def follow_up(self, request: Request, completions: Sequence[Completion]) -> Request | None:
        """Return what the stage does."""
        return self.stage.follow_up(request, completions)

    def collect(self, tables: Tables, requests: Sequence[Request], outcomes: Sequence[Outcome]) -> pa.Table:
        """Return the stage's rows; prompts with a turn that could not be answered have none."""
        return self.stage.collect(_show_filled(tables), requests, outcomes)

    def __getattr__(self, name: str) -> Any:
        if name == "stage" or name.startswith("__"):  # before it is unpickled
            raise AttributeError(name)
        return getattr(self.stage, name)


def continue_turns(config: Config, stages: Sequence[LLMStage]) -> list[LLMStage]:
    """Return a flow's stages as they are, or, where a generator has `turns=all`, behind a stage that fills the turns
    before the last."""
    name = next((name for name, one in config.generators.items() if one.turns is GeneratorTurns.all), None)
    if name is None:
        return list(stages)
    history = HistoryStage(name, config.generators[name], run_seed=config.run.seed)
    return [history, *[Continued(stage) for stage in stages]]


def unwrap(stage: LLMStage) -> LLMStage:
    """Return the stage itself, of one that is shown filled conversations."""
    return stage.stage if isinstance(stage, Continued) else stage


def _show_filled(tables: Tables) -> Tables:
    """Return the tables without the history, with the conversations as it filled them, of the prompts that it could."""
    history = tables[HISTORY]
    others = {name: table for name, table in tables.items() if name != HISTORY}
    others["prompts"] = fill_turns(others["prompts"], history)
    failed = history.filter(pc.is_valid(history["error"]))["prompt_id"]
    if not len(failed):
        return others
    ids = failed.combine_chunks()
    return {name: table.filter(pc.invert(pc.is_in(table["prompt_id"], ids))) for name, table in others.items()}
