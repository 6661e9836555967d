"""Scorers as the configuration names them, for whoever must know of them without building a stage."""

from __future__ import annotations

from synthgen.config import Config, ModelConfig

VERIFIER = "verifier"
"""`scorers.<name>.type` of a scorer that runs code."""
RECORDED = "recorded"
"""The same of one that reads what stands beside given completions."""
CODE_MODEL = ModelConfig(name="code", id="code", engine="code", license="apache-2.0")
"""What serves verifiers: no model, but processes that run code. Equal for all of them, so that they share one pool."""


def list_code_scorers(config: Config) -> list[str]:
    """Return the names of the scorers that need no model, in the order of the configuration."""
    return [name for name, scorer in config.scorers.items() if scorer.type in (VERIFIER, RECORDED)]


def list_recorded(config: Config) -> list[str]:
    """Return the names of the scorers that are what was recorded before."""
    return [name for name, scorer in config.scorers.items() if scorer.type == RECORDED]


def list_scorers(config: Config) -> list[str]:
    """Return the names of all scorers, the judge's first where there is one."""
    return [*(["judge"] if config.judge.enabled else []), *config.scorers]
