"""What a stage is: a pure transformation of one unit. It knows nothing of Ray, files or vLLM."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from synthgen.config import ModelConfig
from synthgen.config.public_names import name_public
from synthgen.config.stage_names import Kind
from synthgen.records import (
    GENERATIONS_SCHEMA,
    JUDGEMENTS_SCHEMA,
    PROMPT_PARTS,
    SCORER_SCHEMA,
    Completion,
    Outcome,
    Request,
    RequestFailure,
    Tables,
)


class LLMStage(Protocol):
    """A stage that needs a model. Instances are picklable and hold configuration only.

    Attributes:
        name: directory-safe and unique in the run, such as `generate-main` or `judge`.
        inputs: names of the tables that it reads; `prompts` is always one of them, the others are stages upstream.
        model: the engine it needs; stages with equal models share one pool of replicas.
        priority: lower goes first where stages share a pool (the judge's is lower than a generator's).
        sequences_per_prompt: sequences that the engine runs for one prompt, roughly; sets how many units are kept open.
        schema: the Arrow schema of its output; it has a `prompt_id` and an `error` column (null in good rows), and its
            rows follow the order of the unit's prompts.
    """

    name: str
    inputs: tuple[str, ...]
    priority: int
    schema: pa.Schema

    # Not members, so that a stage of one's own need not have them:
    # `prompt_parts: tuple[str, ...]`, see `prompt_parts`; `kind: Kind | None`, see `find_kind`;
    # `measure(units, upstream) -> Mapping[str, Any]`, see `measure_stage`; `max_tokens: int`, most of one completion,
    # for `plan`; `version: str` of one in the user's own file, see synthgen.config.own_source.

    @property
    def model(self) -> ModelConfig: ...

    @property
    def sequences_per_prompt(self) -> int: ...

    def fingerprint_fields(self) -> Mapping[str, Any]:
        """Return everything that changes the output, as JSON values, the model and the tables upstream left out."""

    def prepare(self, tables: Tables) -> list[Request]:
        """Return the requests of one unit; the same tables give the same requests."""

    def follow_up(self, request: Request, completions: Sequence[Completion]) -> Request | None:
        """Return the request to send next if these completions will not do (with `attempt` raised), else None."""

    def collect(self, tables: Tables, requests: Sequence[Request], outcomes: Sequence[Outcome]) -> pa.Table:
        """Return the unit's output. outcomes[i] belongs to requests[i], both as `prepare` ordered them;
        where a request had follow-ups, requests[i] and outcomes[i] are the last of them.

        A failed request gives rows with `error` set to its reason, never missing rows.
        """


@dataclass(frozen=True)
class StageFiles:
    """A stage with the run's directories of its output and of its inputs (by input name)."""

    stage: LLMStage
    directory: str
    inputs: Mapping[str, str]


def tables_by_kind(stages: Iterable[LLMStage]) -> dict[Kind, tuple[str, ...]]:
    """Return the names of the tables of each kind, in the order of the stages; whoever reads tables asks for a kind.

    A stage whose table has another schema than records.py's has no `kind`, and is in none of them.
    """
    found: dict[Kind, tuple[str, ...]] = {}
    for stage in stages:
        kind = find_kind(stage)
        if kind is not None:
            found[kind] = (*found.get(kind, ()), stage.name)
    return found


def find_kind(stage: LLMStage) -> Kind | None:
    """Return what a stage's table holds: its `kind`, else what its schema says. `kind = None` keeps a table of one of
    these schemas, such as drafts, to its own pipeline."""
    kinds: dict[Kind, pa.Schema] = {
        "generations": GENERATIONS_SCHEMA,
        "judgements": JUDGEMENTS_SCHEMA,
        "scores": SCORER_SCHEMA,
    }
    by_schema = next((kind for kind, schema in kinds.items() if stage.schema.equals(schema)), None)
    kind: Kind | None = getattr(stage, "kind", by_schema)
    return kind


def measure_stage(
    stage: LLMStage, units: Iterable[Tables], upstream: Mapping[str, LLMStage]
) -> Mapping[str, Any] | None:
    """Return the stage's part of the report, None where it has none to give.

    Its keys go into report.json as they are; `histograms` is a mapping that the other histograms are beside.

    Args:
        units: the tables of each unit, every stage's, one unit in memory at a time.
        upstream: the stages that it reads from, by name.
    """
    measure: Callable[[Iterable[Tables], Mapping[str, LLMStage]], Mapping[str, Any]] | None
    measure = getattr(stage, "measure", None)
    return None if measure is None else measure(units, upstream)


def divide_request(stage: LLMStage, request: Request, outcome: Outcome) -> list[Request]:
    """Return the smaller requests that take the place of one that failed as a whole, none where nothing does.

    A stage's `divide(request, failure)` says; `collect` then gets these instead, where the request stood.
    """
    divide: Callable[[Request, RequestFailure], list[Request]] | None = getattr(stage, "divide", None)
    return [] if divide is None or not isinstance(outcome, RequestFailure) else divide(request, outcome)


def name_model(stage: LLMStage) -> str:
    """Return who makes a stage's table, for people: its model's public name, or what completions that exist say."""
    name: str = getattr(stage, "model_name", None) or name_public(stage.model)
    return name


def prompt_parts(stage: LLMStage) -> tuple[str, ...]:
    """Return what of a prompt the stage reads, of PROMPT_PARTS; a stage that does not say reads all.

    When another part of a prompt changes, what the stage made of it holds.
    """
    parts: tuple[str, ...] = getattr(stage, "prompt_parts", PROMPT_PARTS)
    return parts
