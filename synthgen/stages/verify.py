"""Verifying: completions in, one row per completion out, with the number that code gave it or why there is none."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from synthgen.config import ModelConfig, ScorerConfig
from synthgen.config.scorers import CODE_MODEL
from synthgen.config.stage_names import Kind, name_generations, name_scores
from synthgen.errors import ConfigError
from synthgen.records import (
    SCORER_SCHEMA,
    Completion,
    Messages,
    Outcome,
    Request,
    RequestFailure,
    Sampling,
    Tables,
    list_conversations,
    list_tools,
)
from synthgen.stages.scored import NO_COMPLETION, SCORER_PRIORITY, Answer, read_completions
from synthgen.verifiers.settings import make_check


class VerifyStage:
    """The stage of a scorer that runs code (see synthgen.stages.base.LLMStage): its engine has no model.

    Args:
        scorer: its name. config: its settings. generators: names of the generators, in the order of the configuration.

    Raises:
        ConfigError: its settings cannot work.
    """

    kind: Kind = "scores"
    priority = SCORER_PRIORITY
    schema = SCORER_SCHEMA

    def __init__(self, scorer: str, config: ScorerConfig, generators: Sequence[str], run_seed: int) -> None:
        self.name = name_scores(scorer)
        self.scorer = scorer
        self.config = config
        self.inputs: tuple[str, ...] = ("prompts", *(name_generations(name) for name in generators))
        self.check = make_check(f"scorers.{scorer}", config)
        reads_columns = config.reference is not None or self.check.kind.reads_metadata
        self.prompt_parts = ("messages", "reference", *(("metadata",) if reads_columns else ()))

    @property
    def model(self) -> ModelConfig:
        """What runs the code."""
        return CODE_MODEL

    @property
    def sequences_per_prompt(self) -> int:
        """Checks per prompt, roughly: they take no engine's room."""
        return 4 * (len(self.inputs) - 1)

    def fingerprint_fields(self) -> Mapping[str, Any]:
        """Return what changes the values; what passes (`threshold`) is read off them again at each start."""
        settings = {key: value for key, value in self.check.settings.items() if key != "path"}
        return {
            "scorer": self.scorer,
            "kind": self.check.kind.module,
            "version": self.check.kind.version,
            "settings": settings,
            "reference": self.config.reference,
            "timeout_s": self.config.timeout_s,
        }

    def check_prompts(self, prompts: pa.Table) -> None:
        """Raise ConfigError if the kind needs a right answer and none of `prompts` has one."""
        if not self.check.kind.needs_reference or any(ref is not None for *_, ref, _ in self._read_prompts(prompts)):
            return
        key = f"scorers.{self.scorer}"
        if self.config.reference is not None:
            columns = sorted({name for row in prompts["metadata"].to_pylist() for name in json.loads(row)})
            raise ConfigError(
                f"{key}.reference={self.config.reference}: none of the first prompts has a value in that column; "
                f"there are {', '.join(columns) or 'none'}"
            )
        raise ConfigError(
            f"{key}.kind={self.config.kind} compares with a right answer, and none of the first prompts has one; "
            f"give prompts.reference_column=<column>, or {key}.reference=<column>"
        )

    def prepare(self, tables: Tables) -> list[Request]:
        """Return a request per completion that has a text, prompt by prompt."""
        check = self.check.dump()
        prompts = tables["prompts"]
        tools = dict(zip(prompts["prompt_id"].to_pylist(), list_tools(prompts), strict=True))
        requests = []
        for prompt_id, messages, reference, metadata, rows in self._read(tables):
            for completion_id, text, calls in rows:
                if text is None:
                    continue
                tags = {"check": check, "timeout_s": str(self.config.timeout_s), "completion": text}
                tags |= {"tool_calls": calls} if calls else {}
                tags |= {"reference": reference} if reference is not None else {}
                tags |= {"metadata": metadata} if self.check.kind.reads_metadata else {}
                requests.append(
                    Request(
                        f"{prompt_id}/{completion_id}",
                        messages,
                        Sampling(),
                        tags=tags,
                        priority=self.priority,
                        tools=tools[prompt_id],
                    )
                )
        return requests

    def follow_up(self, request: Request, completions: Sequence[Completion]) -> Request | None:
        """Return None: a check is asked once."""
        return None

    def collect(self, tables: Tables, requests: Sequence[Request], outcomes: Sequence[Outcome]) -> pa.Table:
        """Return SCORER_SCHEMA rows: one per completion, those without a text too."""
        answers = iter(outcomes)
        rows: list[dict[str, Any]] = []
        for prompt_id, _, _, _, completions in self._read(tables):
            for completion_id, text, _ in completions:
                row: dict[str, Any] = {"prompt_id": prompt_id, "completion_id": completion_id, "scorer": self.scorer}
                row |= {"reason": NO_COMPLETION} if text is None else self._read_outcome(next(answers))
                rows.append(row)
        return pa.Table.from_pylist(rows, schema=self.schema)

    def _read_outcome(self, outcome: Outcome) -> dict[str, Any]:
        if isinstance(outcome, RequestFailure):
            return {"reason": outcome.reason, "error": outcome.reason, "detail": outcome.message}
        (one,) = outcome
        if isinstance(one, RequestFailure):
            return {"reason": one.reason, "error": one.reason, "detail": one.message}
        try:
            answer: dict[str, Any] = json.loads(one.text)
        except ValueError:  # a placeholder's, of the check before the run
            return {"reason": "no_verdict"}
        return {"value": answer["value"], "reason": answer["reason"], "detail": answer["detail"] or None}

    def _read(self, tables: Tables) -> Iterator[tuple[str, Messages, str | None, str, list[Answer]]]:
        """Yield (prompt_id, messages, reference, metadata, answers) in the unit's order."""
        completions = read_completions(tables, self.inputs[1:])
        for prompt_id, messages, reference, metadata in self._read_prompts(tables["prompts"]):
            yield prompt_id, messages, reference, metadata, completions.get(prompt_id, [])

    def _read_prompts(self, prompts: pa.Table) -> Iterator[tuple[str, Messages, str | None, str]]:
        names = ("prompt_id", "reference", "metadata")
        columns = [prompts[name].to_pylist() for name in names]
        for prompt_id, reference, metadata, messages in zip(*columns, list_conversations(prompts), strict=True):
            if self.config.reference is not None:
                value = json.loads(metadata).get(self.config.reference)
                reference = value if isinstance(value, str) or value is None else json.dumps(value)
            yield prompt_id, messages, reference, metadata
