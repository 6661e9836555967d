"""Scorers by name: stages that give completions a number of their own, beside the judge or instead of it.

A scorer is an ordinary stage (`base.LLMStage`) that reads generators' tables and writes SCORER_SCHEMA (`kind` is
`scores`). A package adds one by an entry point in the group `synthgen.scorers` that names its class, which
`scorers.<name>.type` chooses; it is called with its name, its ScorerConfig, the generators' names and the run's seed. A
pipeline of one's own may also put any stage into its `Flow`; with `measure` it has a part of the report.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from synthgen.config import Config, GeneratorTurns, PromptTurns
from synthgen.config.registry import Registry
from synthgen.config.scorers import CLASSIFIER, GUARD, RECORDED, VERIFIER
from synthgen.errors import ConfigError
from synthgen.records import count_open_turns
from synthgen.stages.base import LLMStage

SCORERS = Registry(
    "synthgen.scorers",
    {
        VERIFIER: "synthgen.stages.verify:VerifyStage",
        RECORDED: "synthgen.stages.given:RecordedStage",
        CLASSIFIER: "synthgen.stages.classify:ClassifyStage",
        GUARD: "synthgen.stages.guard:GuardStage",
    },
)


def make_scorers(config: Config) -> list[LLMStage]:
    """Return the stages of `scorers`. Raises ConfigError for one that cannot work."""
    stages = []
    for name, scorer in config.scorers.items():
        make = SCORERS.load(scorer.type, f"scorers.{name}.type")
        stages.append(make(name, scorer, tuple(config.generators), config.run.seed))
    return stages


def check_prompts(stages: Sequence[LLMStage], config: Config | None = None) -> Callable[[pa.Table], None]:
    """Return what raises ConfigError for prompts that one of the stages cannot do anything with (`Flow.check`).

    Args:
        config: where it lets each turn be a prompt, and nobody answers them, prompts with unanswered turns cannot do.
    """
    answered = config is None or any(one.turns is GeneratorTurns.all for one in config.generators.values())
    each = config is not None and config.prompts.turns is PromptTurns.each

    def check(prompts: pa.Table) -> None:
        if each and not answered and any(count_open_turns(turns) for turns in prompts["messages"].to_pylist()):
            raise ConfigError(
                "prompts.turns=each: nobody answers the turns before a prompt's last; give "
                "generators.<name>.turns=all, or leave prompts.turns=null"
            )
        for stage in stages:
            look = getattr(stage, "check_prompts", None)
            if look is not None:
                look(prompts)

    return check


def find_scorer(name: str) -> Callable[..., LLMStage]:
    """Return the class of a scorer; what it is called with is its own. Raises ConfigError for an unknown name."""
    found: Any = SCORERS.load(name, "scorer")
    return found  # type: ignore[no-any-return]
