"""Tokens per second, against throughput that NVIDIA publishes, and laws that hold for any GPU."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planning_clusters import MODELS, gpus

from synthgen.config import GpuConfig, ModelConfig
from synthgen.planning import Lengths, resolve_architecture
from synthgen.planning.fit import fit_model
from synthgen.planning.roofline import Shares, estimate_speed
from synthgen.planning.splits import Splitting

# Output tokens/s for each of LENGTHS, (prompt, completion) tokens: FP8 weights and FP8 KV cache, all requests at once.
# NVIDIA/TensorRT-LLM 1.0, docs/source/performance/perf-overview.md.
LENGTHS = ((128, 2048), (500, 2000), (1000, 1000), (2048, 128))
PUBLISHED: dict[tuple[str, str, int], tuple[int, ...]] = {
    ("llama-3.1-8b-fp8", "h100-80", 1): (22714, 17660, 15220, 3450),
    ("llama-3.1-8b-fp8", "h200-141", 1): (26221, 20770, 17744, 3538),
    ("llama-3.3-70b-fp8", "h100-80", 2): (6651, 5222, 4205, 762),
    ("llama-3.3-70b-fp8", "h200-141", 1): (4336, 3666, 2909, 442),
    ("llama-3.1-405b", "h100-80", 8): (4340, 3994, 2919, 453),
    ("llama-3.1-405b", "h200-141", 8): (5348, 4724, 3330, 456),
}
CASES = [
    (*key, *lengths, rate) for key, rates in PUBLISHED.items() for lengths, rate in zip(LENGTHS, rates, strict=True)
]
TENSORRT_EFFICIENCY = 0.75
TENSORRT = Shares(
    compute=0.8, decline=0, link=0.67, all_reduce_s=25e-6, step_s=0.002, routing_s=0, grouped=1, amd=1
)  # fitted to 60 figures of that page
MOST_SEQS = 2048


def published_model(name: str) -> ModelConfig:
    """NVIDIA's FP8 quantizes every linear layer, and the KV cache."""
    fp8 = MODELS["llama-3.1-70b-fp8"].architecture["quantization_config"]
    model = MODELS[name]
    return replace(
        model,
        architecture={**model.architecture, "quantization_config": fp8},
        kv_cache_dtype="fp8",
        gpu_memory_utilization=0.95,
    )


def predict(name: str, kind: str, tp: int, prompt: int, output: int, efficiency: float) -> float:
    model, cluster = published_model(name), gpus(kind)
    arch = resolve_architecture(model)
    fit = fit_model(arch, model, cluster, Splitting(tp), Lengths(prompt, output, prompt + output))
    speed = estimate_speed(
        arch,
        cluster.gpu,
        tensor_parallel_size=tp,
        sequences=min(MOST_SEQS, fit.concurrent_seqs),
        context_tokens=prompt + output / 2,
        kv_cache_dtype="fp8",
        efficiency=efficiency,
        shares=TENSORRT,
    )
    assert speed is not None
    return speed.output_rate(prompt, output)


@pytest.mark.parametrize(("name", "kind", "tp", "prompt", "output", "rate"), CASES)
def test_estimate_speed_is_near_what_was_published(
    name: str, kind: str, tp: int, prompt: int, output: int, rate: int
) -> None:
    assert predict(name, kind, tp, prompt, output, TENSORRT_EFFICIENCY) == pytest.approx(rate, rel=0.25)


def test_estimate_speed_is_not_biased() -> None:
    errors = [math.log(predict(*case[:5], TENSORRT_EFFICIENCY) / case[5]) for case in CASES]
    assert abs(statistics.mean(errors)) < 0.05
    assert statistics.pstdev(errors) < 0.12


def test_estimate_speed_needs_a_data_sheet() -> None:
    arch = resolve_architecture(MODELS["llama-3.1-8b"])
    nothing = GpuConfig(name="B900", memory_gib=100)
    assert estimate_speed(arch, nothing, tensor_parallel_size=1, sequences=8, context_tokens=100) is None


def test_estimate_speed_reads_only_the_experts_that_are_chosen() -> None:
    arch, gpu = resolve_architecture(MODELS["qwen3-30b-a3b"]), gpus("h100-80").gpu
    one = estimate_speed(arch, gpu, tensor_parallel_size=1, sequences=1, context_tokens=100)
    many = estimate_speed(arch, gpu, tensor_parallel_size=1, sequences=256, context_tokens=100)
    dense = resolve_architecture(MODELS["qwen3-32b"])
    slow = estimate_speed(dense, gpu, tensor_parallel_size=1, sequences=1, context_tokens=100)
    assert one is not None
    assert many is not None
    assert slow is not None
    assert one.decode_tokens_per_s > 3 * slow.decode_tokens_per_s
    assert many.decode_tokens_per_s < 256 * one.decode_tokens_per_s / 4  # a large batch reads nearly all of them


@given(
    sequences=st.integers(1, 512),
    more=st.integers(0, 512),
    context=st.floats(1, 8000),
    efficiency=st.floats(0.1, 0.9),
    tp=st.sampled_from([1, 2, 4, 8]),
)
def test_estimate_speed_grows_with_the_batch_and_the_gpu(
    sequences: int, more: int, context: float, efficiency: float, tp: int
) -> None:
    arch, gpu = resolve_architecture(MODELS["llama-3.1-8b"]), gpus("h100-80").gpu

    def decode(count: int, tokens: float, share: float, kind: GpuConfig) -> float:
        speed = estimate_speed(
            arch, kind, tensor_parallel_size=tp, sequences=count, context_tokens=tokens, efficiency=share
        )
        assert speed is not None
        return speed.decode_tokens_per_s

    base = decode(sequences, context, efficiency, gpu)
    assert decode(sequences + more, context, efficiency, gpu) >= base * 0.999
    assert decode(sequences, context + 100, efficiency, gpu) <= base
    assert decode(sequences, context, efficiency + 0.1, gpu) >= base
    assert decode(sequences, context, efficiency, replace(gpu, bandwidth_gb_s=gpu.bandwidth_gb_s * 2)) >= base
