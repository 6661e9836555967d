"""Engines: what serves a model. `make_engine` turns a catalog entry into one, and imports only what that one needs.

Knows nothing of stages.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

from synthgen.config import ModelConfig

if TYPE_CHECKING:
    from synthgen.engines.base import Engine

__all__ = ["make_engine"]

PUBLIC = ("base", "preflight", "vllm_loading")
IMPORTS = ("config", "models")


def make_engine(model: ModelConfig) -> Engine:
    """Return the engine that serves `model`, not started yet: nothing is loaded and no process runs."""
    module, _, name = model.served_by.engine.partition(":")
    return cast("Engine", getattr(import_module(module), name)(model))
