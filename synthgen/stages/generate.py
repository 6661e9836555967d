"""Generation: n completions of each prompt by one generator. Prompts in, one row per (prompt, sample) out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pyarrow as pa

from synthgen.config import GeneratorConfig, ModelConfig, SamplingConfig
from synthgen.config.stage_names import Kind, name_generations
from synthgen.records import (
    GENERATIONS_SCHEMA,
    Completion,
    Messages,
    Outcome,
    Request,
    RequestFailure,
    Sampling,
    Tables,
    extend_schema,
    list_reasoning,
    make_seed,
    sampling_fields,
)

GENERATE_PRIORITY = 10


class GenerateStage:
    """The LLM stage of one generator (see synthgen.stages.base.LLMStage)."""

    kind: Kind = "generations"
    inputs: tuple[str, ...] = ("prompts",)
    priority = GENERATE_PRIORITY
    schema = GENERATIONS_SCHEMA
    prompt_parts = ("messages",)

    def __init__(self, generator: str, config: GeneratorConfig, *, run_seed: int) -> None:
        self.name = name_generations(generator)
        self.generator = generator
        self.config = config
        self.run_seed = run_seed

    @property
    def model(self) -> ModelConfig:
        """The generator's model."""
        return self.config.model

    @property
    def sequences_per_prompt(self) -> int:
        """Sequences that the engine runs for one prompt."""
        return self.config.n

    def fingerprint_fields(self) -> Mapping[str, Any]:
        """Return what changes the completions, the model left out."""
        return {
            "generator": self.generator,
            "n": self.config.n,
            "sampling": sampling_fields(self.config.sampling),
            "system_prompt": self.config.system_prompt,
            "seed": self.run_seed,
        }

    def prepare(self, tables: Tables) -> list[Request]:
        """Return one request per prompt, in the order of the unit."""
        sampling = to_sampling(self.config.sampling)
        prompts = tables["prompts"]
        ids = cast(list[str], prompts["prompt_id"].to_pylist())
        conversations = cast(list[Messages], prompts["messages"].to_pylist())
        return [
            Request(
                request_id=prompt_id,
                messages=self._with_system(messages),
                sampling=sampling,
                n=self.config.n,
                seed=fit_seed(make_seed(self.run_seed, self.generator, prompt_id, 0), self.model, self.config.n),
                priority=self.priority,
            )
            for prompt_id, messages in zip(ids, conversations, strict=True)
        ]

    def follow_up(self, request: Request, completions: Sequence[Completion]) -> Request | None:
        """Return None: every completion is kept as it came."""
        return None

    def collect(self, tables: Tables, requests: Sequence[Request], outcomes: Sequence[Outcome]) -> pa.Table:
        """Return GENERATIONS_SCHEMA rows: n per request, in order; `error` is set where there is no completion.

        A thought without an answer has its thought and its finish reason, and no text.
        """
        n = self.config.n
        flat = [
            outcome if isinstance(outcome, RequestFailure) else outcome[i] for outcome in outcomes for i in range(n)
        ]
        good = [None if isinstance(item, RequestFailure) else item for item in flat]
        prompt_ids = [request.request_id for request in requests for _ in range(n)]
        rows = len(flat)
        columns: dict[str, list[Any]] = {
            "prompt_id": prompt_ids,
            "completion_id": [f"{self.generator}:{i}" for i in range(n)] * len(requests),
            "generator": [self.generator] * rows,
            "model": [self.model.id] * rows,
            "sample_index": list(range(n)) * len(requests),
            "seed": [request.seed + i for request in requests for i in range(n)],
            "text": [c.text if c and c.fault is None else None for c in good],
            "finish_reason": [c.finish_reason if c else None for c in good],
            "prompt_tokens": [c.prompt_tokens if c else None for c in good],
            "cached_tokens": [c.cached_tokens if c else None for c in good],
            "output_tokens": [c.output_tokens if c else None for c in good],
            "error": [item.reason if isinstance(item, RequestFailure) else item.fault for item in flat],
        }
        columns |= list_reasoning(good)
        return pa.table(columns, schema=extend_schema(self.schema, list(columns)))

    def _with_system(self, messages: Messages) -> Messages:
        if self.config.system_prompt is None or (messages and messages[0]["role"] == "system"):
            return messages
        return [{"role": "system", "content": self.config.system_prompt}, *messages]


def fit_seed(seed: int, model: ModelConfig, n: int) -> int:
    """Return a seed that the model's server is sent as it is, the last of its `n` samples too.

    Gateways keep numbers as doubles, which round seeds of 60 bits to the same few, and some servers know 32 bits only.
    """
    return seed % (2**31 - n) if model.served_by.is_service else seed


def to_sampling(config: SamplingConfig) -> Sampling:
    """Return the sampling parameters of requests under `config`."""
    return Sampling(
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=config.top_k,
        min_p=config.min_p,
        max_tokens=config.max_tokens,
        min_tokens=config.min_tokens,
        repetition_penalty=config.repetition_penalty,
        presence_penalty=config.presence_penalty,
        frequency_penalty=config.frequency_penalty,
        stop=tuple(config.stop),
        ignore_eos=config.ignore_eos,
        logit_bias=tuple(sorted((int(token), bias) for token, bias in config.logit_bias.items())),
        thinking_budget=config.thinking_budget,
    )
