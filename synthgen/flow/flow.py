"""A flow: the stages of a pipeline and what to do with their output. `pipelines/*.py` build one; nothing runs here.

`resolve_flow` gives each stage its fingerprint, and with it the directory where its units are committed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from synthgen.config import Config, ModelConfig
from synthgen.config.own_files import forget_own, list_own_modules, load_file, split_own
from synthgen.config.own_source import fingerprint_named, fingerprint_own
from synthgen.config.resources import project_path
from synthgen.errors import ConfigError
from synthgen.ledger.run_dir import PROMPTS, stage_directory
from synthgen.publish.card import make_card
from synthgen.records import SCHEMA_VERSION, stable_hex
from synthgen.stages.base import LLMStage, StageFiles
from synthgen.stages.history import unwrap

FINGERPRINTED_MODEL_FIELDS = (
    "id", "revision", "chat_template", "quantization", "dtype", "kv_cache_dtype", "load_format", "tokenizer",
    "max_model_len", "lora",
)  # fmt: skip


class Export(Protocol):
    """Turns the committed units into `dataset/`: see synthgen.export.export_dataset."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...


class Card(Protocol):
    """Returns the text of the data set's README.md: see synthgen.publish.card.make_card."""

    def __call__(self, report: Mapping[str, Any], config: Config, dataset: Mapping[str, Any]) -> str: ...


@dataclass(frozen=True)
class Flow:
    """The stages in the order of the flow, and the export that follows them.

    Attributes:
        card: writes the page of the data set.
        check: given the first unit's prompts before an engine starts, raises ConfigError for those that cannot do.
    """

    stages: Sequence[LLMStage]
    export: Export
    card: Card = make_card
    check: Callable[[pa.Table], None] | None = None


@dataclass(frozen=True)
class ResolvedStage:
    """A stage with its fingerprint and directories."""

    files: StageFiles
    fingerprint: str

    @property
    def name(self) -> str:
        """The stage's name."""
        return self.files.stage.name


def load_flow(config: Config) -> Flow:
    """Return the flow of `config.pipeline`: a file of pipelines/, or the path of the user's own `.py` file.

    Raises:
        ConfigError: there is no such file, it cannot be run, or it does not define `build_flow(config) -> Flow`.
    """
    forget_own()
    name = config.pipeline
    path = Path(name) if name.endswith(".py") else project_path("pipelines") / f"{name}.py"
    if not path.is_file():
        known = sorted(p.stem for p in project_path("pipelines").glob("*.py") if p.stem != "__init__")
        raise ConfigError(f"pipeline={name!r} is neither one of {', '.join(known)} nor the path of a .py file")
    build = getattr(load_file(path, f"pipeline={name}"), "build_flow", None)
    if build is None:
        raise ConfigError(f"pipeline={name!r}: {path} does not define build_flow(config)")
    flow: Flow = build(config)
    return flow


def ship_own() -> None:
    """Let replicas on other machines receive what the user's own files define."""
    from ray import cloudpickle

    for module in list_own_modules():
        cloudpickle.register_pickle_by_value(module)  # type: ignore[no-untyped-call]


def resolve_flow(flow: Flow) -> list[ResolvedStage]:
    """Return the stages with fingerprints: each hashes its config, its model and the fingerprints upstream; one of the
    user's own also its code (`fingerprint_own`)."""
    resolved: dict[str, ResolvedStage] = {}
    for stage in flow.stages:
        upstream = [name for name in stage.inputs if name != PROMPTS]
        code = fingerprint_own(unwrap(stage))
        fingerprint = stable_hex(
            SCHEMA_VERSION,
            stage.name,
            {**stage.fingerprint_fields(), **({"code": code} if code else {})},
            model_fields(stage.model),
            [resolved[name].fingerprint for name in upstream],
            digits=12,
        )
        inputs = {PROMPTS: PROMPTS} | {name: resolved[name].files.directory for name in upstream}
        files = StageFiles(stage, stage_directory(stage.name, fingerprint), inputs)
        resolved[stage.name] = ResolvedStage(files, fingerprint)
    return list(resolved.values())


def model_fields(model: ModelConfig) -> Mapping[str, Any]:
    """Return what of a model changes its output; parallelism, memory and speed are left out."""
    fields: dict[str, Any] = {key: getattr(model, key) for key in FINGERPRINTED_MODEL_FIELDS}
    fields["engine"] = model.engine
    fields["engine_args"] = model.engine_args
    if model.served_by.without_vllm:
        fields["engine_args"] = {name: value for name, value in model.engine_args.items() if name != "device"}
    if model.gguf_file is not None:  # absent in earlier versions, whose units stay valid
        fields["gguf_file"] = model.gguf_file
    if model.template_kwargs:
        fields["chat_template_kwargs"] = model.template_kwargs
    if model.reasoning_parser != "auto":
        fields["reasoning_parser"] = model.reasoning_parser
    if model.tool_parser != "auto":
        fields["tool_parser"] = model.tool_parser
    served_by = model.served_by
    if (own := split_own(model.engine)) is not None:  # by what it says, not by where it lies
        fields["engine"] = own[1]
        fields["engine_code"] = fingerprint_named(model.engine, served_by.engine)
    return fields if served_by.fingerprint is None else fields | dict(served_by.fingerprint(model))
