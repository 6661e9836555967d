"""The work of a run in requests and tokens: a configuration and what the run directory already holds in, stages out.

What is not measured is assumed, and each assumption is named: `Assumptions` scales them, so that a plan can say what a
wrong one would cost.

One file because each stage's work stands on that of the stages before it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthgen.config import JUDGE_THINKING_BUDGET, Config, JudgeConfig, JudgeMode, ModelConfig, Rationale
from synthgen.config.scorers import CODE_MODEL, VERIFIER, list_code_scorers
from synthgen.config.stage_names import JUDGE, TASK, Kind, name_generations, name_scores
from synthgen.planning.fit import Lengths

if TYPE_CHECKING:
    from synthgen.records import Bill

DEFAULT_PROMPTS = 1000
DEFAULT_PROMPT_TOKENS = 250.0
"""Prompts of a run whose prompt table has not been read, and tokens of a prompt of unknown length."""
CHAT_TOKENS = 20.0
"""What a chat template adds to a prompt."""
JUDGE_TEMPLATE_TOKENS = 480.0
"""UltraFeedback's instructions and rubric (300 to 600 tokens, by aspect)."""
TASK_TEMPLATE_TOKENS = 300.0
"""What a distilabel task writes around a prompt (its templates have 50 to 700 tokens)."""
TEMPLATE_BOUND = 1024
"""What a chat template may add to a prompt, with a system prompt of its own, tokens."""
JUDGE_TEMPLATE_BOUND = 6144
"""What a judge's instructions, rubric and complaint may have, bytes."""
FOREIGN_TOKENS = 4
"""A judge's vocabulary may cut a generator's token into so many."""
RATING_BYTES = {Rationale.full: 480 * 4 + 256, Rationale.short: 160 * 4 + 256, Rationale.none: 256}
"""What a judgement may have for each text (`judge/format.py`, RATIONALE_CHARACTERS of four bytes), bytes."""
RATING_TOKENS = {Rationale.full: 110.0, Rationale.short: 45.0, Rationale.none: 6.0}
"""What the judge writes for each text: header, rating and rationale."""


@dataclass(frozen=True, slots=True)
class StageLedger:
    """What is known of a stage before it runs: what its run directory holds, and what finished units measured.

    Attributes:
        units_total, units_done: of the current configuration (same fingerprint).
        again: why units that were finished are made again, as a phrase; they are not in units_done. Empty: none is.
        prompts_total, prompts_done: rows of the prompt table, in all units and in the finished ones.
        prompt_tokens: mean tokens of a prompt, estimated from the prompt table; None: unknown.
        input_tokens: mean prompt tokens of a request of this stage, measured; None: nothing finished.
        output_tokens: mean tokens of a completion of this stage, measured; None: nothing finished.
        output_tokens_per_s: of all replicas together while the stage ran, measured; None: nothing finished.
        per_replica: output_tokens_per_s is of one replica instead (`synthgen calibrate`).
        asked_again: prompts of units that were finished, or nearly, whose failed rows are asked again; not in
            prompts_done.
        longest_prompt: bytes of the longest prompt (`measure_prompts`), which no tokenizer makes more tokens of.
    """

    units_total: int = 0
    units_done: int = 0
    prompts_total: int = 0
    prompts_done: int = 0
    prompt_tokens: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    output_tokens_per_s: float | None = None
    per_replica: bool = False
    again: str = ""
    asked_again: int = 0
    longest_prompt: int | None = None


@dataclass(frozen=True, slots=True)
class Assumptions:
    """Factors on what is assumed; 1: as planned."""

    prompt_length: float = 1.0
    output_length: float = 1.0
    judgement_length: float = 1.0
    efficiency: float = 1.0


@dataclass(frozen=True, slots=True)
class StageWork:
    """What one stage still has to do. Token numbers are means: of one request's prompt, of one completion.

    Attributes:
        kind: of its table. key: dotted key of its model. prompts: that are not finished yet.
        requests: of all of them; completions: of one request.
        measured: what of (input, output) finished units measured.
        again: why finished units are made again; empty: none is.
        asked_again: of `prompts`, those whose rows failed at an earlier start.
        bound: tokens that no sequence exceeds, prompt and completion; None: the data are not known.
    """

    name: str
    kind: Kind
    key: str
    model: ModelConfig
    units_total: int
    units_done: int
    prompts: int
    requests: float
    completions: int
    input_tokens: float
    output_tokens: float
    max_output_tokens: float
    measured: tuple[str, ...] = ()
    output_tokens_per_s: float | None = None
    per_replica: bool = False
    again: str = ""
    asked_again: int = 0
    bound: int | None = None

    @property
    def total_input_tokens(self) -> float:
        """Prompt tokens of all requests, each request once."""
        return self.requests * self.input_tokens

    @property
    def total_output_tokens(self) -> float:
        """Tokens of all completions."""
        return self.requests * self.completions * self.output_tokens

    @property
    def bill(self) -> Bill:
        """What an endpoint counts: it is sent each sample's prompt."""
        from synthgen.records import Bill

        samples = self.requests * self.completions
        return Bill(
            requests=round(samples),
            input_tokens=round(samples * self.input_tokens),
            output_tokens=round(self.total_output_tokens),
        )

    @property
    def lengths(self) -> Lengths:
        """The lengths that an engine for this stage is planned with."""
        longest = math.ceil(2 * self.input_tokens + self.max_output_tokens)
        return Lengths(self.input_tokens, self.output_tokens, longest, self.input_tokens / self.completions, self.bound)


def list_work(
    config: Config, ledger: Mapping[str, StageLedger] | None = None, assumed: Assumptions | None = None
) -> list[StageWork]:
    """Return the work of each stage: of the preference flow generators, verifiers, judge; or the task's."""
    ledger = ledger or {}
    assumed = assumed or Assumptions()
    if config.pipeline == "task":
        return [_task_work(config, ledger, assumed)]
    stages = [_generator_work(config, name, ledger, assumed) for name in config.generators]
    scorers = [_verifier_work(config, name, stages, ledger) for name in list_code_scorers(config)]
    judge = [_judge_work(config, stages, ledger, assumed)] if config.judge.enabled else []
    return [*stages, *scorers, *judge]


def list_models_used(config: Config) -> dict[str, tuple[str, ModelConfig]]:
    """Return (dotted key, model) by stage name."""
    if config.pipeline == "task":
        return {TASK: ("task.model", config.task.model)}
    models = {
        name_generations(name): (f"generators.{name}.model", one.model)
        if one.path is None
        else (f"generators.{name}.path", CODE_MODEL)
        for name, one in config.generators.items()
    }
    models |= {name_scores(name): (f"scorers.{name}", CODE_MODEL) for name in list_code_scorers(config)}
    return {**models, JUDGE: ("judge.model", config.judge.model)} if config.judge.enabled else models


def _generator_work(config: Config, name: str, ledger: Mapping[str, StageLedger], assumed: Assumptions) -> StageWork:
    generator = config.generators[name]
    given = generator.path is not None
    stage = name_generations(name)
    entry = ledger.get(stage, StageLedger())
    extra = CHAT_TOKENS + len(generator.system_prompt or "") / 4
    prompt = _prompt_tokens(ledger) * assumed.prompt_length + extra
    most = float(generator.sampling.max_tokens + (generator.sampling.thinking_budget or 0))
    output = config.plan.output_tokens if config.plan.output_tokens is not None else most / 2
    if entry.output_tokens is not None:
        output = entry.output_tokens
    prompts = _prompts_left(config, entry)
    bound = None
    if entry.longest_prompt is not None:
        written = len((generator.system_prompt or "").encode()) + len((generator.model.chat_template or "").encode())
        bound = math.ceil(entry.longest_prompt + written + TEMPLATE_BOUND + most)
    return StageWork(
        name=stage,
        kind="generations",
        key=f"generators.{name}.path" if given else f"generators.{name}.model",
        model=CODE_MODEL if given else generator.model,
        units_total=entry.units_total or _count_units(config, entry),
        units_done=entry.units_done,
        prompts=prompts,
        requests=0 if given else prompts,  # of completions that exist nothing is asked
        completions=generator.n,
        bound=bound,
        input_tokens=_scale(entry.input_tokens, assumed.prompt_length) or prompt,
        output_tokens=max(1.0, min(most, output * assumed.output_length)),
        max_output_tokens=most,
        measured=_list_measured(entry),
        output_tokens_per_s=_scale(entry.output_tokens_per_s, assumed.efficiency),
        per_replica=entry.per_replica,
        again=entry.again,
        asked_again=entry.asked_again,
    )


def _judge_work(
    config: Config, generators: list[StageWork], ledger: Mapping[str, StageLedger], assumed: Assumptions
) -> StageWork:
    judge = config.judge
    entry = ledger.get(JUDGE, StageLedger())
    shown = sum(stage.completions for stage in generators)
    written = sum(stage.completions * stage.output_tokens for stage in generators)
    groups = max(1, shown if judge.mode is JudgeMode.pointwise else math.ceil(shown / max(1, judge.max_listwise)))
    texts = shown / groups
    prompt = _prompt_tokens(ledger) * assumed.prompt_length
    output = texts * RATING_TOKENS[judge.rationale] * assumed.judgement_length
    if entry.output_tokens is not None:
        output = entry.output_tokens * assumed.judgement_length
    most = float(judge.max_tokens) if judge.max_tokens else output * 2
    thought = _judge_thought(judge)
    most += thought
    if entry.output_tokens is None:
        output += thought / 2
    bound = None
    if entry.longest_prompt is not None:
        rubrics = sum(len(aspect.rubric.encode()) for aspect in judge.aspect.values())
        longest = max((stage.max_output_tokens for stage in generators), default=0.0)
        shown_bound = entry.longest_prompt + FOREIGN_TOKENS * longest * math.ceil(texts)
        answer = max(judge.max_tokens or 0, 1024, RATING_BYTES[judge.rationale] * math.ceil(texts))
        answer += math.ceil(thought * 2**judge.max_retries)  # a thought that is cut off gets twice the room
        bound = math.ceil(shown_bound + JUDGE_TEMPLATE_BOUND + rubrics + TEMPLATE_BOUND + 2 * answer)
    prompts = _prompts_left(config, entry)
    return StageWork(
        name=JUDGE,
        kind="judgements",
        key="judge.model",
        model=judge.model,
        units_total=entry.units_total or _count_units(config, entry),
        units_done=entry.units_done,
        prompts=prompts,
        requests=prompts * len(judge.aspects) * judge.orders * groups * (1 + judge.planted_share),
        completions=1,
        bound=bound,
        input_tokens=entry.input_tokens or JUDGE_TEMPLATE_TOKENS + prompt + written / groups,
        output_tokens=max(1.0, min(most, output)),
        max_output_tokens=most,
        measured=_list_measured(entry),
        output_tokens_per_s=_scale(entry.output_tokens_per_s, assumed.efficiency),
        per_replica=entry.per_replica,
        again=entry.again,
        asked_again=entry.asked_again,
    )


def _judge_thought(judge: JudgeConfig) -> int:
    """Return the most tokens of a thought before a judgement, where the judge is known to think."""
    if judge.thinking_budget is not None:
        return judge.thinking_budget
    known = judge.model.reasoning_parser not in ("auto", "none")
    thinks = judge.model.thinking is True or (known and judge.model.thinking is None)
    return JUDGE_THINKING_BUDGET if thinks and not judge.model.served_by.is_service else 0


def _verifier_work(
    config: Config, name: str, generators: list[StageWork], ledger: Mapping[str, StageLedger]
) -> StageWork:
    """Return the work of a scorer that runs code: a check of each completion, and no tokens."""
    entry = ledger.get(name_scores(name), StageLedger())
    prompts = _prompts_left(config, entry)
    return StageWork(
        name=name_scores(name),
        kind="scores",
        key=f"scorers.{name}",
        model=CODE_MODEL,
        units_total=entry.units_total or _count_units(config, entry),
        units_done=entry.units_done,
        prompts=prompts,
        requests=prompts * sum(s.completions for s in generators) if config.scorers[name].type == VERIFIER else 0,
        completions=1,
        input_tokens=0.0,
        output_tokens=0.0,
        max_output_tokens=0.0,
        again=entry.again,
        asked_again=entry.asked_again,
    )


def _task_work(config: Config, ledger: Mapping[str, StageLedger], assumed: Assumptions) -> StageWork:
    task = config.task
    entry = ledger.get(TASK, StageLedger())
    prompt = _prompt_tokens(ledger) * assumed.prompt_length + TASK_TEMPLATE_TOKENS
    most = float(task.sampling.max_tokens + (task.sampling.thinking_budget or 0))
    output = config.plan.output_tokens if config.plan.output_tokens is not None else most / 2
    if entry.output_tokens is not None:
        output = entry.output_tokens
    prompts = _prompts_left(config, entry)
    return StageWork(
        name=TASK,
        kind="task",
        key="task.model",
        model=task.model,
        units_total=entry.units_total or _count_units(config, entry),
        units_done=entry.units_done,
        prompts=prompts,
        requests=prompts,
        completions=task.n,
        input_tokens=_scale(entry.input_tokens, assumed.prompt_length) or prompt,
        output_tokens=max(1.0, min(most, output * assumed.output_length)),
        max_output_tokens=most,
        measured=_list_measured(entry),
        output_tokens_per_s=_scale(entry.output_tokens_per_s, assumed.efficiency),
        per_replica=entry.per_replica,
        again=entry.again,
        asked_again=entry.asked_again,
    )


def _prompt_tokens(ledger: Mapping[str, StageLedger]) -> float:
    known = [entry.prompt_tokens for entry in ledger.values() if entry.prompt_tokens is not None]
    return known[0] if known else DEFAULT_PROMPT_TOKENS


def _scale(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _prompts_left(config: Config, entry: StageLedger) -> int:
    total = entry.prompts_total or config.prompts.limit or DEFAULT_PROMPTS
    if entry.prompts_done or not entry.units_total:
        return max(0, total - entry.prompts_done)
    return math.ceil(total * (entry.units_total - entry.units_done) / entry.units_total)


def _count_units(config: Config, entry: StageLedger) -> int:
    total = entry.prompts_total or config.prompts.limit or DEFAULT_PROMPTS
    return math.ceil(total / config.run.unit_size)


def _list_measured(entry: StageLedger) -> tuple[str, ...]:
    named = (("input", entry.input_tokens), ("output", entry.output_tokens), ("speed", entry.output_tokens_per_s))
    return tuple(name for name, value in named if value is not None)
