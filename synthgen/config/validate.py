"""Checks that types cannot make: ranges, and keys that only fail together. Each error names the dotted key, its value
and the mend.

What a room alone can judge is checked by the room when a pipeline builds its flow: `pairs/settings.py`,
`export/dataset.py` (`check_export`), `stages/judge.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from synthgen.config import (
    Config,
    ExportColumns,
    ExportReasoning,
    JudgeConfig,
    JudgeMode,
    ModelConfig,
    SamplingConfig,
)
from synthgen.config.engine_type import ENGINES
from synthgen.config.sampling import list_sampling_problems
from synthgen.config.scorers import list_misplaced_models, list_scorer_models, list_scoring_problems, looks_at_prompts
from synthgen.config.stage_names import OTHER_JUDGE, SIDE
from synthgen.config.turns import list_turn_problems
from synthgen.errors import ConfigError

ULTRAFEEDBACK_ASPECTS = ("helpfulness", "honesty", "instruction-following", "truthfulness", "overall-rating")


def validate_config(config: Config, *, judge_only: bool = False) -> None:
    """Raise ConfigError for the first thing in `config` that cannot work; `judge_only`: there are no generators.

    Only the parts that `config.pipeline` uses are looked at: a task has no judge, and an own pipeline may have none.
    """
    for problem in _problems(config, judge_only):
        raise ConfigError(problem)


def _problems(config: Config, judge_only: bool) -> Iterator[str]:
    if config.judge.enabled:
        ENGINES.check(config.judge.model.engine, "judge.model.engine")
    ENGINES.check(config.task.model.engine, "task.model.engine")
    ENGINES.check(config.prove.model.engine, "prove.model.engine")
    for name, scorer in config.scorers.items():
        ENGINES.check(scorer.model.engine, f"scorers.{name}.model.engine")
    for name, generator in config.generators.items():
        ENGINES.check(generator.model.engine, f"generators.{name}.model.engine")
    yield from _run_problems(config)
    if config.pipeline == "task" and not judge_only:
        yield from _task_problems(config)
        return
    if not judge_only:
        yield from _generator_problems(config)
    yield from _scorer_problems(config)
    if not config.judge.enabled:
        if judge_only:
            yield "judge=none leaves no judge to evaluate; give model@judge.model=<name>"
        return
    if judge_only or config.pipeline == "preference":
        yield from _model_problems("judge.model", config.judge.model)
    yield from _judge_problems(config)


def _run_problems(config: Config) -> Iterator[str]:
    run = config.run
    yield from _at_least("run.unit_size", run.unit_size, 1)
    yield from _at_least("run.grace_s", run.grace_s, 0)
    yield from _at_least("run.lease_s", run.lease_s, 3)
    yield from _at_least("storage.retry_s", config.storage.retry_s, 0)
    yield from _at_least("cluster.ray_start_timeout_s", config.cluster.ray_start_timeout_s, 10)
    if config.prompts.limit is not None:
        yield from _at_least("prompts.limit", config.prompts.limit, 1)
    yield from _fraction("run.max_failed_fraction", run.max_failed_fraction)
    yield from _fraction("prompts.max_bad_fraction", config.prompts.max_bad_fraction)
    yield from _at_least("preview.prompts", config.preview.prompts, 1)
    yield from _at_least("calibrate.units", config.calibrate.units, 1)
    key = config.export.reasoning_key
    if not key.isidentifier() or key in ("role", "content"):
        yield (
            f"export.reasoning_key={key!r} cannot name a field of a turn beside role and content; "
            "take the one that the chat template reads, such as reasoning_content or thinking"
        )
    if config.pipeline == "task" and config.export.reasoning is not ExportReasoning.drop:
        yield f"export.reasoning={config.export.reasoning.value} is for preference data, not for a task's; leave it out"
    yield from _prove_problems(config)
    yield from _at_least("cluster.max_load_attempts", config.cluster.max_load_attempts, 1)
    yield from _at_least("cluster.stall_timeout_s", config.cluster.stall_timeout_s, 5)


def _prove_problems(config: Config) -> Iterator[str]:
    prove = config.prove
    for field in ("steps", "prompts", "answers", "side_prompts"):
        yield from _at_least(f"prove.{field}", getattr(prove, field), 1)
    if not 0 < prove.holdout < 1:
        yield f"prove.holdout={prove.holdout:g} must be above 0 and below 1: a share of the prompts is held out"
    if prove.dtype not in ("bfloat16", "float32"):
        yield f"prove.dtype={prove.dtype} must be bfloat16 or float32"
    for name, (key, model) in list_scorer_models(prove.scorers, "prove.scorers").items():
        yield from _model_problems(key, model)
        yield from list_scoring_problems(f"prove.scorers.{name}", prove.scorers[name], key, model)
        if looks_at_prompts(prove.scorers[name]):
            yield f"prove.scorers.{name}.reads=prompt tells no answers apart; take reads=completion"
    for name in prove.scorers:
        yield from list_misplaced_models(f"prove.scorers.{name}", prove.scorers[name])
        if name in config.scorers or name in ("judge", OTHER_JUDGE, SIDE):
            yield f"prove.scorers.{name}: that name is taken by a scorer of the run; take another name"
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
            yield f"prove.scorers.{name}: a scorer's name is made of letters, digits, '_', '-' and '.'"
    if prove.judge.enabled:
        yield from _model_problems("prove.judge.model", prove.judge.model)


def _generator_problems(config: Config) -> Iterator[str]:
    if not config.generators and config.pipeline == "preference":
        yield "generators is empty; add one with +model@generators.main.model=<name>, or take experiment=demo"
    for name, generator in config.generators.items():
        key = f"generators.{name}"
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
            yield f"{key}: a generator's name is made of letters, digits, '_', '-' and '.'"
        if generator.path is not None:
            continue
        for field in ("column", "model_column"):
            if getattr(generator, field) is not None:
                yield f"{key}.{field}={getattr(generator, field)} is for completions that exist; give {key}.path=… too"
        yield from _sampling_problems(f"{key}.sampling", generator.sampling, generator.n, f"{key}.n", generator.model)
        yield from _model_problems(f"{key}.model", generator.model)
        if generator.adapter is not None and generator.adapter not in generator.model.adapters:
            known = ", ".join(generator.model.adapters) or "none"
            yield (
                f"{key}.adapter={generator.adapter} is none of {key}.model.adapters ({known}); "
                f"give {key}.model.adapters.{generator.adapter}=<Hub id or directory>"
            )
    yield from list_turn_problems(config)
    pool = [name for name, generator in config.generators.items() if generator.path is None]
    count = config.generators_per_prompt
    if count is not None and not 1 <= count <= len(pool):
        yield f"generators_per_prompt={count} must be from 1 to {len(pool)}, the generators that have a model"
    given = any(generator.path is not None for generator in config.generators.values())
    drawn = sorted(generator.n for generator in config.generators.values())[:count]
    total = sum(drawn)
    if not given and total == 1 and config.pipeline == "preference":
        name = next(iter(config.generators))
        yield f"generators.{name}.n=1 gives one completion per prompt in all: no pair is possible; set it to 2 or more"


def _scorer_problems(config: Config) -> Iterator[str]:
    for name, scorer in config.scorers.items():
        key = f"scorers.{name}"
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
            yield f"{key}: a scorer's name is made of letters, digits, '_', '-' and '.'"
        if name == "judge":
            yield f"{key}: judge is the name of the scorer that judge.* sets up; take another name"
        if scorer.timeout_s <= 0:
            yield f"{key}.timeout_s={scorer.timeout_s:g} must be above 0"
        yield from list_misplaced_models(key, scorer)
    for name, (key, model) in list_scorer_models(config.scorers).items():
        yield from _model_problems(key, model)
        yield from list_scoring_problems(f"scorers.{name}", config.scorers[name], key, model)


def _task_problems(config: Config) -> Iterator[str]:
    task = config.task
    if not task.path:
        yield "task.path is not set; give a dotted path such as task.path=distilabel.steps.tasks.ComplexityScorer"
    if config.export.columns is not ExportColumns.all:
        yield f"export.columns={config.export.columns.value} is for preference data, not for a task's; leave it out"
    yield from _sampling_problems("task.sampling", task.sampling, task.n, "task.n", task.model)
    yield from _model_problems("task.model", task.model)


def _model_problems(key: str, model: ModelConfig) -> Iterator[str]:
    if not model.name:
        yield f"{key} is not chosen; give model@{key}=<name>, with a name that synthgen models lists"
    if not model.id:
        yield f"{key}.id is not set; give it as {key}.id=…"
    for field in ("tensor_parallel_size", "pipeline_parallel_size", "replicas", "max_num_seqs", "max_model_len"):
        value = getattr(model, field)
        if value is not None:
            yield from _at_least(f"{key}.{field}", value, 1)
    if "reasoning_parser" in model.engine_args:
        parser = model.engine_args["reasoning_parser"]
        yield f"{key}.engine_args.reasoning_parser={parser} belongs in {key}.reasoning_parser; set it there"
    for name in sorted(_OF_THE_ENCODER.intersection(model.chat_template_kwargs)):
        yield f"{key}.chat_template_kwargs.{name} is set by synthgen for each prompt; leave it out"
    if model.served_by.is_service:
        yield from _endpoint_problems(key, model)
    if model.served_by.classifies and not key.startswith(("scorers.", "prove.scorers.")):
        yield f"{key}={model.name} classifies texts and writes none; name it at scorers.<name>.model"


def _endpoint_problems(key: str, model: ModelConfig) -> Iterator[str]:
    """Yield what an endpoint cannot honour: its server has loaded the model, and renders the prompts."""
    defaults = ModelConfig()
    for field in _ONLY_LOCAL:
        value = getattr(model, field)
        if value != getattr(defaults, field):
            shown = f"{value[:40]}…" if isinstance(value, str) and len(value) > 40 else value
            yield f"{key}.{field}={shown} has no effect on an endpoint; leave it out, or set it where the server runs"
    endpoint = model.endpoint
    yield from _at_least(f"{key}.endpoint.max_concurrency", endpoint.max_concurrency, 1)
    yield from _at_least(f"{key}.endpoint.max_retries", endpoint.max_retries, 0)
    yield from _at_least(f"{key}.endpoint.outage_s", endpoint.outage_s, 0)
    yield from _at_least(f"{key}.endpoint.max_output_tokens", endpoint.max_output_tokens, 0)
    yield from _at_least(f"{key}.endpoint.requests_per_minute", endpoint.requests_per_minute, 0)
    yield from _at_least(f"{key}.endpoint.tokens_per_minute", endpoint.tokens_per_minute, 0)
    if endpoint.timeout_s <= 0:
        yield f"{key}.endpoint.timeout_s={endpoint.timeout_s:g} must be above 0"
    for name, value in endpoint.extra_headers.items():
        if _SECRET_HEADER.search(name) and not str(value).startswith("env:"):
            yield f"{key}.endpoint.extra_headers.{name} holds a secret; give it as env:NAME"
    for field in ("input", "cached", "output"):
        value = getattr(endpoint, f"usd_per_million_{field}_tokens")
        if value is not None:
            yield from _at_least(f"{key}.endpoint.usd_per_million_{field}_tokens", value, 0)


_OF_THE_ENCODER = frozenset(
    {"add_generation_prompt", "chat_template", "continue_final_message", "conversation", "messages", "tokenize"}
)
_SECRET_HEADER = re.compile(r"auth|key|token|secret|cookie|password", re.IGNORECASE)
_ONLY_LOCAL = (
    "revision", "chat_template", "quantization", "dtype", "kv_cache_dtype", "load_format", "tokenizer",
    "tensor_parallel_size", "pipeline_parallel_size", "max_num_seqs", "max_num_batched_tokens",
    "gpu_memory_utilization", "kv_cache_memory_gib", "enable_prefix_caching", "enable_chunked_prefill",
    "enforce_eager", "trust_remote_code", "lora", "adapters", "engine_args", "reasoning_parser",
)  # fmt: skip


def _sampling_problems(key: str, sampling: SamplingConfig, n: int, n_key: str, model: ModelConfig) -> Iterator[str]:
    for token in sampling.logit_bias:
        if not token.isdigit():
            yield f"{key}.logit_bias: {token!r} is not a token id"
    yield from list_sampling_problems(key, sampling, n=n, n_key=n_key, one_by_one=model.served_by.is_service)
    if sampling.thinking_budget is not None and model.reasoning_parser == "none":
        yield (
            f"{key}.thinking_budget={sampling.thinking_budget} bounds nothing where the model's reasoning_parser=none; "
            "leave one of them out"
        )


def _judge_problems(config: Config) -> Iterator[str]:
    judge = config.judge
    known = [*ULTRAFEEDBACK_ASPECTS, *judge.aspect]
    if not judge.aspects:
        yield f"judge.aspects is empty; choose from {', '.join(known)}"
    if len(set(judge.aspects)) < len(judge.aspects):
        yield f"judge.aspects={judge.aspects} names an aspect twice"
    for aspect in judge.aspects:
        if aspect not in known:
            yield (
                f"judge.aspects: {aspect!r} is unknown; choose from {', '.join(known)}, "
                f"or write judge/aspect/{aspect}.yaml"
            )
    yield from _at_least("judge.orders", judge.orders, 1)
    yield from _at_least("judge.max_retries", judge.max_retries, 0)
    if judge.thinking_budget is not None:
        yield from _at_least("judge.thinking_budget", judge.thinking_budget, 1)
    if judge.mode is JudgeMode.listwise and not 2 <= judge.max_listwise <= 16:
        yield f"judge.max_listwise={judge.max_listwise} must be from 2 to 16"
    if judge.canary_fraction is not None:
        yield from _fraction("judge.canary_fraction", judge.canary_fraction)
    if judge.mode is JudgeMode.pointwise and judge.orders > 1 and judge.temperature == 0:
        yield (
            f"judge.orders={judge.orders} asks the same {judge.orders} times: judge.mode=pointwise has no order, and "
            "judge.temperature=0 draws nothing; set judge.orders=1"
        )
    yield from _scale_problems(judge)
    budget = 1 if judge.max_tokens is None else judge.max_tokens
    judging = SamplingConfig(temperature=judge.temperature, max_tokens=budget)
    yield from list_sampling_problems(
        "judge", judging, n=1, n_key="judge.n", one_by_one=judge.model.served_by.is_service
    )


def _scale_problems(judge: JudgeConfig) -> Iterator[str]:
    """Scores are means over aspects, which differ in nothing but the scale if the scales differ."""
    scales = {name: (1, 5) for name in judge.aspects if name not in judge.aspect}
    own = {name: judge.aspect[name] for name in judge.aspects if name in judge.aspect}
    scales |= {name: (aspect.min_rating, aspect.max_rating) for name, aspect in own.items()}
    if len(set(scales.values())) > 1:
        shown = ", ".join(f"{name} {low} to {high}" for name, (low, high) in scales.items())
        yield f"judge.aspects have several scales ({shown}), but a score is their mean; give them one scale"


def _at_least(key: str, value: float, least: float) -> Iterator[str]:
    if value < least:
        yield f"{key}={value:g} must be at least {least:g}"


def _fraction(key: str, value: float) -> Iterator[str]:
    if not 0 <= value <= 1:
        yield f"{key}={value:g} must be from 0 to 1"
