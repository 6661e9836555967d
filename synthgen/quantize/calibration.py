"""Conversations that pass through a model while it is quantized."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from synthgen.config import PromptsConfig
from synthgen.errors import ConfigError
from synthgen.export.manifest import MANIFEST_NAME
from synthgen.prompts import PromptSource
from synthgen.quantize.settings import QuantizeConfig
from synthgen.records import stable_hash
from synthgen.training.train import TrainConfig, load_data

SHIPPED = "builtin:examples"

Conversation = list[dict[str, Any]]


def read_conversations(config: QuantizeConfig) -> list[Conversation]:
    """Return at most `config.samples` conversations, messages with role and content.

    Of a run, or of a data set of synthgen's: prompts with the chosen answers, drawn by `config.seed`. Of prompts: the
    first ones, without answers.

    Raises:
        ConfigError: there is nothing to read.
    """
    source = config.data or SHIPPED
    local = Path(source)
    if (local / "dataset" / "README.md").is_file() or (local / MANIFEST_NAME).is_file():
        found = _read_run(source, config)
    elif (local / "status.json").is_file() or (local / "prompts").is_dir():
        raise ConfigError(f"data={source} holds no data set; finish the run with `synthgen run` first")
    else:
        tables = PromptSource(PromptsConfig(path=source, limit=config.samples), key="data").tables(1000)
        rows = (row for table in tables for row in table["messages"].to_pylist())
        found = list(islice(rows, config.samples))
    if not found:
        raise ConfigError(f"data={source} has no conversation to calibrate with; give prompts, or a finished run")
    return found


def _read_run(source: str, config: QuantizeConfig) -> list[Conversation]:
    rows = load_data(TrainConfig(data=source))["train"]
    order = sorted(range(len(rows)), key=lambda at: stable_hash(config.seed, "calibrate", at))[: config.samples]
    chosen = rows.select(order)
    return [[*prompt, *answer] for prompt, answer in zip(chosen["prompt"], chosen["chosen"], strict=True)]
