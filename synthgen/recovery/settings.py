"""What a comparison is asked for: two checkpoints, tasks, and how lm-eval runs them."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, cast

from omegaconf import MISSING

from synthgen.config.compose import compose_job
from synthgen.config.resources import project_path
from synthgen.errors import ConfigError, one_line
from synthgen.quantize.job import RECORD

OTHER = "Tasks"
"""The heading of tasks that are named one by one."""


class Backend(str, Enum):
    """What runs the model for lm-eval; the names are its own."""

    vllm = "vllm"
    hf = "hf"  # transformers: slower; for formats that vLLM does not serve on this machine


@dataclass
class RecoveryConfig:
    """What `jobs/recovery.py` reads (`conf/recovery/default.yaml`)."""

    model: str = MISSING  # the quantized checkpoint: Hub id, local directory, `builtin:…`
    model_revision: str | None = None
    base: str | None = None  # what it was made of; null: as jobs/quantize.py wrote into `model`
    base_revision: str | None = None
    output_dir: str = MISSING  # recovery.md, recovery.json, evaluations, logs
    # Presets (openllm_v1, openllm_v2, humaneval), files of your own in their form (`mine.yaml`), lm-eval's tasks.
    tasks: list[str] = field(default_factory=lambda: ["openllm_v1", "openllm_v2"])
    tasks_dir: str | None = None  # lm-eval's task files of your own, and their data by paths from there
    limit: int | None = None  # documents of each task, the first ones; null: all. For trials.
    allow_code: bool = False  # tasks may run code that a model has written, on this machine, as this user
    evaluations_dir: str | None = None  # one file per model and task; null: <output_dir>/evaluations
    backend: Backend = Backend.vllm
    dtype: str = "auto"
    max_model_len: int | None = 4096  # tokens; a longer prompt loses its beginning. null: as the checkpoint says
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float = 0.9
    trust_remote_code: bool = False
    seed: int = 1234  # of examples and sampling; lm-eval's default
    model_args: dict[str, Any] = field(default_factory=dict)  # more arguments of lm-eval's model: `+model_args.…=…`


@dataclass
class Row:
    """One row of the table: a task or group of lm-eval's and the metric that counts.

    Attributes:
        metric, filter: by lm-eval's names; a metric that is left out is the task's first one.
        name: in the table; left out: made of the others.
        runs_code: it runs what the model has written.
    """

    task: str = MISSING
    num_fewshot: int | None = None  # null: the task's own
    metric: str | None = None
    filter: str = "none"
    name: str | None = None
    runs_code: bool = False


@dataclass
class Preset:
    """Rows that stand together in the table, with their average where they are several."""

    title: str = MISSING
    apply_chat_template: bool = False
    fewshot_as_multiturn: bool = False  # examples as turns of the conversation
    rows: list[Row] = field(default_factory=list)


def compose_recovery_config(overrides: Sequence[str]) -> RecoveryConfig:
    """Return `conf/recovery/default.yaml` with Hydra overrides. Raises ConfigError for what is misspelt or missing."""
    config = compose_job("recovery", "default", RecoveryConfig, overrides)
    for key in ("limit", "max_model_len", "tensor_parallel_size"):
        value = getattr(config, key)
        if value is not None and value < 1:
            raise ConfigError(f"{key}={value} must be at least 1")
    if not 0 < config.gpu_memory_utilization <= 1:
        raise ConfigError(f"gpu_memory_utilization={config.gpu_memory_utilization} must be above 0 and at most 1")
    if config.tasks_dir is not None and not Path(config.tasks_dir).is_dir():
        raise ConfigError(f"tasks_dir={config.tasks_dir} is not a directory; give one with lm-eval's task files")
    if config.base is None:
        config.base, recorded = _read_base(config.model)
        config.base_revision = config.base_revision or recorded
    if (config.model, config.model_revision) == (config.base, config.base_revision):
        raise ConfigError(
            f"model and base are both {config.model}; give the quantized checkpoint and what it is made of"
        )
    return config


def read_presets(config: RecoveryConfig) -> list[Preset]:
    """Return what `config.tasks` names, in its order; tasks that are named one by one stand together, last.

    Raises:
        ConfigError: a preset cannot be read, a task stands in it twice, or runs code that is not allowed.
    """
    known = sorted(path.stem for path in (project_path("conf") / "recovery" / "presets").glob("*.yaml"))
    presets, single = [], []
    for name in config.tasks:
        if not isinstance(name, str):  # a list of texts takes anything from a command line
            raise ConfigError(
                f"tasks has {name}, which is no name; put rows with metrics into a file: tasks=[mine.yaml]"
            )
        if name in known:
            presets.append(_read_preset(project_path("conf") / "recovery" / "presets" / f"{name}.yaml", name))
        elif name.endswith((".yaml", ".yml")):
            presets.append(_read_preset(Path(name), name))
        elif near := difflib.get_close_matches(name, known, n=1, cutoff=0.9):  # humaneval_64 is a task of lm-eval's
            raise ConfigError(f"tasks has {name}, which is no preset; did you mean {near[0]}?")
        else:
            single.append(Row(task=name))
    if single:
        presets.append(Preset(title=OTHER, rows=single))
    seen: set[str] = set()
    for row in [row for preset in presets for row in preset.rows]:
        key = json.dumps([row.task, row.metric, row.filter, row.num_fewshot])
        if key in seen:
            raise ConfigError(f"tasks has {row.task} twice; leave one out")
        seen.add(key)
        if row.runs_code and not config.allow_code:
            raise ConfigError(
                f"tasks has {row.task}, which runs code that the models write; "
                "where that may be done add allow_code=true"
            )
    if not seen:
        raise ConfigError(f"tasks={config.tasks} names nothing; there are: {', '.join(known)}")
    return presets


def _read_preset(path: Path, name: str) -> Preset:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        merged = OmegaConf.merge(OmegaConf.structured(Preset), OmegaConf.load(path))
        preset = cast(Preset, OmegaConf.to_object(merged))
    except (OSError, YAMLError, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(f"tasks has {name}, which cannot be read: {one_line(error)}") from error
    if not preset.rows:
        raise ConfigError(f"tasks has {name}, which has no rows; give it some: rows: [{{task: gsm8k}}]")
    return preset


def _read_base(model: str) -> tuple[str, str | None]:
    """Return the base that `jobs/quantize.py` wrote into its checkpoint."""
    try:
        record = json.loads((Path(model) / RECORD).read_text(encoding="utf-8"))
        return str(record["model"]), record["model_revision"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"base is not set, and model={model} does not say what it is made of; give base=…") from error
