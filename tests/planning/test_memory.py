"""Weights, KV cache and reserve: hand-worked values, vLLM's own logs, and laws that hold for any shape."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.config import ModelConfig
from synthgen.models.architecture import Architecture, read_architecture
from synthgen.planning import kv_bytes_per_token, load_models, resolve_architecture, weights_bytes
from synthgen.planning.memory import (
    CPU_BLOCK,
    GIB,
    buffers_bytes,
    kv_cache_tokens,
    reserve_bytes,
    sequence_kv_bytes,
    split_layers,
)

MODELS: dict[str, ModelConfig] = {model.name: model for model in load_models()}


def arch_of(name: str, **changes: Any) -> Architecture:
    return resolve_architecture(replace(MODELS[name], **changes))


# Linear layers, scales, embeddings and head, norms: each worked by hand from the numbers in conf/model/architecture.
WEIGHTS = {
    "llama-3.1-8b": 2 * 8_030_261_248,
    "llama-3.1-8b-fp8": 6_979_321_856 + 4 * 32 * 43_008 + 2 * (2 * 128_256 * 4_096) + 2 * 65 * 4_096,
    "llama-3.1-8b-awq-int4": 6_979_321_856 // 2 + 54_525_952 * 5 // 2 + 2_101_346_304 + 532_480,
    "llama-3.1-8b-gptq-int4": 6_979_321_856 // 2 + 54_525_952 * 2 + 2_101_346_304 + 532_480,
    "llama-3.1-70b": 2 * 70_553_706_496,
    "llama-3.1-70b-fp8": 68_451_041_280 + 4 * 80 * 83_968 + 4_202_692_608 + 2_637_824,
    "llama-3.3-70b-w8a8": 68_451_041_280 + 4 * 80 * 83_968 + 4_202_692_608 + 2_637_824,
    "llama-3.1-70b-awq-int4": 68_451_041_280 // 2 + 534_773_760 * 5 // 2 + 4_202_692_608 + 2_637_824,
    "llama-3.1-405b": 2 * 405_853_388_800,
    # Meta's FP8: the MLPs of layers 1 to 124 with a scale per output, all else in 16 bits.
    "llama-3.1-405b-fp8": 324_538_466_304 + 4 * 124 * 122_880 + 2 * (405_853_388_800 - 324_538_466_304),
    "llama-3.1-405b-awq-int4": 401_646_551_040 // 2 + 3_137_863_680 * 5 // 2 + 2 * (4_202_692_608 + 4_145_152),
}


@pytest.mark.parametrize(("name", "expected"), WEIGHTS.items(), ids=WEIGHTS)
def test_weights_bytes_by_hand(name: str, expected: int) -> None:
    assert weights_bytes(arch_of(name)) == expected


@pytest.mark.parametrize(
    ("name", "per_token", "gib_1k", "gib_16k", "gib_128k"),
    [
        ("llama-3.1-8b", 2 * 32 * 8 * 128 * 2, 0.125, 1.95, 15.62),
        ("llama-3.1-70b", 2 * 80 * 8 * 128 * 2, 0.313, 4.88, 39.06),
        # Hugging Face's post has twice as much (0.984, 15.38, 123.05): the first upload had 16 KV heads.
        ("llama-3.1-405b", 2 * 126 * 8 * 128 * 2, 0.492, 7.69, 61.52),
    ],
)
def test_kv_bytes_per_token_at_the_published_lengths(
    name: str, per_token: int, gib_1k: float, gib_16k: float, gib_128k: float
) -> None:
    arch = arch_of(name)
    assert kv_bytes_per_token(arch) == per_token
    assert 1_024 * per_token / GIB == pytest.approx(gib_1k, abs=0.001)
    assert 16_000 * per_token / GIB == pytest.approx(gib_16k, abs=0.01)
    assert 128_000 * per_token / GIB == pytest.approx(gib_128k, abs=0.01)
    assert kv_bytes_per_token(arch, "fp8") * 2 == per_token
    assert kv_bytes_per_token(arch, "fp8_e4m3") * 2 == per_token


def test_kv_bytes_per_token_of_latent_attention() -> None:
    assert kv_bytes_per_token(arch_of("deepseek-v3")) == 61 * (512 + 64) * 2


# "Model loading took X GiB" for one GPU. The 405B log is of the first upload, which had 16 KV heads
# (vllm-project/vllm#6746); the others are vLLM 0.19 on H100 (llm-d-incubation/llm-d-planner, accuracy/).
LOADED = [
    ("llama-3.1-8b", {}, 1, 1, 14.99),
    ("llama-3.1-8b", {}, 2, 1, 7.51),
    ("llama-3.1-8b", {}, 4, 1, 3.77),
    ("llama-3.1-8b", {}, 1, 2, 7.51),
    ("llama-3.1-8b", {}, 1, 4, 4.26),
    ("llama-3.1-8b", {"quantization": "fp8"}, 1, 1, 8.49),
    ("llama-3.1-8b", {"dtype": "float32"}, 1, 1, 29.98),
    ("llama-3.3-70b-fp8", {}, 1, 1, 67.72),
    ("llama-3.3-70b-fp8", {}, 2, 1, 33.88),
    ("qwen2.5-7b", {}, 1, 1, 14.25),
    ("qwen2.5-7b", {}, 4, 1, 3.55),
    ("qwen3-32b", {}, 1, 1, 61.03),
    ("gpt-oss-20b", {}, 1, 1, 13.47),
    ("gpt-oss-120b", {}, 1, 1, 64.38),
]


@pytest.mark.parametrize(("name", "changes", "tp", "pp", "logged"), LOADED)
def test_weights_and_buffers_equal_what_vllm_logged(
    name: str, changes: dict[str, Any], tp: int, pp: int, logged: float
) -> None:
    arch = arch_of(name, **changes)
    loaded = weights_bytes(arch, tensor_parallel_size=tp, stages=pp) + buffers_bytes(arch)
    assert loaded / GIB == pytest.approx(logged, rel=0.006)


def test_weights_equal_what_vllm_logged_for_the_first_405b_upload() -> None:
    model = MODELS["llama-3.1-405b-fp8"]
    first = replace(model, architecture={**model.architecture, "num_key_value_heads": 16})
    arch = resolve_architecture(first)
    assert (weights_bytes(arch, tensor_parallel_size=8) + buffers_bytes(arch)) / GIB == pytest.approx(57.752, abs=0.005)


# Available KV cache, GiB per GPU, on an H100 of 79.19 GiB: gpu_memory_utilization=0.95, max_num_batched_tokens=8192,
# max_num_seqs=1024 (vLLM 0.19, which did not yet take CUDA graphs off: llm-d-incubation/llm-d-planner, accuracy/).
AVAILABLE = [("llama-3.1-8b", 1, 58.11), ("qwen2.5-7b", 1, 58.53), ("llama-3.3-70b-fp8", 2, 37.28)]


@pytest.mark.parametrize(("name", "tp", "logged"), AVAILABLE)
def test_reserve_leaves_the_kv_cache_that_vllm_logged(name: str, tp: int, logged: float) -> None:
    arch = arch_of(name)
    reserve = reserve_bytes(
        arch, max_num_batched_tokens=8192, max_num_seqs=1024, gpus=tp, tensor_parallel_size=tp, cuda_graphs=False
    )
    pool = 79.19 * 0.95 * GIB - weights_bytes(arch, tensor_parallel_size=tp) - buffers_bytes(arch) - reserve
    assert pool / GIB == pytest.approx(logged, rel=0.01)


def test_reserve_of_a_mixture_holds_a_row_for_each_chosen_expert() -> None:
    """Two workspaces of tokens × 8 experts × 4,096 numbers, which more GPUs do not make smaller."""
    arch = arch_of("qwen3-235b-a22b-fp8")
    common: dict[str, Any] = {"max_num_batched_tokens": 16_384, "max_num_seqs": 32, "cuda_graphs": False}
    workspaces = 2 * 16_384 * 8 * 4096 * 2
    hidden = 4 * 16_384 * 4096 * 2
    for tp in (4, 8):
        reserve = reserve_bytes(arch, **common, gpus=tp, tensor_parallel_size=tp)
        assert reserve == pytest.approx(workspaces + hidden + 2.1 * GIB, abs=1)
    both = reserve_bytes(arch, **common, gpus=8, tensor_parallel_size=4, expert_gpus=8, engines=2)
    assert both == pytest.approx(2 * workspaces + hidden + 2.1 * GIB, abs=1)  # each is sent the tokens of both engines


@pytest.mark.parametrize(
    ("gpus", "link_gb_s", "outside"), [(1, 450, 0.25), (2, 450, 2.1), (8, 450, 2.1), (2, 32, 0.25)]
)
def test_reserve_outside_pytorch_follows_the_links(gpus: int, link_gb_s: float, outside: float) -> None:
    arch = arch_of("llama-3.1-8b")
    sizes: dict[str, Any] = {
        "max_num_batched_tokens": 1,
        "max_num_seqs": 0,
        "cuda_graphs": False,
        "tensor_parallel_size": 1,
    }
    assert reserve_bytes(arch, gpus=gpus, link_gb_s=link_gb_s, **sizes) / GIB == pytest.approx(outside, abs=0.001)


@pytest.mark.parametrize(
    ("name", "kv_dtype", "pool_gib", "logged"),
    [
        ("llama-3.1-8b", "auto", 58.11, 476_016),
        ("llama-3.1-8b", "fp8", 58.11, 952_032),
        ("qwen2.5-7b", "auto", 58.53, 1_096_000),
    ],
)
def test_kv_cache_tokens_equal_what_vllm_logged(name: str, kv_dtype: str, pool_gib: float, logged: int) -> None:
    tokens = kv_cache_tokens(arch_of(name), pool_gib * GIB, 8192, kv_dtype)
    assert tokens == pytest.approx(logged, rel=0.0003)  # the log rounds the pool to 0.01 GiB


def test_sequence_kv_bytes_respects_windows() -> None:
    arch = arch_of("gpt-oss-20b")
    per_layer = 2 * 8 * 64 * 2
    assert sequence_kv_bytes(arch, 1024) == 12 * (1024 + 128) * per_layer
    assert sequence_kv_bytes(arch, 64) == 24 * 64 * per_layer
    assert sequence_kv_bytes(arch, 100, block=CPU_BLOCK) == 24 * 128 * per_layer  # whole blocks


def test_split_layers_gives_the_rest_to_stages_before_the_last() -> None:
    assert split_layers(126, 2) == [63, 63]
    assert split_layers(80, 3) == [27, 27, 26]
    assert split_layers(61, 2) == [31, 30]
    assert split_layers(126, 4) == [31, 32, 32, 31]


shapes = st.builds(
    lambda heads, kv, layers, width, tie: read_architecture(
        {
            "model_type": "llama",
            "hidden_size": heads * 64,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv,
            "intermediate_size": width * 64,
            "vocab_size": 32_000,
            "max_position_embeddings": 8192,
            "tie_word_embeddings": tie,
        }
    ),
    heads=st.sampled_from([8, 16, 32]),
    kv=st.sampled_from([1, 2, 4, 8]),
    layers=st.integers(1, 12),
    width=st.sampled_from([8, 16, 64]),
    tie=st.booleans(),
)


@given(arch=shapes, tp=st.sampled_from([1, 2, 4, 8]), pp=st.integers(1, 4))
def test_shards_hold_at_least_the_whole(arch: Architecture, tp: int, pp: int) -> None:
    pp = min(pp, arch.num_layers)
    whole = weights_bytes(arch)
    shard = weights_bytes(arch, tensor_parallel_size=tp, stages=pp)
    assert whole <= shard * tp * pp
    assert shard <= whole


@given(arch=shapes, tokens=st.integers(1, 8192), more=st.integers(0, 4096))
def test_sequence_kv_bytes_grows_with_the_sequence(arch: Architecture, tokens: int, more: int) -> None:
    assert sequence_kv_bytes(arch, tokens) <= sequence_kv_bytes(arch, tokens + more)
    assert sequence_kv_bytes(arch, tokens) >= tokens * kv_bytes_per_token(arch)


@given(arch=shapes, gib=st.floats(0, 64), more=st.floats(0, 8), tp=st.sampled_from([1, 2, 4, 8]))
def test_kv_cache_tokens_fit_into_the_pool(arch: Architecture, gib: float, more: float, tp: int) -> None:
    tokens = kv_cache_tokens(arch, gib * GIB, 4096, tensor_parallel_size=tp)
    assert tokens <= kv_cache_tokens(arch, (gib + more) * GIB, 4096, tensor_parallel_size=tp)
    assert tokens * sequence_kv_bytes(arch, 4096, tensor_parallel_size=tp) / 4096 <= gib * GIB + 1


@given(layers=st.integers(1, 200), stages=st.integers(1, 16))
def test_split_layers_is_even(layers: int, stages: int) -> None:
    shares = split_layers(layers, stages)
    assert sum(shares) == layers
    assert max(shares) - min(shares) <= 1
