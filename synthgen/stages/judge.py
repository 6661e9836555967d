"""Judging: completions in, one row per judge request out (prompt, aspect, repetition, group)."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config import JudgeConfig, JudgeFraming, JudgeLayout, JudgeMode, ModelConfig
from synthgen.config.own_files import split_own
from synthgen.config.own_source import fingerprint_named
from synthgen.config.stage_names import JUDGE, Kind, name_generations
from synthgen.errors import ConfigError
from synthgen.judge.aspects import resolve_aspect
from synthgen.judge.calls import show_answer
from synthgen.judge.canary import describe_canary, fingerprint_canaries
from synthgen.judge.complaint import complain
from synthgen.judge.expected import score_row
from synthgen.judge.formats import DEFAULT_FORMAT, find_format
from synthgen.judge.frame import FRAME_VERSION
from synthgen.judge.rows import make_row
from synthgen.judge.tasks import JudgeTask, plan_tasks, take_part
from synthgen.pairs import estimate_first, take_first
from synthgen.records import (
    JUDGEMENTS_SCHEMA,
    WHOLE_FINISH_REASONS,
    Completion,
    Message,
    Outcome,
    Request,
    RequestFailure,
    Tables,
    concat_units,
    extend_schema,
    list_calls,
    list_conversations,
    list_tools,
    make_seed,
    stable_hex,
)
from synthgen.stages.base import LLMStage, name_model
from synthgen.stages.generate import fit_seed
from synthgen.stages.judge_requests import JUDGE_PRIORITY, Asking

logger = logging.getLogger(__name__)

MAX_LISTWISE = 16


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
        frames = hasattr(self.format, "ask_framed")
        if config.framing is JudgeFraming.boundary and not frames:
            raise ConfigError(
                f"judge.framing=boundary: judge.format={config.format} has no ask_framed; leave judge.framing=null"
            )
        self.framing = JudgeFraming.boundary if frames else JudgeFraming.brackets
        if config.framing is not None:
            self.framing = config.framing
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
    def _asking(self) -> Asking:
        return Asking(self.config, self.run_seed, self.aspects, self.format, self.framing)

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
        # What was left out before there was a choice is left out now, so that judgements from then count.
        if config.layout is not JudgeLayout.rubric_first:
            fields["layout"] = config.layout.value
        if self.framing is not JudgeFraming.brackets:
            fields["framing"] = f"{self.framing.value}-{FRAME_VERSION}"
        if config.thinking_budget is not None:
            fields["thinking_budget"] = config.thinking_budget
        if config.format != DEFAULT_FORMAT:
            own = split_own(config.format)
            fields["answers"] = own[1] if own else config.format
            if own:
                fields["answers_code"] = fingerprint_named(config.format, self.format)
        return fields

    def prepare(self, tables: Tables) -> list[Request]:
        """Return a request per task of the unit; requests that share a prefix stand next to each other."""
        prompts = tables["prompts"]
        conversations, tools = list_conversations(prompts), list_tools(prompts)
        references = cast(list[str | None], prompts["reference"].to_pylist())
        requests: list[Request] = []
        for row, group in groupby(self._plan(tables), key=lambda task: task.row):
            tasks = [task for task in group if task.texts]
            if not tasks:
                continue
            question = self._asking.make_question(conversations[row], references[row], tasks, tools[row])
            requests += [self._asking.make_request(task, question) for task in tasks]
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
            sampling=self._asking.widen(request.sampling, completions[0]),
            seed=fit_seed(make_seed(self.run_seed, "judge", request.request_id, request.attempt), self.model, 1),
            attempt=request.attempt + 1,
            prompt_token_ids=None,
        )

    def divide(self, request: Request, failure: RequestFailure) -> list[Request]:
        """Return the requests that ask for the same in two parts where it was too long for the judge, else none.

        Each shows half of the places, in the same order. A text that is too long alone stays without a rating, and so
        does a planted test, which is nothing without what it is compared with.
        """
        return self._asking.divide(request, failure)

    def collect(self, tables: Tables, requests: Sequence[Request], outcomes: Sequence[Outcome]) -> pa.Table:
        """Return JUDGEMENTS_SCHEMA rows in the order of the tasks; a task that was divided gives a row per part.

        A prompt without any completion to show gives rows with the error `no_completions`; a request that failed, or a
        text that holds no rating at all, gives a row with its reason.
        """
        answers = iter(list(zip(requests, outcomes, strict=True)))
        pointwise = self.config.mode is JudgeMode.pointwise
        rows: list[dict[str, Any]] = []
        scores: dict[str, float] = {}
        key: tuple[str, str] = ("", "")
        groups: Counter[tuple[str, str, int]] = Counter()
        for task in self._plan(tables):
            if key != (task.prompt_id, task.aspect.name):
                key, scores = (task.prompt_id, task.aspect.name), {}
            for row in self._read_rows(task, answers):
                row["group"] = groups[*key, task.repetition]
                groups[*key, task.repetition] += 1
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

    def _read_rows(self, task: JudgeTask, answers: Iterator[tuple[Request, Outcome]]) -> Iterator[dict[str, Any]]:
        """Yield the row of a task, or those of its parts where it was too long for the judge."""
        if not task.texts:
            yield make_row(self.format, task, None, None)
            return
        covered = 0
        while covered < len(task.texts):
            request, outcome = next(answers)
            if request.tags.get("part_of") != task.request_id:
                yield make_row(self.format, task, request, outcome)
                return
            low, high = int(request.tags["first"]), int(request.tags["end"])
            yield make_row(self.format, take_part(task, low, high), request, outcome) | {"split_from": len(task.texts)}
            covered = high

    def measure(self, units: Iterable[Tables], upstream: Mapping[str, LLMStage]) -> Mapping[str, Any]:
        """Return how far the judgements can be trusted (docs/trust.md), and the histogram of their ratings."""
        from synthgen.trust import measure_trust

        ratings: Counter[int] = Counter()
        split: Counter[str] = Counter()

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
                if "split_from" in real.column_names:
                    parts = real.filter(pc.is_valid(real["split_from"]))
                    split.update(requests=parts.num_rows, prompts=len(parts["prompt_id"].unique()))
                yield concat_units([tables[name] for name in self.inputs[1:]]), judged

        answering = zip(self.generators, self.inputs[1:], strict=True)
        trust = measure_trust(
            read(),
            use_expected=self.config.expected,
            seed=self.run_seed,
            judge_model=name_model(self),
            generator_models={generator: name_model(upstream[name]) for generator, name in answering},
            scale=float(self.aspects[0].max_rating - self.aspects[0].min_rating),
            estimates=estimates,
            split=split,
        )
        return {"trust": trust, "histograms": {"ratings": {str(rating): ratings[rating] for rating in sorted(ratings)}}}

    def _plan(self, tables: Tables) -> list[JudgeTask]:
        prompt_ids = cast(list[str], tables["prompts"]["prompt_id"].to_pylist())
        with_tools = {one for one, tools in zip(prompt_ids, list_tools(tables["prompts"]), strict=True) if tools}
        completions: dict[str, dict[str, str]] = {}
        cut: set[tuple[str, str]] = set()
        for name in self.inputs[1:]:
            table = tables[name]
            names = ("prompt_id", "completion_id", "text", "error", "finish_reason")
            columns = [table[column].to_pylist() for column in names]
            for prompt_id, completion_id, text, error, finish, calls in zip(*columns, list_calls(table), strict=True):
                whole = finish is None or finish in WHOLE_FINISH_REASONS
                if error is None and text is not None and whole:  # an empty text is an answer too, and is rated
                    shown = show_answer(text, calls) if prompt_id in with_tools else text
                    completions.setdefault(prompt_id, {})[completion_id] = shown
                    if finish == "length":
                        cut.add((prompt_id, completion_id))
        source_rows = cast(list[int], tables["prompts"]["source_row"].to_pylist())
        return list(plan_tasks(prompt_ids, completions, self.aspects, self.config, self.run_seed, source_rows, cut))


def _drop_texts(table: pa.Table) -> pa.Table:
    return table.drop_columns(
        [name for name in ("text", "messages", "raw_text", "reasoning") if name in table.column_names]
    )
