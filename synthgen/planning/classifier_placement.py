"""A classifier that transformers serves: a small one on CPUs, so that the GPUs stay with models that write."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from synthgen.config import ClusterConfig, ModelConfig
from synthgen.errors import ConfigError
from synthgen.models.architecture import UnknownShapeError
from synthgen.models.checkpoint import resolve_architecture
from synthgen.models.gguf import find_gguf
from synthgen.planning.engine_plan import DoesNotFitError, EnginePlan
from synthgen.planning.gpu_placement import GPU_REPLICA_CPUS
from synthgen.planning.hardware import count_cpus, read_host_memory_gib
from synthgen.planning.memory import GIB, weights_bytes

SMALL_GIB = 2.0
"""Weights up to which a classifier runs on CPUs beside GPUs; `model.engine_args.device` says otherwise."""
PROCESS_GIB = 2.0
GPU_SHARE = 0.8
"""Of a GPU's memory that the weights may take: one batch needs the rest."""
SEQS = 64
DEVICES = ("cpu", "cuda")


def plan_classifier(model: ModelConfig, cluster: ClusterConfig, key: str) -> EnginePlan:
    """Return the plan of an engine that transformers runs: one process, on a GPU or on CPUs.

    Args:
        key: the model's dotted key, for errors.

    Raises:
        ConfigError: it fits neither, or is asked for what only vLLM does.
    """
    _check(model, key)
    model = settle_dtype(model)
    try:
        weights = weights_bytes(resolve_architecture(model)) / GIB
        counted: tuple[str, ...] = ()
    except UnknownShapeError as error:
        weights, counted = math.nan, (f"its size is not known here ({error})",)
    known = 0.0 if math.isnan(weights) else weights
    device = model.engine_args.get("device")
    if device == "cuda" and not cluster.gpus_per_node:
        raise ConfigError(f"{key}.engine_args.device=cuda, and this cluster has no GPU; leave it out")
    common: dict[str, Any] = {
        "max_num_seqs": model.max_num_seqs or SEQS,
        "max_num_batched_tokens": model.max_num_batched_tokens,
        "max_model_len": model.max_model_len,
        "weights_gib": known,
        "dtype": model.dtype,
    }
    on_gpu = bool(cluster.gpus_per_node) and (device == "cuda" or (device is None and not weights <= SMALL_GIB))
    if on_gpu:
        room = GPU_SHARE * cluster.gpu.memory_gib
        if weights > room:
            raise DoesNotFitError(
                f"{key}={model.name} has {weights:.1f} GiB of weights, and transformers serves it on one GPU: "
                f"{room:.0f} GiB of that are for weights here; take larger GPUs or a smaller classifier",
                weights - room,
            )
        replicas = model.replicas or cluster.nodes * cluster.gpus_per_node
        return EnginePlan(
            replicas=replicas, num_gpus=1, num_cpus=GPU_REPLICA_CPUS, engine_args={"device": "cuda"},
            reasons=("served by transformers, one GPU per replica", *counted), **common,
        )  # fmt: skip
    if not cluster.gpus_per_node and weights + PROCESS_GIB > (memory := read_host_memory_gib()):
        raise ConfigError(
            f"{key}={model.name} needs {weights + PROCESS_GIB:.1f} GiB of memory, and this machine has {memory:.1f}; "
            "take a smaller classifier"
        )
    replicas = model.replicas or cluster.nodes
    cpus = 1.0 if cluster.gpus_per_node else float(max(1, count_cpus(cluster) // -(-replicas // cluster.nodes)))
    beside = ", so that the GPUs stay with the others" if cluster.gpus_per_node else ""
    return EnginePlan(
        replicas=replicas, num_cpus=cpus, engine_args={"device": "cpu"},
        reasons=(f"served by transformers on CPUs{beside}", *counted), **common,
    )  # fmt: skip


def settle_dtype(model: ModelConfig) -> ModelConfig:
    """Return a model of this engine with its number format: 32 bits where none is named. CPUs are slow in 16, and a GPU
    has room."""
    return replace(model, dtype="float32") if model.served_by.without_vllm and model.dtype == "auto" else model


def _check(model: ModelConfig, key: str) -> None:
    """Raise ConfigError for what the engine does not do."""
    for field in ("tensor_parallel_size", "pipeline_parallel_size"):
        if (getattr(model, field) or 1) > 1:
            raise ConfigError(
                f"{key}.{field}={getattr(model, field)}: engine=transformers serves a model on one GPU; leave it out"
            )
    defaults = ModelConfig()
    for field in ("lora", "adapters", "quantization", "kv_cache_dtype", "kv_cache_memory_gib", "load_format"):
        if (value := getattr(model, field)) != getattr(defaults, field):
            raise ConfigError(f"{key}.{field}={value} has no effect on engine=transformers; leave it out")
    if "://" in model.id or find_gguf(model) is not None:
        raise ConfigError(
            f"{key}.id={model.id}: engine=transformers reads no URLs and no GGUF files; give a Hub id or a directory"
        )
    for name in model.engine_args:
        if name != "device":
            raise ConfigError(
                f"{key}.engine_args.{name} is vLLM's, and engine=transformers knows device alone; leave it out"
            )
    if model.engine_args.get("device") not in (None, *DEVICES):
        raise ConfigError(f"{key}.engine_args.device={model.engine_args['device']} must be cpu or cuda")
