"""What a command's models need before anything starts: what is fetched or converted is put into the cache."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace

from synthgen.config import Config, ModelConfig, ScorerConfig
from synthgen.config.scorers import list_scorer_models
from synthgen.errors import ConfigError
from synthgen.models.gguf import find_gguf
from synthgen.models.locate import locate_checkpoint
from synthgen.models.smollm2 import MODEL_ID, NotFetchedError
from synthgen.models.steps import Report
from synthgen.observe.steps import shown_steps
from synthgen.planning import load_models


def prepare_models(config: Config) -> Config:
    """Return `config` once its built-in models and GGUF files are in the cache; what takes long is shown on stderr.

    A model that cannot be fetched is replaced by its `fallback` (`experiment=demo` names one), and a line says so.

    Raises:
        ConfigError: a model cannot be had, and names no fallback.
    """
    with contextlib.ExitStack() as stack:
        report: Report | None = None
        told = False
        for key, model in _fetched_models(config):
            report = report or stack.enter_context(shown_steps())
            try:
                locate_checkpoint(model, report)
            except NotFetchedError as error:
                if not model.fallback:
                    raise ConfigError(f"{error}; {key}.fallback=tiny goes on without it") from error
                if not told:
                    print(f"synthgen: {error}; {model.fallback} takes its place: its text is noise", file=sys.stderr)
                told = True
                _replace(model, model.fallback)
    return config


def _fetched_models(config: Config) -> Iterator[tuple[str, ModelConfig]]:
    """Yield the dotted key and the entry of each model that has to be fetched or converted."""
    places = [
        (f"generators.{name}.model", generator.model)
        for name, generator in config.generators.items()
        if generator.path is None
    ]
    if config.judge.enabled:
        places.append(("judge.model", config.judge.model))
    places += [(f"scorers.{name}.model", one.model) for name, one in _with_models(config.scorers)]
    places += [(f"prove.scorers.{name}.model", one.model) for name, one in _with_models(config.prove.scorers)]
    if config.prove.model.name:
        places.append(("prove.model", config.prove.model))
    if config.prove.judge.enabled:
        places.append(("prove.judge.model", config.prove.judge.model))
    if config.pipeline == "task":
        places = [("task.model", config.task.model)]
    for key, model in places:
        if model.served_by.loads_checkpoint and (model.id == MODEL_ID or find_gguf(model) is not None):
            yield key, model


def _with_models(scorers: Mapping[str, ScorerConfig]) -> list[tuple[str, ScorerConfig]]:
    return [(name, scorers[name]) for name in list_scorer_models(scorers)]


def _replace(model: ModelConfig, name: str) -> None:
    """Make `model` the catalog's entry `name`, in place."""
    found = next((entry for entry in load_models() if entry.name == name), None)
    if found is None:
        raise ConfigError(f"model.fallback={name} is not in the catalog; synthgen models lists what there is")
    other = replace(found)
    for field in fields(ModelConfig):
        setattr(model, field.name, getattr(other, field.name))
