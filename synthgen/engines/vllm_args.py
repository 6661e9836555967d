"""A catalog entry in, vLLM's engine arguments and environment out. Pure: imports no vLLM, starts nothing.

What it decides for the user, and why, is in docs/engines.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from synthgen.config import ModelConfig
from synthgen.errors import ConfigError

GIB = 2**30
CPU_KV_CACHE_GIB = 1.0
"""Unset, vLLM takes most of a CPU machine's memory for the KV cache."""
CPU_CONTEXT_LENGTH = 16384
"""A CPU runs prompts unchunked, so one step must hold a whole context; the 131072 of many checkpoints would not fit."""

CPU_EXECUTOR = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
"""Runs a model of one process inside vLLM's engine process. vLLM turns `uni` into `mp` on CPUs, to bind threads there;
nothing is bound here, and the two processes of `mp` wait for each other by spinning, which takes a whole core."""

GPU_ONLY_QUANTIZATIONS = (
    "bitsandbytes", "deepseek_v4_fp8", "experts_int8", "fbgemm_fp8", "fp8", "fp8_per_block", "fp8_per_channel",
    "fp8_per_tensor", "fp_quant", "gpt_oss_mxfp4", "gptq_marlin", "awq_marlin", "humming", "modelopt", "modelopt_fp4",
    "modelopt_mixed", "modelopt_mxfp8", "moe_wna16", "mxfp4", "mxfp8", "nvfp4_per_token", "quark",
)  # fmt: skip
"""Quantization methods of vLLM 0.32 that have no CPU kernel."""

QUIET_ENVIRONMENT = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
"""Usage statistics off; a value that the user has set stays."""

PATIENT_ENVIRONMENT = {"VLLM_REGEX_COMPILATION_TIMEOUT_S": "60"}
"""vLLM gives a grammar 5 s to be compiled, against hostile patterns. Ours are not, and a busy machine takes longer."""


def make_engine_args(
    model: ModelConfig,
    *,
    path: str,
    on_cpu: bool,
    context_length: int | None = None,
    lora_ranks: Sequence[int] = (),
    distributed_executor_backend: str | None = None,
) -> dict[str, Any]:
    """Return the keyword arguments of `AsyncEngineArgs` for `model`.

    Args:
        model: the entry; what it leaves open (None) is left to vLLM, but for the CPU's own needs.
        path: what `model.id` stands for: a directory, a Hub id or a URL.
        on_cpu: whether this is vLLM's CPU build.
        context_length: as the checkpoint says; used on a CPU only, to bound the default.
        lora_ranks: of the adapters (`list_adapters`); a step may hold requests of all of them.
        distributed_executor_backend: `mp` (one node), `ray` (across nodes), or None: vLLM's choice, but for
            CPU_EXECUTOR on a CPU without parallelism.

    `model.engine_args` goes last and wins.
    """
    args: dict[str, Any] = {
        "model": path,
        "revision": model.revision,
        "tokenizer": model.tokenizer,
        "tokenizer_revision": model.revision if model.tokenizer is None else None,
        "trust_remote_code": model.trust_remote_code,
        "dtype": model.dtype,
        "quantization": model.quantization,
        "load_format": model.load_format,
        "max_model_len": model.max_model_len,
        "tensor_parallel_size": model.tensor_parallel_size or 1,
        "pipeline_parallel_size": model.pipeline_parallel_size or 1,
        "distributed_executor_backend": distributed_executor_backend,
        "max_num_seqs": model.max_num_seqs,
        "max_num_batched_tokens": model.max_num_batched_tokens,
        "gpu_memory_utilization": model.gpu_memory_utilization,
        "kv_cache_dtype": model.kv_cache_dtype,
        "enable_prefix_caching": model.enable_prefix_caching,
        "enable_chunked_prefill": model.enable_chunked_prefill,
        "enforce_eager": model.enforce_eager,
        "scheduling_policy": "priority",  # a judge's requests go before a generator's
        "disable_log_stats": True,
        "enable_log_requests": False,
        "seed": 0,
    }
    if model.kv_cache_memory_gib is not None:
        args["kv_cache_memory_bytes"] = int(model.kv_cache_memory_gib * GIB)
    if model.served_by.classifies:  # encoders have no KV cache: vLLM knows which models have prefixes to keep
        args.update(runner="pooling", enable_prefix_caching=None)
    if lora_ranks:
        args.update(enable_lora=True, max_loras=len(lora_ranks), max_lora_rank=max(lora_ranks))
    if on_cpu:
        args.update(_make_cpu_args(model, context_length))
        if distributed_executor_backend is None and args["tensor_parallel_size"] * args["pipeline_parallel_size"] == 1:
            args["distributed_executor_backend"] = CPU_EXECUTOR
    return {name: value for name, value in {**args, **model.engine_args}.items() if value is not None}


def _make_cpu_args(model: ModelConfig, context_length: int | None) -> dict[str, Any]:
    args: dict[str, Any] = {}
    if model.kv_cache_memory_gib is None:
        args["kv_cache_memory_bytes"] = int(CPU_KV_CACHE_GIB * GIB)
    if model.max_model_len is None and context_length is not None:
        args["max_model_len"] = min(context_length, CPU_CONTEXT_LENGTH)
    if model.enable_chunked_prefill is None:
        # A seeded request kills the engine as soon as a step holds a part of a prompt (CPU generators have no offset).
        args["enable_chunked_prefill"] = False
    return args


def make_cpu_environment(*, cpus: int, processes: int) -> dict[str, str]:
    """Return the environment variables that share `cpus` CPUs among the `processes` of one engine.

    No thread is bound to a core: vLLM's own choice would bind every engine of a host to the same ones. One CPU is left
    to the scheduler and the tokenizer: threads that wait for a busy core spin, and on two cores cost half the speed.
    """
    return {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(max(1, (cpus - 1) // processes))}


def check_catalog_entry(model: ModelConfig) -> None:
    """Raise ConfigError for an entry that no machine of this installation can serve."""
    if model.unservable:
        raise ConfigError(f"model.name={model.name} cannot be served: {model.unservable}")
    if model.requires_package:
        try:
            metadata.distribution(model.requires_package)
        except metadata.PackageNotFoundError:
            raise ConfigError(
                f"model.name={model.name} needs the package {model.requires_package}; "
                f"install it with: pip install {model.requires_package}"
            ) from None


def check_checkpoint(
    model: ModelConfig,
    *,
    heads: int | None,
    quantization: Mapping[str, Any] | None,
    on_cpu: bool,
    cpus: int,
) -> None:
    """Raise ConfigError for a checkpoint that cannot be loaded here as `model` asks.

    Args:
        heads: its `num_attention_heads`, if it has such a number.
        quantization: its `quantization_config`, or None.
        cpus: CPUs of this machine that the process may use.
    """
    tp = model.tensor_parallel_size or 1
    if heads is not None and heads % tp:
        divisors = [str(size) for size in (1, 2, 4, 8, 16) if heads % size == 0]
        raise ConfigError(
            f"model.tensor_parallel_size={tp} must divide num_attention_heads={heads}; try {' or '.join(divisors)}"
        )
    if not on_cpu:
        return
    processes = tp * (model.pipeline_parallel_size or 1)
    if processes > cpus:
        raise ConfigError(
            f"model.tensor_parallel_size={tp}: on this CPU machine an engine can have {cpus} processes at most, "
            f"and this one would have {processes}; try {cpus} or less"
        )
    method = model.quantization or str((quantization or {}).get("quant_method", ""))
    if method in GPU_ONLY_QUANTIZATIONS or _has_float_weights(quantization):
        raise ConfigError(
            f"model.id={model.id} is quantized by {method}, which vLLM runs on GPUs only; "
            "on a CPU take an unquantized, W8A8 INT8, AWQ or GPTQ checkpoint"
        )
    batch, context = model.max_num_batched_tokens, model.max_model_len
    if batch is not None and context is not None and not model.enable_chunked_prefill and batch < context:
        raise ConfigError(
            f"model.max_num_batched_tokens={batch} must be at least model.max_model_len={context} on a CPU, "
            "where prompts are not chunked"
        )


def _has_float_weights(quantization: Mapping[str, Any] | None) -> bool:
    """Whether a compressed-tensors checkpoint holds FP8 or FP4 weights (INT8 and INT4 run on CPUs too)."""
    groups = (quantization or {}).get("config_groups") or {}
    return any((group.get("weights") or {}).get("type") == "float" for group in groups.values())
