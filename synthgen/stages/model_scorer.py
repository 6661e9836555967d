"""What scorers with a model have in common: prompts or completions in, a row for each out, a number or a reason."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from synthgen.config import ModelConfig, ScorerConfig
from synthgen.config.scorers import find_scorer_model, looks_at_prompts
from synthgen.config.stage_names import Kind, name_generations, name_scores
from synthgen.records import (
    PROMPT_ROW,
    SCORER_SCHEMA,
    Completion,
    Message,
    Messages,
    Outcome,
    Request,
    RequestFailure,
    Tables,
    list_conversations,
    spell_calls,
)
from synthgen.stages.scored import NO_COMPLETION, SCORER_PRIORITY, read_completions

Verdict = tuple[float | None, str, str]
"""A value (None: there is none), why there is none, and what was seen, for people."""


class ModelScorer(ABC):
    """The stage of a scorer whose model is asked once for each prompt or completion (see `base.LLMStage`).

    Args:
        scorer: its name. config: its settings. generators: names of the generators, in the order of the configuration.
        run_seed: not used: nothing is drawn.
    """

    kind: Kind = "scores"
    priority = SCORER_PRIORITY
    schema = SCORER_SCHEMA
    prompt_parts = ("messages",)
    max_tokens = 1

    def __init__(self, scorer: str, config: ScorerConfig, generators: Sequence[str], run_seed: int) -> None:
        model = find_scorer_model(config)
        assert model is not None
        self.name = name_scores(scorer)
        self.scorer = scorer
        self.config = config
        self.of_prompts = looks_at_prompts(config)
        self.inputs: tuple[str, ...] = (
            "prompts",
            *(() if self.of_prompts else (name_generations(name) for name in generators)),
        )
        self._model = model

    @property
    def model(self) -> ModelConfig:
        """The model that scores."""
        return self._model

    @property
    def sequences_per_prompt(self) -> int:
        """Requests per prompt, roughly."""
        return 1 if self.of_prompts else 4 * (len(self.inputs) - 1)

    def fingerprint_fields(self) -> Mapping[str, Any]:
        """Return what changes the values; what passes (`threshold`) is read off them again at each start."""
        return {"scorer": self.scorer, "type": self.config.type, "reads": self.config.reads.value, "version": 1}

    @abstractmethod
    def ask(self, request_id: str, conversation: Messages) -> Request:
        """Return the request for a prompt, or for a prompt with a completion as its last turn."""

    @abstractmethod
    def read(self, completion: Completion) -> Verdict:
        """Return what the model's answer says."""

    def prepare(self, tables: Tables) -> list[Request]:
        """Return a request for each prompt, or for each completion that has a text, prompt by prompt."""
        return [
            self.ask(f"{prompt_id}/{completion_id or 'prompt'}", conversation)
            for prompt_id, completion_id, conversation in self._list_subjects(tables)
            if conversation is not None
        ]

    def follow_up(self, request: Request, completions: Sequence[Completion]) -> Request | None:
        """Return None: the same would be answered."""
        return None

    def collect(self, tables: Tables, requests: Sequence[Request], outcomes: Sequence[Outcome]) -> pa.Table:
        """Return SCORER_SCHEMA rows: one per prompt, or one per completion, those without a text too."""
        answers = iter(outcomes)
        rows: list[dict[str, Any]] = []
        for prompt_id, completion_id, conversation in self._list_subjects(tables):
            row = {"prompt_id": prompt_id, "completion_id": completion_id, "scorer": self.scorer}
            row |= {"reason": NO_COMPLETION} if conversation is None else self._read_outcome(next(answers))
            rows.append(row)
        return pa.Table.from_pylist(rows, schema=self.schema)

    def _read_outcome(self, outcome: Outcome) -> dict[str, Any]:
        one = outcome if isinstance(outcome, RequestFailure) else outcome[0]
        if isinstance(one, RequestFailure):
            return {"reason": one.reason, "error": one.reason, "detail": one.message}
        value, reason, detail = self.read(one)
        if value is not None and not math.isfinite(value):
            value, reason, detail = None, "bad_value", f"{value}"
        failed = {} if value is not None else {"reason": reason, "error": reason}
        return {"value": value, "detail": detail or None, **failed}

    def _list_subjects(self, tables: Tables) -> Iterator[tuple[str, str, Messages | None]]:
        """Yield (prompt_id, completion_id, conversation) in the unit's order; None: the completion has no text."""
        completions = {} if self.of_prompts else read_completions(tables, self.inputs[1:])
        prompts = tables["prompts"]
        for prompt_id, turns in zip(prompts["prompt_id"].to_pylist(), list_conversations(prompts), strict=True):
            messages = [_spell_turn(turn) for turn in turns]
            if self.of_prompts:
                yield prompt_id, PROMPT_ROW, messages
            for completion_id, text, called in completions.get(prompt_id, []):
                answer = text if text is None or not called else spell_calls(text, json.loads(called))
                yield prompt_id, completion_id, None if answer is None else add_answer(messages, answer)


def _spell_turn(turn: Message) -> Message:
    """Return a turn as text alone: scorers' templates know no calls."""
    return Message(role=turn["role"], content=spell_calls(turn["content"], turn.get("tool_calls") or ()))


def add_answer(messages: Messages, text: str) -> Messages:
    """Return the conversation with an answer; a last turn of the assistant is the beginning of it."""
    if messages and messages[-1]["role"] == "assistant":
        return [*messages[:-1], Message(role="assistant", content=messages[-1]["content"] + text)]
    return [*messages, Message(role="assistant", content=text)]
