"""Stages that nobody runs: completions that exist already, and what was recorded of them. The driver commits them.

See synthgen.runtime.given, which reads the file; here is what their tables hold and what they are called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from synthgen.config import GeneratorConfig, ModelConfig, ScorerConfig
from synthgen.config.scorers import CODE_MODEL
from synthgen.config.stage_names import Kind, name_generations, name_scores
from synthgen.errors import ConfigError, RunFailedError
from synthgen.prompts.completions import GivenCompletion
from synthgen.records import GENERATIONS_SCHEMA, SCORER_SCHEMA, Completion, Outcome, Request, Tables

Given = Mapping[str, Sequence[GivenCompletion]]
"""A unit's completions, by prompt."""


class _GivenStage:
    """What both have in common: no engine is asked, and nothing is made but by `fill`."""

    prompt_parts = ("messages",)
    priority = 0
    sequences_per_prompt = 1
    name: str
    schema: pa.Schema

    @property
    def model(self) -> ModelConfig:
        """No model: what serves code, which is never asked."""
        return CODE_MODEL

    def prepare(self, tables: Tables) -> list[Request]:
        """Return nothing."""
        return []

    def follow_up(self, request: Request, completions: Sequence[Completion]) -> Request | None:
        """Return None."""
        return None

    def collect(self, tables: Tables, requests: Sequence[Request], outcomes: Sequence[Outcome]) -> pa.Table:
        """Raise RunFailedError: its units are committed before anything runs."""
        raise RunFailedError(f"stage {self.name}: a unit of given completions is gone; start the same command again")


class GivenStage(_GivenStage):
    """The completions of `generators.<name>.path`."""

    kind: Kind = "generations"
    inputs: tuple[str, ...] = ("prompts",)
    schema = GENERATIONS_SCHEMA

    def __init__(self, generator: str, config: GeneratorConfig) -> None:
        self.name = name_generations(generator)
        self.generator = generator
        self.config = config
        self.model_name = config.model.id or config.model.name or generator

    def fingerprint_fields(self) -> Mapping[str, Any]:
        """Return what it is; a file that holds other texts now makes the units anew that they are in."""
        config = self.config
        return {
            "generator": self.generator,
            "given": 1,
            "column": config.column,
            "model_column": config.model_column,
            "model": self.model_name,
        }

    def fill(self, prompts: pa.Table, given: Given) -> pa.Table:
        """Return a unit's table: rows in the order of its prompts; one that has no completions has no row."""
        rows = [
            {
                "prompt_id": prompt_id,
                "completion_id": f"{self.generator}:{index}",
                "generator": self.generator,
                "model": one.model or self.model_name,
                "sample_index": index,
                "seed": 0,
                "text": one.text,
            }
            for prompt_id in prompts["prompt_id"].to_pylist()
            for index, one in enumerate(given.get(prompt_id, ()))
        ]
        return pa.Table.from_pylist(rows, schema=self.schema)


class RecordedStage(_GivenStage):
    """What was recorded of given completions, as a scorer: 1 for chosen, 0 for rejected, or the number beside each.

    Args:
        scorer: its name. config: its settings. generators: names of all. run_seed: not used.

    Raises:
        ConfigError: `generator` names none.
    """

    kind: Kind = "scores"
    schema = SCORER_SCHEMA

    def __init__(self, scorer: str, config: ScorerConfig, generators: Sequence[str], run_seed: int) -> None:
        self.name = name_scores(scorer)
        self.scorer = scorer
        if config.generator is None or config.generator not in generators:
            names = ", ".join(generators)
            raise ConfigError(
                f"scorers.{scorer}.generator={config.generator} must name a generator with a path; there are {names}"
            )
        self.generator = config.generator
        self.inputs: tuple[str, ...] = ("prompts", name_generations(self.generator))

    def fingerprint_fields(self) -> Mapping[str, Any]:
        """Return what it is."""
        return {"scorer": self.scorer, "recorded": 1}

    def fill(self, prompts: pa.Table, given: Given) -> pa.Table:
        """Return a unit's table."""
        rows = [
            {
                "prompt_id": prompt_id,
                "completion_id": f"{self.generator}:{index}",
                "scorer": self.scorer,
                "value": one.score,
                "reason": None if one.score is not None else "not_recorded",
            }
            for prompt_id in prompts["prompt_id"].to_pylist()
            for index, one in enumerate(given.get(prompt_id, ()))
        ]
        return pa.Table.from_pylist(rows, schema=self.schema)
