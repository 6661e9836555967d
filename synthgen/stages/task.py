"""A distilabel task over the prompts: n completions of each, and the columns that the task reads in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from synthgen.config import ModelConfig, TaskConfig
from synthgen.config.stage_names import TASK, Kind
from synthgen.errors import ConfigError, RequestError
from synthgen.records import (
    TASK_SCHEMA,
    Completion,
    Outcome,
    Request,
    RequestFailure,
    Tables,
    extend_schema,
    list_reasoning,
    make_seed,
    sampling_fields,
)
from synthgen.stages.generate import fit_seed, to_sampling
from synthgen.tasks import (
    LoadedTask,
    MissingInputError,
    hash_task,
    list_columns,
    load_task,
    parse_output,
    render_input,
    select_inputs,
)

TASK_PRIORITY = 10


class DistilabelTaskStage:
    """The LLM stage of one distilabel task (see synthgen.stages.base.LLMStage).

    Args:
        config: the task.
        run_seed: what seeds are drawn from.

    Raises:
        ConfigError: there is no such task, it refuses its arguments, or it cannot run as a stage.
    """

    name = TASK
    kind: Kind = "task"
    inputs: tuple[str, ...] = ("prompts",)
    priority = TASK_PRIORITY
    schema = TASK_SCHEMA

    def __init__(self, config: TaskConfig, run_seed: int) -> None:
        self.config = config
        self.run_seed = run_seed
        self._load().check_mapping(config.inputs)

    @property
    def model(self) -> ModelConfig:
        """The task's model."""
        return self.config.model

    @property
    def sequences_per_prompt(self) -> int:
        """Sequences that the engine runs for one prompt."""
        return self.config.n

    def fingerprint_fields(self) -> Mapping[str, Any]:
        """Return what changes the output, the model left out."""
        config = self.config
        return {
            "path": config.path,
            "source": hash_task(config.path),
            "kwargs": config.kwargs,
            "n": config.n,
            "sampling": sampling_fields(config.sampling),
            "inputs": config.inputs,
            "seed": self.run_seed,
        }

    def check_prompts(self, prompts: pa.Table) -> None:
        """Raise ConfigError if none of `prompts` has a value for some required input: then no other would, either."""
        missing: MissingInputError | None = None
        for _, _, inputs in self._read(prompts):
            if not isinstance(inputs, MissingInputError):
                return
            missing = missing or inputs
        if missing is not None:
            columns = sorted(name for name in list_columns(prompts.slice(0, 1).to_pylist()[0]) if "." not in name)
            raise ConfigError(
                f"task.inputs.{missing.name}: no prompt has a value in the column {missing.column!r}; "
                f"give +task.inputs.{missing.name}=<column> or a list of them; there are {', '.join(columns)}"
            )

    def prepare(self, tables: Tables) -> list[Request]:
        """Return a request per prompt that the task takes, in the order of the unit."""
        loaded = self._load()
        sampling = to_sampling(self.config.sampling)
        requests: list[Request] = []
        for prompt_id, seed, inputs in self._read(tables["prompts"]):
            if isinstance(inputs, MissingInputError):
                continue
            try:
                rendered = render_input(loaded, inputs, seed)
            except RequestError:
                continue
            requests.append(
                Request(
                    request_id=prompt_id,
                    messages=rendered.messages,
                    sampling=sampling,
                    n=self.config.n,
                    seed=seed,
                    output_format=rendered.output_format,
                    priority=self.priority,
                )
            )
        return requests

    def follow_up(self, request: Request, completions: Sequence[Completion]) -> Request | None:
        """Return None: every completion is kept as it came."""
        return None

    def collect(self, tables: Tables, requests: Sequence[Request], outcomes: Sequence[Outcome]) -> pa.Table:
        """Return TASK_SCHEMA rows: n per prompt, in order.

        Errors: that of a failed request; `missing_input` and `bad_input`, where there was no request; `unparsable` and
        `incomplete`, where the task read nothing or not all in the text.
        """
        loaded = self._load()
        answers = {request.request_id: outcome for request, outcome in zip(requests, outcomes, strict=True)}
        rows: list[dict[str, Any]] = []
        for prompt_id, seed, inputs in self._read(tables["prompts"]):
            outcome = answers.get(prompt_id)
            for index in range(self.config.n):
                row = {"prompt_id": prompt_id, "sample_index": index, "model": self.model.id, "seed": seed + index}
                if isinstance(inputs, MissingInputError):
                    row["error"] = "missing_input"
                elif outcome is None:
                    row["error"] = "bad_input"
                elif isinstance(outcome, RequestFailure):
                    row["error"] = outcome.reason
                else:
                    sample = outcome[index]
                    row |= (
                        {"error": sample.reason}
                        if isinstance(sample, RequestFailure)
                        else _read_completion(loaded, sample, inputs)
                    )
                rows.append(row)
        columns = {name for row in rows for name in row}
        return pa.Table.from_pylist(rows, schema=extend_schema(self.schema, sorted(columns)))

    def _read(self, prompts: pa.Table) -> Iterator[tuple[str, int, dict[str, Any] | MissingInputError]]:
        """Yield (prompt_id, seed, the task's input columns or what is missing) of each prompt."""
        wanted = self._load().inputs
        for prompt in prompts.to_pylist():
            prompt_id: str = prompt["prompt_id"]
            seed = fit_seed(make_seed(self.run_seed, TASK, prompt_id, 0), self.model, self.config.n)
            try:
                yield prompt_id, seed, select_inputs(list_columns(prompt), wanted, self.config.inputs)
            except MissingInputError as error:
                yield prompt_id, seed, error

    def _load(self) -> LoadedTask:
        return load_task(self.config.path, self.config.kwargs)


def _read_completion(loaded: LoadedTask, completion: Completion, inputs: Mapping[str, Any]) -> dict[str, Any]:
    output, error = parse_output(loaded, completion.text, inputs)
    return {
        "output": output if completion.fault is None else None,
        "raw_text": completion.text,
        "finish_reason": completion.finish_reason,
        "prompt_tokens": completion.prompt_tokens,
        "cached_tokens": completion.cached_tokens,
        "output_tokens": completion.output_tokens,
        "error": completion.fault or error,
        **{name: column[0] for name, column in list_reasoning([completion]).items()},
    }
