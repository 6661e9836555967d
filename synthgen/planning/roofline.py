"""Tokens per second from data sheets: what a step must read and multiply, over what the GPU can, times an efficiency.

A decode step reads the weights (or multiplies them with one token per sequence, if that takes longer), then each
sequence's KV cache; prefill multiplies the weights with all prompt tokens. With tensor parallelism each layer ends in
two all-reduces (Megatron-LM, arXiv 1909.08053). The roofline model is Williams et al., CACM 2009. What of a data sheet
is reached (`Shares`) is fitted to measurements of vLLM that others published (`python -m benchmarks.planner`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from synthgen.config import GpuConfig
from synthgen.models.architecture import Architecture
from synthgen.models.tensors import count_active_parameters, list_tensors
from synthgen.planning.memory import expert_bytes, sequence_kv_bytes, weights_bytes

EFFICIENCY = 0.65
"""Share of the memory bandwidth that vLLM reaches (`plan.efficiency`)."""
BASE_TFLOPS = 312.0
"""BF16 of an A100: the units from which `Shares.decline` counts."""


@dataclass(frozen=True, slots=True)
class Shares:
    """What an engine reaches of a data sheet; shares are of what is reached of the memory bandwidth.

    Attributes:
        compute: of matrix units of `BASE_TFLOPS`. decline: exponent; of faster units a smaller share is reached, since
            what feeds them and the power they may draw grew more slowly.
        link: of the links between GPUs. all_reduce_s: what an all-reduce waits, s.
        step_s: scheduling and sampling of a step, s; it is what bounds small models.
        routing_s: choosing experts, sorting tokens by them and bringing them back, s per layer of a mixture and step.
        grouped: of matrix units in the multiplications of experts, beside those of all tokens with one matrix.
        amd: of all this on AMD's GPUs, beside NVIDIA's.
    """

    compute: float
    decline: float
    link: float
    all_reduce_s: float
    step_s: float
    routing_s: float
    grouped: float
    amd: float


VLLM = Shares(
    compute=0.91,
    decline=0.44,
    link=0.55,
    all_reduce_s=21e-6,
    step_s=0.002,
    routing_s=57e-6,
    grouped=0.5,
    amd=0.71,
)
"""Fitted: see docs/planning.md, "Tokens per second"."""


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
    efficiency: float = EFFICIENCY,
    shares: Shares = VLLM,
) -> Speed | None:
    """Return a replica's speed with `sequences` running at once, each `context_tokens` long on average.

    Args:
        efficiency: achieved share of the memory bandwidth, 0..1; those of compute and links follow from it.
        shares: of the engine.

    Returns:
        None where the GPU has no data sheet.
    """
    if gpu.bandwidth_gb_s <= 0 or gpu.tflops_bf16 <= 0:
        return None
    tp, pp = tensor_parallel_size, pipeline_parallel_size
    gpus = tp * pp
    vendor = shares.amd if gpu.name.startswith("MI") else 1.0
    reached = efficiency * vendor
    memory = gpu.bandwidth_gb_s * 1e9 * reached
    peak = _reach(_peak_tflops(arch, gpu), shares) * reached
    plain_peak = _reach(gpu.tflops_bf16, shares) * reached
    batch = max(1.0, sequences / pp)  # pipeline stages work on different parts of the batch at the same time
    layers = arch.num_layers / pp

    per_token = _token_flops(arch, shares) / gpus / peak
    multiply = max(_weights_read(arch, batch) / gpus / memory, batch * per_token)
    attend = batch * sequence_kv_bytes(arch, context_tokens, kv_cache_dtype, tensor_parallel_size=tp) / pp / memory
    link = _link_s(arch, gpu, tp, reached * shares.link) * layers
    wait = 2 * layers * shares.all_reduce_s if tp > 1 else 0.0
    wait += len(arch.experts.layers) / pp * shares.routing_s if arch.experts is not None else 0.0
    step = multiply + attend + batch * link + wait / vendor + shares.step_s

    attention = _attention_flops(arch, context_tokens / 2)
    prefill = per_token + attention / gpus / plain_peak + link
    return Speed(prefill_tokens_per_s=1 / prefill, decode_tokens_per_s=batch / step)


def _peak_tflops(arch: Architecture, gpu: GpuConfig) -> float:
    """Return the peak of the matrix units in the checkpoint's number format; without it the weights are widened."""
    known = {"fp4": gpu.tops_fp4, "fp8": gpu.tops_fp8, "int8": gpu.tops_int8, "bf16": gpu.tflops_bf16}
    return known[arch.quantization.compute] or gpu.tflops_bf16


def _reach(tflops: float, shares: Shares) -> float:
    """Return what is reached of matrix units of so many TFLOP/s, FLOP/s, at full bandwidth."""
    return tflops * 1e12 * shares.compute / math.pow(tflops / BASE_TFLOPS, shares.decline)


def _token_flops(arch: Architecture, shares: Shares) -> float:
    """Return the multiplications and additions of a token with the weights, those of experts at what they cost."""
    experts = _count_expert_parameters(arch) if arch.experts is not None else 0
    return 2 * (count_active_parameters(arch) + experts * (1 / shares.grouped - 1))


@lru_cache(maxsize=256)
def _count_expert_parameters(arch: Architecture) -> int:
    """Return the parameters of the experts that one token is sent to."""
    return sum(t.outputs * t.inputs * t.active for t in list_tensors(arch) if t.expert)


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


def _link_s(arch: Architecture, gpu: GpuConfig, tp: int, share: float) -> float:
    """Return the time that one token's two all-reduces in one layer take on the links, s."""
    if tp == 1:
        return 0.0
    moved = 2 * arch.hidden_size * arch.dtype_bytes * 2 * (tp - 1) / tp
    return moved / ((gpu.interconnect_gb_s or 32) * 1e9 * share)
