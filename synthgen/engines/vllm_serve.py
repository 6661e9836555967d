"""A model as `vllm serve` takes it: the command line of an endpoint that serves what a replica of a run would."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from synthgen.config import ModelConfig
from synthgen.engines.adapters import list_adapters
from synthgen.engines.calls import find_known_tool_parser
from synthgen.engines.vllm_args import make_engine_args
from synthgen.errors import ConfigError

OURS = ("model", "disable_log_stats", "enable_log_requests", "seed")
"""Arguments that a run sets for itself, and a server need not."""

_DEFAULTS: dict[str, Any] = {
    "trust_remote_code": False, "dtype": "auto", "load_format": "auto", "kv_cache_dtype": "auto",
    "enforce_eager": False, "tensor_parallel_size": 1, "pipeline_parallel_size": 1,
}  # fmt: skip
"""What `vllm serve` of 0.32 does unasked, left out to be readable."""


def make_serve_command(
    model: ModelConfig,
    *,
    path: str = "",
    name: str = "",
    on_cpu: bool = False,
    lora_ranks: Sequence[int] = (),
) -> list[str]:
    """Return the words of the command that serves `model` as its fields and engine arguments say.

    Args:
        model: with what the planner chose filled in (`EnginePlan.apply`); `replicas` become data parallelism.
        path: what `model.id` stands for where it is none that vLLM can look up; empty: the id.
        name: under which the server offers it; empty: by its path.
        on_cpu: whether vLLM's CPU build serves it.
        lora_ranks: of its adapters (`list_adapters`).

    Raises:
        ConfigError: vLLM does not serve `model`: it has another engine.
    """
    if model.engine != "vllm":
        raise ConfigError(f"model={model.name} has engine={model.engine}; vllm serve is for models that vLLM serves")
    args = make_engine_args(model, path=path or model.id, on_cpu=on_cpu, lora_ranks=lora_ranks)
    if on_cpu:
        args.pop("distributed_executor_backend", None)  # a class, which no command line can hold
    if model.named_parser not in ("auto", "none"):
        args.setdefault("reasoning_parser", model.named_parser)
    parser = find_known_tool_parser(model)
    if parser is not None:
        args.setdefault("enable_auto_tool_choice", True)
        args.setdefault("tool_call_parser", parser)
    if model.template_kwargs:
        args.setdefault("default_chat_template_kwargs", dict(model.template_kwargs))
    if (model.replicas or 1) > 1:
        args.setdefault("data_parallel_size", model.replicas)
    words = ["vllm", "serve", args["model"]]
    if name not in ("", args["model"]):
        words += ["--served-model-name", name]
    for key, value in args.items():
        if key not in OURS and (key not in _DEFAULTS or value != _DEFAULTS[key]):
            words += _make_flag(key, value)
    names = {"lora": model.name} | {f"adapters.{name}": name for name in model.adapters}
    modules = [f"{names[key]}={where}" for key, where in list_adapters(model).items()]
    words += ["--lora-modules", *modules] if modules else []
    return words


def _make_flag(key: str, value: Any) -> list[str]:
    flag = key.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if isinstance(value, list | tuple):
        return [f"--{flag}", *map(str, value)]
    return [f"--{flag}", json.dumps(value, separators=(",", ":")) if isinstance(value, dict) else str(value)]
