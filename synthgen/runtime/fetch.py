"""`fetch`: what a run needs from a network, into the caches of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from synthgen.config import Config, ModelConfig
from synthgen.config.scorers import list_scorer_models
from synthgen.models.fetch import fetch_model
from synthgen.observe.steps import shown_steps
from synthgen.prompts.fetch import fetch_prompts


def fetch_run(config: Config) -> Iterator[str]:
    """Fetch the models and the data of `config`, and yield a line for each thing as it is here.

    Raises:
        ConfigError: something cannot be had.
    """
    done: list[ModelConfig] = []
    with shown_steps() as report:
        for key, model in _list_models(config):
            if not model.served_by.loads_checkpoint or model in done:
                continue
            done.append(model)
            found = fetch_model(model, report)
            where = ", ".join(str(path) for path in found)
            yield f"{key}={model.name or model.id}: {where or 'nothing to fetch, it is read from where it lies'}"
    yield from fetch_prompts(config.prompts)
    for name, generator in config.generators.items():
        if generator.path is not None:
            yield from fetch_prompts(
                replace(config.prompts, path=generator.path, exclude=[]), f"generators.{name}.path"
            )


def _list_models(config: Config) -> Iterator[tuple[str, ModelConfig]]:
    if config.pipeline == "task":
        yield "task.model", config.task.model
        return
    for name, generator in config.generators.items():
        if generator.path is None:
            yield f"generators.{name}.model", generator.model
    if config.judge.enabled:
        yield "judge.model", config.judge.model
    yield from list_scorer_models(config.scorers).values()
