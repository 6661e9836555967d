"""Tokens per second from data sheets: what a step must read and multiply, over what the GPU can, times an efficiency.

A decode step reads the weights (or multiplies them with one token per sequence, if that takes longer), then each
sequence's KV cache; prefill multiplies the weights with all prompt tokens. With tensor parallelism each layer ends in
two all-reduces (Megatron-LM, arXiv 1909.08053). The roofline model is Williams et al., CACM 2009. The constants are
fitted to NVIDIA's published throughput of Llama 3.1 8B, 70B and 405B on H100 and H200 (docs/planning.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from synthgen.config import GpuConfig
from synthgen.models.architecture import Architecture
from synthgen.models.tensors import count_active_parameters
from synthgen.planning.memory import expert_bytes, sequence_kv_bytes, weights_bytes

STEP_OVERHEAD_S = 0.002
"""Scheduling and sampling of one engine step, s; it is what bounds small models."""
ALL_REDUCE_LATENCY_S = 25e-6
"""Of one all-reduce between GPUs of a node, s."""
COMPUTE_SHARE = 0.8
LINK_SHARE = 0.67
"""What of the matrix units and of the links is reached, as a share of what is reached of the memory bandwidth."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What one replica does. Prefill and decode take turns on it, so their times add up."""

    prefill_tokens_per_s: float
    decode_tokens_per_s: float

    def seconds(self, prefill_tokens: float, decode_tokens: float) -> float:
        """Return the time of so much work, s."""
        return prefill_tokens / self.prefill_tokens_per_s + decode_tokens / self.decode_tokens_per_s

    def output_rate(self, prefill_tokens: float, decode_tokens: float) -> float:
        """Return output tokens/s while so many prompt tokens come with so many output tokens."""
        return decode_tokens / self.seconds(prefill_tokens, decode_tokens)


def estimate_speed(
    arch: Architecture,
    gpu: GpuConfig,
    *,
    tensor_parallel_size: int,
    pipeline_parallel_size: int = 1,
    sequences: int,
    context_tokens: float,
    kv_cache_dtype: str = "auto",
    efficiency: float = 0.65,
) -> Speed | None:
    """Return a replica's speed with `sequences` running at once, each `context_tokens` long on average.

    Args:
        efficiency: achieved share of the memory bandwidth, 0..1; the shares of compute and links follow from it.

    Returns:
        None where the GPU has no data sheet.
    """
    if gpu.bandwidth_gb_s <= 0 or gpu.tflops_bf16 <= 0:
        return None
    tp, pp = tensor_parallel_size, pipeline_parallel_size
    gpus = tp * pp
    memory = gpu.bandwidth_gb_s * 1e9 * efficiency
    peak = _peak_flops(arch, gpu) * COMPUTE_SHARE * efficiency
    plain_peak = gpu.tflops_bf16 * 1e12 * COMPUTE_SHARE * efficiency
    active = 2 * count_active_parameters(arch)
    batch = max(1.0, sequences / pp)  # pipeline stages work on different parts of the batch at the same time
    layers = arch.num_layers / pp

    multiply = max(_weights_read(arch, batch) / gpus / memory, batch * active / gpus / peak)
    attend = batch * sequence_kv_bytes(arch, context_tokens, kv_cache_dtype, tensor_parallel_size=tp) / pp / memory
    link = _link_s(arch, gpu, tp, efficiency) * layers
    wait = 2 * layers * ALL_REDUCE_LATENCY_S if tp > 1 else 0.0
    stage = multiply + attend + batch * link + wait + STEP_OVERHEAD_S

    attention = _attention_flops(arch, context_tokens / 2)
    per_token = active / gpus / peak + attention / gpus / plain_peak + link
    return Speed(prefill_tokens_per_s=1 / per_token, decode_tokens_per_s=batch / stage)


def _peak_flops(arch: Architecture, gpu: GpuConfig) -> float:
    """Return the peak of the matrix units in the checkpoint's number format; without it the weights are widened."""
    known = {"fp4": gpu.tops_fp4, "fp8": gpu.tops_fp8, "int8": gpu.tops_int8, "bf16": gpu.tflops_bf16}
    return (known[arch.quantization.compute] or gpu.tflops_bf16) * 1e12


def _weights_read(arch: Architecture, batch: float) -> float:
    """Return the bytes of weights that a step reads: all, but of experts only those that some token chose."""
    total = float(weights_bytes(arch))
    embeddings = arch.vocab_size * arch.hidden_size * arch.dtype_bytes
    if not arch.tie_word_embeddings:
        total -= embeddings  # the input side reads single rows
    experts = arch.experts
    if experts is None:
        return total
    held_bytes = expert_bytes(arch)
    unread: float = (1 - experts.per_token / experts.count) ** batch
    return total - held_bytes * unread


def _attention_flops(arch: Architecture, context: float) -> float:
    """Return the multiplications and additions of attention itself, for one token after `context` others."""
    seen = sum(context if window is None else min(context, window) for window in arch.windows)
    kept = sum(numbers for cache in arch.caches for numbers, _ in cache.state)  # a state is read and written whole
    return 4 * arch.num_heads * arch.head_dim * seen + 4 * kept


def _link_s(arch: Architecture, gpu: GpuConfig, tp: int, efficiency: float) -> float:
    """Return the time that one token's two all-reduces in one layer take on the links, s."""
    if tp == 1:
        return 0.0
    moved = 2 * arch.hidden_size * arch.dtype_bytes * 2 * (tp - 1) / tp
    return moved / ((gpu.interconnect_gb_s or 32) * 1e9 * LINK_SHARE * efficiency)
