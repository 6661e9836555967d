"""One vLLM engine on a machine without GPUs: small models only, one replica, a KV cache of a fixed size."""

from __future__ import annotations

from dataclasses import replace

from synthgen.config import ClusterConfig, ModelConfig
from synthgen.errors import ConfigError
from synthgen.models.architecture import Architecture
from synthgen.models.checkpoint import resolve_architecture
from synthgen.planning.engine_plan import EnginePlan
from synthgen.planning.fit import Lengths, choose_own_context, explain_data_context
from synthgen.planning.hardware import count_cpus, has_bfloat16, read_host_memory_gib
from synthgen.planning.memory import CPU_BLOCK, GIB, kv_cache_tokens, sequence_kv_bytes, state_bytes, weights_bytes
from synthgen.planning.splits import check_tensor_parallel_size

MAX_WEIGHTS_GIB = 16.0
"""The largest model that a CPU is asked to serve (8B in 16 bits): beyond it a run gives less than a token a second."""
DEFAULT_KV_GIB = 1.0
DEFAULT_CONTEXT = 16384
"""Longest context unless one is asked for: without chunked prefill one step must hold a whole prompt."""
PROCESS_GIB = 2.0
"""What each vLLM process needs beside weights and cache (PyTorch, activations), roughly."""
MAX_SEQS = 256
STEP_TOKENS = 4096


def plan_on_cpu(
    model: ModelConfig,
    cluster: ClusterConfig,
    *,
    key: str = "model",
    lengths: Lengths | None = None,
    host_memory_gib: float | None = None,
    bfloat16: bool | None = None,
) -> EnginePlan:
    """Return the plan of a vLLM engine on the CPUs of each node.

    Args:
        host_memory_gib: memory of a node; None: this machine's.
        bfloat16: whether its CPU is quick in bfloat16; None: as this machine's.

    Raises:
        ConfigError: the model is too large, or its number format needs a GPU.
    """
    arch = resolve_architecture(model)
    lengths = lengths or Lengths()
    memory = read_host_memory_gib() if host_memory_gib is None else host_memory_gib
    tp = model.tensor_parallel_size or 1
    cache_gib = DEFAULT_KV_GIB if model.kv_cache_memory_gib is None else model.kv_cache_memory_gib
    _check(arch, model, tp, cache_gib, memory, key)
    wide = _widen(arch, model, has_bfloat16() if bfloat16 is None else bfloat16)
    if wide is not None and _needed_gib(wide, tp, cache_gib) <= memory:
        arch = wide
        reasons = [f"computed in float32: this CPU has no AVX-512, and is slow in {resolve_architecture(model).dtype}"]
    else:
        wide, reasons = None, []
    pool = cache_gib * GIB
    longest = _choose_context(arch, model, pool, tp, key, lengths)
    tokens = kv_cache_tokens(
        arch, pool, longest, model.kv_cache_dtype, tensor_parallel_size=tp, block=CPU_BLOCK, slack=longest
    )
    seqs = model.max_num_seqs or max(1, min(MAX_SEQS, int(tokens // max(1.0, min(lengths.sequence, longest)))))
    replicas = model.replicas or cluster.nodes
    cpus = max(tp, count_cpus(cluster) // -(-replicas // cluster.nodes))
    chunked = bool(model.enable_chunked_prefill)
    wanted = min(choose_own_context(arch, lengths), DEFAULT_CONTEXT)
    if model.max_model_len is None and longest < wanted:
        reasons.append(
            f"max_model_len lowered from {arch.context_length:,} to {longest:,} tokens: {key}.kv_cache_memory_gib="
            f"{cache_gib:g} holds no more in one sequence"
        )
    elif model.max_model_len is None and longest < min(arch.context_length, DEFAULT_CONTEXT):
        reasons.append(explain_data_context(arch, longest))
    elif model.max_model_len is None and longest < arch.context_length:
        reasons.append(f"max_model_len lowered from {arch.context_length:,} to {longest:,} tokens, as on any CPU")
    return EnginePlan(
        tensor_parallel_size=tp,
        pipeline_parallel_size=1,
        replicas=replicas,
        num_cpus=float(cpus),
        max_num_seqs=seqs,
        # Without chunked prefill a whole prompt must fit into one step.
        max_num_batched_tokens=model.max_num_batched_tokens or (STEP_TOKENS if chunked else max(longest, STEP_TOKENS)),
        max_model_len=longest,
        # A request with a seed kills vLLM 0.32 on a CPU as soon as a step holds a part of a prompt (docs/engines.md).
        enable_chunked_prefill=chunked,
        # Prefixes of a state are kept only where prefill is chunked (`MambaModelConfig` of vLLM).
        enable_prefix_caching=False if state_bytes(arch) and not chunked else None,
        weights_gib=weights_bytes(arch) / GIB,
        kv_cache_gib=cache_gib * tp,
        kv_cache_tokens=tokens,
        kv_cache_memory_gib=cache_gib,
        dtype=wide.dtype if wide else None,
        reasons=(*reasons, *arch.notes, f"weights counted by {arch.source}"),
    )


def _widen(arch: Architecture, model: ModelConfig, bfloat16: bool) -> Architecture | None:
    """Return the model in float32 where that is quicker than its own dtype and the user named none; None: it is not."""
    if bfloat16 or model.dtype != "auto" or arch.dtype == "float32" or arch.quantization.method:
        return None
    wide = resolve_architecture(replace(model, dtype="float32"))
    return wide if weights_bytes(wide) <= MAX_WEIGHTS_GIB * GIB else None


def _needed_gib(arch: Architecture, tp: int, cache_gib: float) -> float:
    return weights_bytes(arch) / GIB + (cache_gib + PROCESS_GIB) * tp


def _check(arch: Architecture, model: ModelConfig, tp: int, cache_gib: float, memory: float, key: str) -> None:
    weights = weights_bytes(arch) / GIB
    if not arch.quantization.on_cpu:
        raise ConfigError(
            f"{key}={model.name} is {arch.quantization.label} and needs a GPU; without one take a model that is not "
            "quantized, INT8 W8A8, AWQ or GPTQ, such as qwen2.5-0.5b, or set cluster to one with GPUs"
        )
    if weights > MAX_WEIGHTS_GIB:
        raise ConfigError(
            f"{key}={model.name} has {weights:.1f} GiB of weights and needs GPUs, and this machine has none; "
            "take a model of at most 16 GiB, such as qwen2.5-0.5b, or a cluster with GPUs"
        )
    needed = _needed_gib(arch, tp, cache_gib)
    if needed > memory:
        raise ConfigError(
            f"{key}={model.name} needs {needed:.1f} GiB of memory ({weights:.1f} of weights), and this machine has "
            f"{memory:.1f}; take a smaller model, or lower {key}.kv_cache_memory_gib={cache_gib:g}"
        )
    if (model.pipeline_parallel_size or 1) > 1:
        raise ConfigError(f"{key}.pipeline_parallel_size={model.pipeline_parallel_size} needs GPUs; on a CPU it is 1")
    check_tensor_parallel_size(arch, tp, tp, key)


def _choose_context(arch: Architecture, model: ModelConfig, pool: float, tp: int, key: str, lengths: Lengths) -> int:
    def held(tokens: int) -> int:
        return sequence_kv_bytes(
            arch, tokens, model.kv_cache_dtype, tensor_parallel_size=tp, block=CPU_BLOCK, slack=tokens
        )

    if model.max_model_len:
        if held(model.max_model_len) > pool:
            needed = held(model.max_model_len) / GIB
            raise ConfigError(
                f"{key}.max_model_len={model.max_model_len} needs {needed:.2f} GiB of KV cache; "
                f"raise {key}.kv_cache_memory_gib={pool / GIB:g}"
            )
        return model.max_model_len
    longest = min(choose_own_context(arch, lengths), DEFAULT_CONTEXT)
    if held(longest) <= pool:
        return longest
    fits = int(pool // held(CPU_BLOCK)) * CPU_BLOCK
    if fits < CPU_BLOCK:
        raise ConfigError(f"{key}.kv_cache_memory_gib={pool / GIB:g} does not hold {CPU_BLOCK} tokens; raise it")
    return fits
