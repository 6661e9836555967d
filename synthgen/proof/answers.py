"""Who answers the held-out prompts, and who scores the answers: the stages of a proof's own small run.

The model before training, after it and the control are generators of one base model that differ in their adapter, so
that one engine serves all three; merged (`prove.serve`), each has an engine of its own. Their stages are hashed by what
the adapters hold, not by where they lie: a run directory that was moved keeps its answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from synthgen.config import Config, GeneratorConfig, JudgeCanaries, JudgeConfig, JudgeMode, ModelConfig, ScorerConfig
from synthgen.config.scorers import VERIFIER, scores_answers
from synthgen.config.stage_names import JUDGE, OTHER_JUDGE, SIDE
from synthgen.flow import Flow, ResolvedStage, resolve_flow
from synthgen.proof.settings import ProofSettings
from synthgen.stages.base import LLMStage
from synthgen.stages.generate import GenerateStage
from synthgen.stages.judge import JudgeStage
from synthgen.stages.scorers import make_scorers

BEFORE, AFTER, CONTROL = "before", "after", "control"
"""Generators of a proof: the model as it is, trained on the pairs, trained on randomly drawn sides."""
ORDERS = 2
"""Least orders in which a judge is shown answers side by side: what a place adds falls on both."""


def make_config(config: Config, settings: ProofSettings, root: Path, adapters: Mapping[str, str], side: bool) -> Config:
    """Return the configuration of a proof's own run.

    Args:
        config: the run's, with `prove.*`. root: the proof's directory.
        adapters: where what was trained lies, by generator. side: whether there are prompts with checks of their own.
    """
    scorers = {name: one for name, one in config.scorers.items() if scores_answers(one)} | config.prove.scorers
    if side:
        scorers[SIDE] = ScorerConfig(type=VERIFIER, kind="constraints")
    judge = settle_judge(config.judge) if JUDGE in settings.own else replace(config.judge, enabled=False)
    return replace(
        config,
        generators=make_generators(settings, adapters),
        scorers=scorers,
        judge=judge,
        run=replace(config.run, dir=str(root), seed=settings.prove.seed),
    )


def make_generators(settings: ProofSettings, adapters: Mapping[str, str]) -> dict[str, GeneratorConfig]:
    """Return a generator per model."""
    base = replace(settings.model, adapters=dict(adapters) if settings.adapters else {})
    found = {BEFORE: GeneratorConfig(model=base, n=settings.prove.answers, sampling=settings.sampling)}
    for name, place in adapters.items():
        if settings.adapters:
            found[name] = replace(found[BEFORE], adapter=name)
        else:
            found[name] = replace(found[BEFORE], model=_take_weights(base, place))
    return found


def settle_judge(judge: JudgeConfig) -> JudgeConfig:
    """Return the judge as it scores answers: in both orders at least, without planted tests."""
    orders = max(judge.orders, ORDERS) if judge.mode is JudgeMode.listwise else judge.orders
    return replace(judge, orders=orders, canaries=JudgeCanaries.none, canary_fraction=None)


def make_stages(config: Config) -> list[LLMStage]:
    """Return the stages of `make_config`'s configuration.

    Raises:
        ConfigError: a scorer cannot work.
    """
    names = tuple(config.generators)
    stages: list[LLMStage] = [
        GenerateStage(name, one, run_seed=config.run.seed) for name, one in config.generators.items()
    ]
    stages += make_scorers(config)
    if config.judge.enabled:
        stages.append(JudgeStage(config.judge, names, config.run.seed))
    if config.prove.judge.enabled:
        other = JudgeStage(settle_judge(config.prove.judge), names, config.run.seed)
        other.name = OTHER_JUDGE
        stages.append(other)
    return stages


def resolve_answers(config: Config, weights: Mapping[str, str]) -> list[ResolvedStage]:
    """Return the stages with their directories; `weights`: a hash of what was trained, by generator."""
    stages = make_stages(config)
    named = {
        name: replace(one, model=_name_weights(one.model, name, weights)) for name, one in config.generators.items()
    }
    nominal = resolve_flow(_flow(make_stages(replace(config, generators=named))))
    return [
        replace(there, files=replace(there.files, stage=stage)) for there, stage in zip(nominal, stages, strict=True)
    ]


def has_checks(prompts: pa.Table | None) -> bool:
    """Return whether prompts bring IFEval's columns, by which their answers can be checked."""
    return prompts is not None and any('"instruction_id_list"' in row for row in prompts["metadata"].to_pylist())


def _name_weights(model: ModelConfig, generator: str, weights: Mapping[str, str]) -> ModelConfig:
    if model.adapters:
        return replace(model, adapters=dict(weights))
    return replace(model, id=weights[generator]) if generator in weights else model


def _take_weights(model: ModelConfig, place: str) -> ModelConfig:
    return replace(model, id=place, name=f"{model.name}-trained", revision=None, gguf_file=None, quantization=None)


def _flow(stages: Sequence[LLMStage]) -> Flow:
    return Flow(stages=stages, export=lambda *_, **__: None)
