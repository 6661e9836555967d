"""What a stage is: a pure transformation of one unit. It knows nothing of Ray, files or vLLM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from synthgen.config import ModelConfig
from synthgen.records import PROMPT_PARTS, Completion, Outcome, Request, Tables


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

    # Not a member, so that a stage of one's own need not have it: `prompt_parts: tuple[str, ...]`, see `prompt_parts`.

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


def prompt_parts(stage: LLMStage) -> tuple[str, ...]:
    """Return what of a prompt the stage reads, of PROMPT_PARTS; a stage that does not say reads all.

    When another part of a prompt changes, what the stage made of it holds.
    """
    parts: tuple[str, ...] = getattr(stage, "prompt_parts", PROMPT_PARTS)
    return parts
