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

PUBLIC = ("base", "preflight", "adapters", "compiler", "vllm_args", "vllm_loading", "vllm_serve", "vllm_setup")
IMPORTS = ("config", "models")


def make_engine(model: ModelConfig) -> Engine:
    """Return the engine that serves `model`, not started yet: nothing is loaded and no process runs."""
    engine = model.served_by.engine
    if not isinstance(engine, str):
        return cast("Engine", engine(model))
    module, _, name = engine.partition(":")
    return cast("Engine", getattr(import_module(module), name)(model))
