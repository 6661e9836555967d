"""Judging: completions in, one row per judge request out (prompt, aspect, repetition, group)."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config import JUDGE_THINKING_BUDGET, JudgeConfig, JudgeLayout, JudgeMode, ModelConfig
from synthgen.config.stage_names import JUDGE, Kind, name_generations
from synthgen.errors import ConfigError
from synthgen.judge.aspects import resolve_aspect
from synthgen.judge.canary import describe_canary, fingerprint_canaries
from synthgen.judge.complaint import complain
from synthgen.judge.expected import score_row
from synthgen.judge.format import JudgeFormat
from synthgen.judge.formats import DEFAULT_FORMAT, find_format
from synthgen.judge.order import apply_order
from synthgen.judge.render import neutralise, render_instruction
from synthgen.judge.rows import make_row
from synthgen.judge.tasks import JudgeTask, plan_tasks
from synthgen.pairs import estimate_first, take_first
from synthgen.records import (
    JUDGEMENTS_SCHEMA,
    WHOLE_FINISH_REASONS,
    Completion,
    Message,
    Outcome,
    OutputFormat,
    Request,
    Sampling,
    Tables,
    concat_units,
    extend_schema,
    make_seed,
    stable_hex,
)
from synthgen.stages.base import LLMStage, name_model
from synthgen.stages.generate import fit_seed

logger = logging.getLogger(__name__)

JUDGE_PRIORITY = 0
MAX_LISTWISE = 16
UNENFORCED_MAX_TOKENS = 1024
"""Least token budget of a judge that may write what it likes around the format."""


class JudgeStage:
    """The LLM stage that rates all completions of a prompt (see synthgen.stages.base.LLMStage).

    Args:
        config: the judge.
        generators: names of the generators in the order of the configuration, which is the canonical one.
        run_seed: what orders, canaries and seeds are drawn from.

    Raises:
        ConfigError: an aspect is unknown or cannot be judged.
    """

    name = JUDGE
    kind: Kind = "judgements"
    priority = JUDGE_PRIORITY
    schema = JUDGEMENTS_SCHEMA
    prompt_parts = ("messages", "reference")

    def __init__(self, config: JudgeConfig, generators: tuple[str, ...], run_seed: int) -> None:
        self.config = config
        self.generators = tuple(generators)
        self.run_seed = run_seed
        self.inputs: tuple[str, ...] = ("prompts", *(name_generations(name) for name in self.generators))
        self.aspects = tuple(resolve_aspect(name, config.aspect) for name in config.aspects)
        self.format = find_format(config.format)
        if config.mode is JudgeMode.listwise and not 2 <= config.max_listwise <= MAX_LISTWISE:
            raise ConfigError(f"judge.max_listwise={config.max_listwise} must be from 2 to {MAX_LISTWISE}")
        if config.mode is JudgeMode.pointwise and config.orders > 1 and config.temperature == 0:
            logger.warning(
                "judge.orders=%d repeats the same request: judge.mode=pointwise has no order; "
                "set judge.orders=1, or judge.temperature above 0",
                config.orders,
            )

    @property
    def model(self) -> ModelConfig:
        """The judge's model."""
        return self.config.model

    @property
    def sequences_per_prompt(self) -> int:
        """Requests per prompt where its completions fit into one group."""
        return len(self.aspects) * self.config.orders

    def fingerprint_fields(self) -> Mapping[str, Any]:
        """Return what changes the judgements, the model left out; `expected` changes scores only."""
        config = self.config
        forms = [self.format.make_form(aspect, 2, config.rationale) for aspect in self.aspects]
        fields = {
            "aspects": [asdict(aspect) for aspect in self.aspects],
            "templates": [self.format.hash_text(aspect) for aspect in self.aspects],
            "format": stable_hex([(form.regex, form.note) for form in forms]),
            "orders": config.orders,
            "rationale": config.rationale.value,
            "mode": config.mode.value,
            "max_listwise": config.max_listwise,
            "max_retries": config.max_retries,
            "constrained": config.constrained,
            "canary_fraction": fingerprint_canaries(config),
            "temperature": config.temperature,
            "max_tokens": config.max_tokens,
            "generators": list(self.generators),
            "seed": self.run_seed,
        }
        if config.layout is not JudgeLayout.rubric_first:  # so that judgements from before there was a choice count
            fields["layout"] = config.layout.value
        if config.thinking_budget is not None:
            fields["thinking_budget"] = config.thinking_budget
        if config.format != DEFAULT_FORMAT:
            fields["answers"] = config.format
        return fields

    def prepare(self, tables: Tables) -> list[Request]:
        """Return a request per task of the unit; requests that share a prefix stand next to each other."""
        prompts = tables["prompts"]
        conversations = cast(list[list[Message]], prompts["messages"].to_pylist())
        references = cast(list[str | None], prompts["reference"].to_pylist())
        requests: list[Request] = []
        row, instruction = -1, ""
        safe: dict[str, str] = {}
        for task in self._plan(tables):
            if task.row != row:
                row = task.row
                instruction = render_instruction(conversations[row], references[row])
                safe = {}
            for text in task.texts:
                if text not in safe:
                    safe[text] = neutralise(text)
            if task.texts:
                requests.append(self._make_request(task, instruction, [safe[text] for text in task.texts]))
        return requests

    def follow_up(self, request: Request, completions: Sequence[Completion]) -> Request | None:
        """Return the question again with what was wrong with the answer, up to `judge.max_retries` times."""
        if request.attempt > self.config.max_retries or request.output_format is None:
            return None
        aspect = next(a for a in self.aspects if a.name == request.tags["aspect"])
        if completions[0].fault is not None:
            turns: list[Message] | None = []  # nothing was written that could be complained of
        else:
            turns = complain(self.format, completions[0], len(request.output_format.slot_texts), aspect)
        if turns is None:
            return None
        return replace(
            request,
            messages=[*request.messages[:2], *turns],  # the question, and the last answer only
            sampling=self._widen(request.sampling, completions[0]),
            seed=fit_seed(make_seed(self.run_seed, "judge", request.request_id, request.attempt), self.model, 1),
            attempt=request.attempt + 1,
            prompt_token_ids=None,
        )

    def collect(self, tables: Tables, requests: Sequence[Request], outcomes: Sequence[Outcome]) -> pa.Table:
        """Return JUDGEMENTS_SCHEMA rows in the order of the tasks.

        A prompt without any completion to show gives rows with the error `no_completions`; a request that failed, or a
        text that holds no rating at all, gives a row with its reason.
        """
        answers = zip(requests, outcomes, strict=True)
        pointwise = self.config.mode is JudgeMode.pointwise
        rows: list[dict[str, Any]] = []
        scores: dict[str, float] = {}
        key: tuple[str, str] = ("", "")
        for task in self._plan(tables):
            if key != (task.prompt_id, task.aspect.name):
                key, scores = (task.prompt_id, task.aspect.name), {}
            request, outcome = next(answers) if task.texts else (None, None)
            row = make_row(self.format, task, request, outcome)
            row["mode"] = self.config.mode.value
            row["judge_model"] = self.model.id
            if task.canary is not None:
                row["canary"] = task.canary.kind
                row["canary_detail"] = describe_canary(
                    task.canary, task.original_id, task.aspect, scores if pointwise else {}
                )
            elif task.repetition == 0:
                scores |= score_row(row)
            rows.append(row)
        columns = {name for row in rows for name in row}
        return pa.Table.from_pylist(rows, schema=extend_schema(self.schema, sorted(columns)))

    def measure(self, units: Iterable[Tables], upstream: Mapping[str, LLMStage]) -> Mapping[str, Any]:
        """Return how far the judgements can be trusted (docs/trust.md), and the histogram of their ratings."""
        from synthgen.trust import measure_trust

        ratings: Counter[int] = Counter()

        def shorten() -> Iterator[Tables]:
            for tables in units:  # the first of them are kept in memory together: without their texts
                yield {name: _drop_texts(table) for name, table in tables.items() if name in (self.name, *self.inputs)}

        first, all_units = take_first(shorten())
        estimates = estimate_first(
            first, (self.name,), use_expected=self.config.expected, correct_place=self.config.correct_place
        )

        def read() -> Iterator[tuple[pa.Table, pa.Table]]:
            for tables in all_units:
                judged = tables[self.name]
                real = judged.filter(pc.is_null(judged["canary"]))
                ratings.update(r for r in pc.list_flatten(real["ratings"]).to_pylist() if r is not None)
                yield concat_units([tables[name] for name in self.inputs[1:]]), judged

        answering = zip(self.generators, self.inputs[1:], strict=True)
        trust = measure_trust(
            read(),
            use_expected=self.config.expected,
            seed=self.run_seed,
            judge_model=self.model.id,
            generator_models={generator: name_model(upstream[name]) for generator, name in answering},
            scale=float(self.aspects[0].max_rating - self.aspects[0].min_rating),
            estimates=estimates,
        )
        return {"trust": trust, "histograms": {"ratings": {str(rating): ratings[rating] for rating in sorted(ratings)}}}

    def _plan(self, tables: Tables) -> list[JudgeTask]:
        prompt_ids = cast(list[str], tables["prompts"]["prompt_id"].to_pylist())
        completions: dict[str, dict[str, str]] = {}
        for name in self.inputs[1:]:
            table = tables[name]
            names = ("prompt_id", "completion_id", "text", "error", "finish_reason")
            columns = [table[column].to_pylist() for column in names]
            for prompt_id, completion_id, text, error, finish in zip(*columns, strict=True):
                whole = finish is None or finish in WHOLE_FINISH_REASONS
                if error is None and text is not None and whole:  # an empty text is an answer too, and is rated
                    completions.setdefault(prompt_id, {})[completion_id] = text
        source_rows = cast(list[int], tables["prompts"]["source_row"].to_pylist())
        return list(plan_tasks(prompt_ids, completions, self.aspects, self.config, self.run_seed, source_rows))

    def _make_request(self, task: JudgeTask, instruction: str, texts: Sequence[str]) -> Request:
        config = self.config
        form = self.format.make_form(task.aspect, len(texts), config.rationale)
        return Request(
            request_id=task.request_id,
            tags={"aspect": task.aspect.name},
            messages=self.format.ask(
                task.aspect, instruction, apply_order(texts, task.order), form.note, config.layout
            ),
            sampling=Sampling(
                temperature=config.temperature, max_tokens=self._budget(form), thinking_budget=self._thinking_budget()
            ),
            seed=fit_seed(make_seed(self.run_seed, "judge", task.request_id), self.model, 1),
            output_format=OutputFormat(
                kind="regex",
                spec=form.regex if config.constrained else "",
                choices=task.aspect.choices,
                template=form.template,
                slot_texts=tuple(apply_order(task.texts, task.order)),
            ),
            priority=self.priority,
        )

    def _widen(self, sampling: Sampling, completion: Completion) -> Sampling:
        """Give an answer that was cut off twice the tokens, which `judge.max_retries` bounds."""
        if completion.finish_reason != "length":
            return sampling
        return replace(sampling, max_tokens=2 * sampling.max_tokens)

    def _thinking_budget(self) -> int | None:
        """Return the budget of thoughts; a service that has its own is not told one that nobody has set."""
        if self.config.thinking_budget is None and not self.model.served_by.is_service:
            return JUDGE_THINKING_BUDGET
        return self.config.thinking_budget

    def _budget(self, form: JudgeFormat) -> int:
        if self.config.max_tokens is not None:
            return self.config.max_tokens
        enforced = self.config.constrained and not self.model.served_by.is_service
        return form.max_tokens if enforced else max(form.max_tokens, UNENFORCED_MAX_TOKENS)


def _drop_texts(table: pa.Table) -> pa.Table:
    return table.drop_columns(
        [name for name in ("text", "messages", "raw_text", "reasoning") if name in table.column_names]
    )
