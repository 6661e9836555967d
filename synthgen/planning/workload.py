"""The work of a run in requests and tokens: a configuration and what the run directory already holds in, stages out.

What is not measured is assumed, and each assumption is named: `Assumptions` scales them, so that a plan can say what a
wrong one would cost.

One file because each stage's work stands on that of the stages before it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthgen.config import (
    JUDGE_THINKING_BUDGET,
    Config,
    GeneratorTurns,
    JudgeConfig,
    JudgeMode,
    ModelConfig,
    Rationale,
)
from synthgen.config.scorers import (
    CODE_MODEL,
    GUARD,
    RECORDED,
    find_scorer_model,
    list_known_scorers,
    looks_at_prompts,
)
from synthgen.config.stage_names import HISTORY, JUDGE, TASK, Kind, name_generations, name_scores
from synthgen.planning.fit import Lengths

if TYPE_CHECKING:
    from synthgen.records import Bill

DEFAULT_PROMPTS = 1000
DEFAULT_PROMPT_TOKENS = 250.0
"""Prompts of a run whose prompt table has not been read, and tokens of a prompt of unknown length."""
CHAT_TOKENS = 20.0
"""What a chat template adds to a prompt."""
JUDGE_TEMPLATE_TOKENS = 600.0
"""UltraFeedback's instructions and rubric (300 to 600 tokens, by aspect), and the boundaries (100 to 150)."""
GUARD_TEMPLATE_TOKENS = 220.0
"""Llama Guard 3's task, the names of its categories and what it is asked (a tokenizer's own template may say more)."""
GUARD_TOKENS = 5.0
"""What a guard writes: mostly one word."""
GUARD_BOUND = 64
"""The most that it may write (`stages/guard.py`), tokens."""
GUARD_TEMPLATE_BOUND = 8192
"""What a guard's instructions and categories may have, bytes."""
TASK_TEMPLATE_TOKENS = 300.0
"""What a distilabel task writes around a prompt (its templates have 50 to 700 tokens)."""
TEMPLATE_BOUND = 1024
"""What a chat template may add to a prompt, with a system prompt of its own, tokens."""
JUDGE_TEMPLATE_BOUND = 6144
"""What a judge's instructions, rubric and complaint may have, bytes."""
FRAME_BOUND = 192
"""What stands around each text that a judge is shown, bytes."""
FOREIGN_TOKENS = 4
"""A judge's vocabulary may cut a generator's token into so many."""
RATING_BYTES = {Rationale.full: 480 * 4 + 256, Rationale.short: 160 * 4 + 256, Rationale.none: 256}
"""What a judgement may have for each text (`judge/form.py`, RATIONALE_CHARACTERS of four bytes), bytes."""
RATING_TOKENS = {Rationale.full: 110.0, Rationale.short: 45.0, Rationale.none: 6.0}
"""What the judge writes for each text: header, rating and rationale."""
_THINK_WHEN_TOLD = frozenset({"deepseek_v3", "gemma4", "granite", "hy_v3", "mistral"})
"""Reasoning parsers of families that think only when they are told to."""


@dataclass(frozen=True, slots=True)
class FlowStage:
    """What a flow says of a stage, as far as planning asks; one of the user's own is planned by this alone.

    Attributes:
        inputs: names of the tables that it reads. kind: of its own; None: a table that nobody else reads.
        sequences: for one prompt. max_tokens: of one completion.
    """

    model: ModelConfig
    inputs: tuple[str, ...] = ()
    kind: Kind | None = None
    sequences: int = 1
    max_tokens: int = 1024


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
        speed_ratio: (GPUs of a replica, measured speed over the planned one), of this model on this kind of GPU with
            other settings or lengths; None: not measured.
        asked_again: prompts of units that were finished, or nearly, whose failed rows are asked again; not in
            prompts_done.
        taken: prompts whose rows other runs hold (`run.reuse`); they are in prompts_done.
        longest_prompt: bytes of the longest prompt (`prompts.sizes`), which no tokenizer makes more tokens of.
        file_bytes: of this stage's unit files per prompt, measured; None: nothing finished.
        prompt_file_bytes, dataset_bytes: of `prompts/` and of the data set that is there, per prompt; None: none is.
        free_bytes: on the disk of the run directory; None: not known.
        open_turns: turns of a prompt that the stage `history` answers, mean; of no meaning to other stages.
        flow: what the flow says of the stage; None in all of them: the configuration says what stages there are.
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
    speed_ratio: tuple[int, float] | None = None
    again: str = ""
    asked_again: int = 0
    taken: int = 0
    longest_prompt: int | None = None
    file_bytes: float | None = None
    prompt_file_bytes: float | None = None
    dataset_bytes: float | None = None
    free_bytes: int | None = None
    open_turns: float = 1.0
    flow: FlowStage | None = None


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
        kind: of its table; None: one that only the user's own pipeline knows.
        key: dotted key of its model. prompts: that are not finished yet.
        requests: of all of them; completions: of one request.
        measured: what of (input, output) finished units measured.
        again: why finished units are made again; empty: none is.
        asked_again: of `prompts`, those whose rows failed at an earlier start.
        taken: prompts whose rows other runs hold; they are not in `prompts`.
        bound: tokens that no sequence exceeds, prompt and completion; None: the data are not known.
        per_prompt: completions of a prompt, mean over all (`generators_per_prompt` leaves some without).
    """

    name: str
    kind: Kind | None
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
    speed_ratio: tuple[int, float] | None = None
    again: str = ""
    asked_again: int = 0
    taken: int = 0
    bound: int | None = None
    per_prompt: float = 0.0

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
    """Return the work of each stage: those that the ledger says that the flow has; where it says nothing, of the
    preference flow generators, verifiers, judge, or the task's."""
    ledger = ledger or {}
    assumed = assumed or Assumptions()
    flow = {name: entry.flow for name, entry in ledger.items() if entry.flow is not None}
    if flow:
        return _flow_work(config, flow, ledger, assumed)
    if config.pipeline == "task":
        return [_task_work(config, ledger, assumed)]
    stages = [_generator_work(config, name, ledger, assumed) for name in config.generators]
    scorers = [_scorer_work(config, name, stages, ledger, assumed) for name in list_known_scorers(config)]
    judge = [_judge_work(config, stages, ledger, assumed)] if config.judge.enabled else []
    return [*stages, *scorers, *judge]


def _flow_work(
    config: Config, flow: Mapping[str, FlowStage], ledger: Mapping[str, StageLedger], assumed: Assumptions
) -> list[StageWork]:
    """Return the work of the stages of a flow; those that the configuration knows are planned by it."""
    generators = {name_generations(name): name for name in config.generators}
    scorers = {name_scores(name): name for name in list_known_scorers(config)}
    done: dict[str, StageWork] = {}
    for name, stage in flow.items():
        read = [done[source] for source in stage.inputs if source in done]
        written = [work for work in read if work.kind == "generations"]
        if name == HISTORY:
            done[name] = _history_work(config, stage, ledger, assumed)
        elif name in generators and stage.kind == "generations":
            done[name] = _generator_work(config, generators[name], ledger, assumed)
        elif name in scorers and stage.kind == "scores":
            done[name] = _scorer_work(config, scorers[name], written, ledger, assumed)
        elif name == JUDGE and stage.kind == "judgements" and config.judge.enabled:
            done[name] = _judge_work(config, written, ledger, assumed)
        elif name == TASK and config.pipeline == "task":
            done[name] = _task_work(config, ledger, assumed)
        else:
            done[name] = _own_work(config, name, stage, read, ledger, assumed)
    return list(done.values())


def list_models_used(
    config: Config, ledger: Mapping[str, StageLedger] | None = None
) -> dict[str, tuple[str, ModelConfig]]:
    """Return (dotted key, model) by stage name."""
    known = _list_models(config)
    flow = {name: entry.flow for name, entry in (ledger or {}).items() if entry.flow is not None}
    if not flow:
        return known
    keys = dict(known.values())
    return {
        name: known.get(name)
        or (next((key for key, model in keys.items() if model == stage.model), f"{name}.model"), stage.model)
        for name, stage in flow.items()
    }


def _list_models(config: Config) -> dict[str, tuple[str, ModelConfig]]:
    if config.pipeline == "task":
        return {TASK: ("task.model", config.task.model)}
    models = {
        name_generations(name): (f"generators.{name}.model", one.model)
        if one.path is None
        else (f"generators.{name}.path", CODE_MODEL)
        for name, one in config.generators.items()
    }
    models |= {name_scores(name): _find_scorer(config, name) for name in list_known_scorers(config)}
    return {**models, JUDGE: ("judge.model", config.judge.model)} if config.judge.enabled else models


def _generator_work(config: Config, name: str, ledger: Mapping[str, StageLedger], assumed: Assumptions) -> StageWork:
    generator = config.generators[name]
    given = generator.path is not None
    stage = name_generations(name)
    entry = ledger.get(stage, StageLedger())
    said = [len(text) for text in generator.principles]
    extra = CHAT_TOKENS + (len(generator.system_prompt or "") + sum(said) / max(1, len(said))) / 4
    each = 1 if said else generator.n  # completions of a request: with principles each has a system message of its own
    prompt = _prompt_tokens(config, ledger, assumed) + extra
    most = float(generator.sampling.max_tokens + (generator.sampling.thinking_budget or 0))
    output = config.plan.output_tokens if config.plan.output_tokens is not None else most / 2
    if entry.output_tokens is not None:
        output = entry.output_tokens
    prompts = _prompts_left(config, entry)
    pool = sum(one.path is None for one in config.generators.values())
    share = 1.0 if given or config.generators_per_prompt is None else config.generators_per_prompt / pool
    bound = None
    if entry.longest_prompt is not None:
        longest = max([0, *(len(text.encode()) for text in generator.principles)])
        written = longest + sum(
            len((text or "").encode()) for text in (generator.system_prompt, generator.model.chat_template)
        )
        bound = math.ceil(entry.longest_prompt + written + TEMPLATE_BOUND + most)
    return StageWork(
        name=stage,
        kind="generations",
        key=f"generators.{name}.path" if given else f"generators.{name}.model",
        model=CODE_MODEL if given else generator.model,
        prompts=prompts,
        requests=0 if given else prompts * share * generator.n / each,  # of completions that exist nothing is asked
        completions=each,
        bound=bound,
        input_tokens=_scale(entry.input_tokens, assumed.prompt_length) or prompt,
        output_tokens=max(1.0, min(most, output * assumed.output_length)),
        max_output_tokens=most,
        **_told(config, entry, assumed),
        per_prompt=generator.n * share,
    )


def _judge_work(
    config: Config, generators: list[StageWork], ledger: Mapping[str, StageLedger], assumed: Assumptions
) -> StageWork:
    judge = config.judge
    entry = ledger.get(JUDGE, StageLedger())
    shown = sum(stage.per_prompt for stage in generators)
    written = sum(stage.per_prompt * stage.output_tokens for stage in generators)
    groups = max(1, shown if judge.mode is JudgeMode.pointwise else math.ceil(shown / max(1, judge.max_listwise)))
    texts = shown / groups
    prompt = _prompt_tokens(config, ledger, assumed)
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
        shown_bound = entry.longest_prompt + (FOREIGN_TOKENS * longest + FRAME_BOUND) * math.ceil(texts)
        answer = max(judge.max_tokens or 0, 1024, RATING_BYTES[judge.rationale] * math.ceil(texts))
        answer += math.ceil(thought * 2**judge.max_retries)  # a thought that is cut off gets twice the room
        bound = math.ceil(shown_bound + JUDGE_TEMPLATE_BOUND + rubrics + TEMPLATE_BOUND + 2 * answer)
    prompts = _prompts_left(config, entry)
    return StageWork(
        name=JUDGE,
        kind="judgements",
        key="judge.model",
        model=judge.model,
        prompts=prompts,
        requests=prompts * len(judge.aspects) * judge.orders * groups * (1 + judge.planted_share),
        completions=1,
        bound=bound,
        input_tokens=entry.input_tokens or JUDGE_TEMPLATE_TOKENS + prompt + written / groups,
        output_tokens=max(1.0, min(most, output)),
        max_output_tokens=most,
        **_told(config, entry, assumed),
    )


def _judge_thought(judge: JudgeConfig) -> int:
    """Return the most tokens of a thought before a judgement, where the judge is known to think."""
    if judge.thinking_budget is not None:
        return judge.thinking_budget
    parser, told = judge.model.named_parser, bool(judge.model.chat_template_kwargs)
    known = parser not in ("auto", "none") and (told or parser not in _THINK_WHEN_TOLD)
    thinks = judge.model.thinking is True or (known and judge.model.thinking is None)
    return JUDGE_THINKING_BUDGET if thinks and not judge.model.served_by.is_service else 0


def _find_scorer(config: Config, name: str) -> tuple[str, ModelConfig]:
    """Return (dotted key, model) of a scorer that the configuration knows."""
    model = find_scorer_model(config.scorers[name])
    assert model is not None
    return (f"scorers.{name}" if model == CODE_MODEL else f"scorers.{name}.model"), model


def _scorer_work(
    config: Config,
    name: str,
    generators: list[StageWork],
    ledger: Mapping[str, StageLedger],
    assumed: Assumptions,
) -> StageWork:
    """Return the work of a scorer: a check of each completion, or of each prompt. Code takes no tokens, a classifier
    reads and writes none, a guard writes a word and its categories."""
    scorer, entry = config.scorers[name], ledger.get(name_scores(name), StageLedger())
    key, model = _find_scorer(config, name)
    prompts = _prompts_left(config, entry)
    shown = 1.0 if looks_at_prompts(scorer) else sum(s.per_prompt for s in generators)
    if model == CODE_MODEL:
        tokens, output, most, bound = 0.0, 0.0, 0.0, None
    else:
        tokens, bound = _scored_tokens(config, name, generators, ledger, assumed)
        output, most = (GUARD_TOKENS, float(GUARD_BOUND)) if scorer.type == GUARD else (0.0, 0.0)
        output = output if entry.output_tokens is None else min(most, entry.output_tokens)
    return StageWork(
        name=name_scores(name),
        kind="scores",
        key=key,
        model=model,
        prompts=prompts,
        requests=0 if scorer.type == RECORDED else prompts * shown,
        completions=1,
        input_tokens=tokens if entry.input_tokens is None or model == CODE_MODEL else entry.input_tokens,
        output_tokens=output,
        max_output_tokens=most,
        bound=bound,
        **(_told(config, entry, assumed) if model != CODE_MODEL else _told_by_code(config, entry)),
    )


def _scored_tokens(
    config: Config,
    name: str,
    generators: list[StageWork],
    ledger: Mapping[str, StageLedger],
    assumed: Assumptions,
) -> tuple[float, int | None]:
    """Return the tokens of a request of a scorer with a model, and what none of them exceeds (None: not known)."""
    scorer, entry = config.scorers[name], ledger.get(name_scores(name), StageLedger())
    template = GUARD_TEMPLATE_TOKENS if scorer.type == GUARD else CHAT_TOKENS
    written = sum(stage.per_prompt * stage.output_tokens for stage in generators)
    answer = written / max(1.0, sum(stage.per_prompt for stage in generators))
    longest = max((stage.max_output_tokens for stage in generators), default=0.0)
    if looks_at_prompts(scorer):
        answer = longest = 0.0
    bound = None
    if entry.longest_prompt is not None:
        bound = math.ceil(entry.longest_prompt + FOREIGN_TOKENS * longest + TEMPLATE_BOUND + GUARD_TEMPLATE_BOUND)
    return template + _prompt_tokens(config, ledger, assumed) + answer, bound


def _own_work(
    config: Config,
    name: str,
    stage: FlowStage,
    read: list[StageWork],
    ledger: Mapping[str, StageLedger],
    assumed: Assumptions,
) -> StageWork:
    """Return the work of a stage of the user's own: each request is taken to hold the prompt, and a completion of each
    stage that it reads."""
    entry = ledger.get(name, StageLedger())
    most = float(stage.max_tokens)
    output = config.plan.output_tokens if config.plan.output_tokens is not None else most / 2
    output = (entry.output_tokens if entry.output_tokens is not None else output) * assumed.output_length
    prompt = CHAT_TOKENS + _prompt_tokens(config, ledger, assumed) + sum(one.output_tokens for one in read)
    prompts = _prompts_left(config, entry)
    makes_text = not stage.model.served_by.runs_code
    return StageWork(
        name=name,
        kind=stage.kind,
        key=f"{name}.model",
        model=stage.model,
        prompts=prompts,
        requests=prompts * stage.sequences,
        completions=1,
        input_tokens=(_scale(entry.input_tokens, assumed.prompt_length) or prompt) if makes_text else 0.0,
        output_tokens=max(1.0, min(most, output)) if makes_text else 0.0,
        max_output_tokens=most if makes_text else 0.0,
        per_prompt=stage.sequences,
        **_told(config, entry, assumed),
    )


def _task_work(config: Config, ledger: Mapping[str, StageLedger], assumed: Assumptions) -> StageWork:
    task = config.task
    entry = ledger.get(TASK, StageLedger())
    prompt = _prompt_tokens(config, ledger, assumed) + TASK_TEMPLATE_TOKENS
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
        prompts=prompts,
        requests=prompts,
        completions=task.n,
        input_tokens=_scale(entry.input_tokens, assumed.prompt_length) or prompt,
        output_tokens=max(1.0, min(most, output * assumed.output_length)),
        max_output_tokens=most,
        **_told(config, entry, assumed),
    )


def _told(config: Config, entry: StageLedger, assumed: Assumptions) -> dict[str, Any]:
    """Return the fields of StageWork that the ledger alone tells, of whichever stage a model serves."""
    return {
        "units_total": entry.units_total or _count_units(config, entry),
        "units_done": entry.units_done,
        "measured": _list_measured(entry),
        "output_tokens_per_s": _scale(entry.output_tokens_per_s, assumed.efficiency),
        "per_replica": entry.per_replica,
        "speed_ratio": entry.speed_ratio,
        "again": entry.again,
        "asked_again": entry.asked_again,
        "taken": entry.taken,
    }


def _told_by_code(config: Config, entry: StageLedger) -> dict[str, Any]:
    """Return the same of a stage that takes no tokens: its speed says nothing."""
    told = _told(config, entry, Assumptions())
    return {**told, "measured": (), "output_tokens_per_s": None, "per_replica": False}


def _prompt_tokens(
    config: Config, ledger: Mapping[str, StageLedger], assumed: Assumptions, *, filled: bool = True
) -> float:
    """Return the mean tokens of a prompt, with the answers to its turns before the last where `filled`."""
    known = [entry.prompt_tokens for entry in ledger.values() if entry.prompt_tokens is not None]
    prompt = (known[0] if known else DEFAULT_PROMPT_TOKENS) * assumed.prompt_length
    history = ledger.get(HISTORY)
    if not filled or history is None or history.flow is None:
        return prompt
    return prompt + history.open_turns * _turn_tokens(config, history, assumed)


def _turn_tokens(config: Config, history: StageLedger, assumed: Assumptions) -> float:
    """Return the mean tokens of an answer to a turn before the last. Units measure the sum of a prompt's."""
    most = float(history.flow.max_tokens) if history.flow is not None else 0.0
    output = config.plan.output_tokens if config.plan.output_tokens is not None else most / 2
    if history.output_tokens is not None and history.open_turns > 0:
        output = history.output_tokens / history.open_turns
    return max(1.0, min(most, output * assumed.output_length))


def _history_work(
    config: Config, stage: FlowStage, ledger: Mapping[str, StageLedger], assumed: Assumptions
) -> StageWork:
    """Return the work of the stage that answers the turns before the last: a request for each of them, one after the
    other, each with those before it."""
    entry = ledger.get(HISTORY, StageLedger(flow=stage))
    output = _turn_tokens(config, entry, assumed)
    prompt = CHAT_TOKENS + _prompt_tokens(config, ledger, assumed, filled=False)
    prompts = _prompts_left(config, entry)
    most = float(stage.max_tokens)
    bound = None if entry.longest_prompt is None else math.ceil(entry.longest_prompt + TEMPLATE_BOUND + most)
    return StageWork(
        name=HISTORY,
        kind=None,
        key=next(
            (f"generators.{name}.model" for name, one in config.generators.items() if one.turns is GeneratorTurns.all),
            f"{HISTORY}.model",
        ),
        model=stage.model,
        prompts=prompts,
        requests=prompts * entry.open_turns,
        completions=1,
        input_tokens=_scale(entry.input_tokens, assumed.prompt_length) or prompt + output * entry.open_turns / 2,
        output_tokens=output,
        max_output_tokens=most,
        bound=bound,
        **_told(config, entry, assumed),
    )


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
