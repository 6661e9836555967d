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
    Tool,
    canonical_json,
    extend_schema,
    list_conversations,
    list_reasoning,
    list_tools,
    make_seed,
    sampling_fields,
    stable_hash,
)
from synthgen.stages.calls import check_calls

GENERATE_PRIORITY = 10


class GenerateStage:
    """The LLM stage of one generator (see synthgen.stages.base.LLMStage)."""

    kind: Kind = "generations"
    inputs: tuple[str, ...] = ("prompts",)
    priority = GENERATE_PRIORITY
    schema = GENERATIONS_SCHEMA
    prompt_parts = ("messages",)

    def __init__(
        self, generator: str, config: GeneratorConfig, *, run_seed: int, pool: Sequence[str] = (), drawn: int = 0
    ) -> None:
        """Set the stage up.

        Args:
            pool: names of the generators of which `drawn` answer each prompt; `drawn` 0: all answer all.
        """
        self.name = name_generations(generator)
        self.generator = generator
        self.config = config
        self.run_seed = run_seed
        self.pool = tuple(sorted(pool)) if drawn else ()
        self.drawn = drawn

    @property
    def model(self) -> ModelConfig:
        """The generator's model."""
        return self.config.model

    @property
    def sequences_per_prompt(self) -> int:
        """Sequences that the engine runs for one prompt."""
        return self.config.n

    @property
    def max_tokens(self) -> int:
        """Most tokens of one completion, its thought counted."""
        return to_sampling(self.config.sampling).most_tokens

    def fingerprint_fields(self) -> Mapping[str, Any]:
        """Return what changes the completions, the model left out."""
        adapter = self._find_adapter()
        fields: dict[str, Any] = {
            **({} if adapter is None else {"adapter": adapter}),  # absent in earlier versions, whose units stay valid
            "generator": self.generator,
            "n": self.config.n,
            "sampling": sampling_fields(self.config.sampling),
            "system_prompt": self.config.system_prompt,
            "seed": self.run_seed,
        }
        if self.pool:  # absent before there was a choice
            fields["pool"] = [self.pool, self.drawn]
        if self.config.principles:
            fields["principles"] = list(self.config.principles)
        return fields

    def prepare(self, tables: Tables) -> list[Request]:
        """Return one request per prompt that this generator answers, in the order of the unit.

        With principles it is one per completion, since each has a system message of its own.
        """
        sampling = to_sampling(self.config.sampling)
        prompts = tables["prompts"]
        ids = cast(list[str], prompts["prompt_id"].to_pylist())
        n = self.config.n
        requests: list[Request] = []
        for prompt_id, messages, tools in zip(ids, list_conversations(prompts), list_tools(prompts), strict=True):
            if self.pool and self.generator not in draw_generators(prompt_id, self.pool, self.drawn, self.run_seed):
                continue
            seed = fit_seed(make_seed(self.run_seed, self.generator, prompt_id, 0), self.model, n)
            samples = range(n) if self.config.principles else [None]
            requests += [
                Request(
                    request_id=prompt_id if sample is None else f"{prompt_id}/{sample}",
                    messages=self._with_system(messages, self._draw_principle(prompt_id, sample)),
                    sampling=sampling,
                    n=n if sample is None else 1,
                    seed=seed + (sample or 0),
                    priority=self.priority,
                    adapter=self.config.adapter,
                    tools=tools,
                )
                for sample in samples
            ]
        return requests

    def follow_up(self, request: Request, completions: Sequence[Completion]) -> Request | None:
        """Return None: every completion is kept as it came."""
        return None

    def collect(self, tables: Tables, requests: Sequence[Request], outcomes: Sequence[Outcome]) -> pa.Table:
        """Return GENERATIONS_SCHEMA rows: n per prompt, in order; `error` is set where there is no completion.

        With principles the column `principle` says which one a completion was drawn under.

        A thought without an answer has its thought and its finish reason, and no text. Where prompts have tools, the
        column `tool_calls` says what completions call; one whose call cannot be made has no text.
        """
        n = self.config.n
        each = 1 if self.config.principles else n  # completions of a request
        flat = [
            outcome if isinstance(outcome, RequestFailure) else outcome[i] for outcome in outcomes for i in range(each)
        ]
        good = [None if isinstance(item, RequestFailure) else item for item in flat]
        prompt_ids = [request.request_id.partition("/")[0] for request in requests for _ in range(each)]
        rows = len(flat)
        columns: dict[str, list[Any]] = {
            "prompt_id": prompt_ids,
            "completion_id": [f"{self.generator}:{i}" for i in range(n)] * (rows // n),
            "generator": [self.generator] * rows,
            "model": [self.model.id] * rows,
            "sample_index": list(range(n)) * (rows // n),
            "seed": [request.seed + i for request in requests for i in range(each)],
            "text": [c.text if c and c.fault is None else None for c in good],
            "finish_reason": [c.finish_reason if c else None for c in good],
            "prompt_tokens": [c.prompt_tokens if c else None for c in good],
            "cached_tokens": [c.cached_tokens if c else None for c in good],
            "output_tokens": [c.output_tokens if c else None for c in good],
            "error": [item.reason if isinstance(item, RequestFailure) else item.fault for item in flat],
        }
        columns |= list_reasoning(good)
        if any(request.tools for request in requests):
            self._add_calls(columns, [request.tools for request in requests for _ in range(each)], good)
        if self.config.principles:
            samples = zip(prompt_ids, columns["sample_index"], strict=True)
            columns["principle"] = [self._draw_principle(prompt_id, sample) for prompt_id, sample in samples]
        return pa.table(columns, schema=extend_schema(self.schema, list(columns)))

    def _add_calls(
        self, columns: dict[str, list[Any]], tools: Sequence[Sequence[Tool]], good: Sequence[Completion | None]
    ) -> None:
        """Add the column `tool_calls`, and the errors of calls that cannot be made. tools[i] is of completion i."""
        columns["tool_calls"] = [None] * len(good)
        for row, (some, completion) in enumerate(zip(tools, good, strict=True)):
            calls, fault = check_calls(completion, some) if completion is not None and some else ([], None)
            columns["tool_calls"][row] = canonical_json(calls) if calls else None
            if fault is not None:
                columns["text"][row], columns["error"][row] = None, fault

    def _find_adapter(self) -> str | None:
        """Return where the adapter lies that answers, None where the model does as it is."""
        return None if self.config.adapter is None else self.model.adapters[self.config.adapter]

    def _draw_principle(self, prompt_id: str, sample: int | None) -> str | None:
        principles = self.config.principles
        if sample is None or not principles:
            return None
        return principles[stable_hash(self.run_seed, "principle", self.generator, prompt_id, sample) % len(principles)]

    def _with_system(self, messages: Messages, principle: str | None) -> Messages:
        said = [text for text in (self.config.system_prompt, principle) if text is not None]
        if not said or (messages and messages[0]["role"] == "system"):
            return messages
        return [{"role": "system", "content": "\n\n".join(said)}, *messages]


def draw_generators(prompt_id: str, pool: Sequence[str], count: int, run_seed: int) -> frozenset[str]:
    """Return which `count` generators of `pool` answer a prompt: those whose hash with the prompt is lowest."""
    ranked = sorted(pool, key=lambda name: (stable_hash(run_seed, "drawn", prompt_id, name), name))
    return frozenset(ranked[:count])


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
