"""vLLM on a machine without GPUs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from planning_clusters import CPU, MODELS

from synthgen.errors import ConfigError
from synthgen.planning import plan_engine
from synthgen.planning.cpu_placement import plan_on_cpu
from synthgen.planning.hardware import has_bfloat16


@pytest.fixture(autouse=True)
def cpu_with_avx512(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synthgen.planning.cpu_placement.has_bfloat16", lambda: True)


def test_plan_on_cpu_takes_float32_where_bfloat16_is_slow() -> None:
    model = MODELS["qwen2.5-0.5b"]
    plain, wide = (plan_on_cpu(model, CPU, host_memory_gib=64, bfloat16=quick) for quick in (True, False))
    assert (plain.apply(model).dtype, wide.apply(model).dtype) == ("auto", "float32")
    assert wide.weights_gib == 2 * plain.weights_gib
    assert wide.kv_cache_tokens == plain.kv_cache_tokens // 2  # the cache is of the same numbers
    assert any("float32: this CPU has no AVX-512, and is slow in bfloat16" in reason for reason in wide.reasons)
    for kept in (replace(model, dtype="bfloat16"), replace(MODELS["llama-3.1-8b-w8a8"], dtype="auto")):
        assert plan_on_cpu(kept, CPU, host_memory_gib=64, bfloat16=False).dtype is None
    assert plan_on_cpu(MODELS["llama-3.1-8b"], CPU, host_memory_gib=64, bfloat16=False).dtype is None  # 30 GiB
    assert plan_on_cpu(model, CPU, host_memory_gib=4.5, bfloat16=False).dtype is None, "what fits, runs"


@pytest.mark.parametrize(
    ("text", "quick"),
    [("flags\t\t: fpu avx2 fma\n", False), ("flags : avx2 avx512f\n", True), ("Features : fp bf16\n", True)],
)
def test_has_bfloat16_reads_the_flags(tmp_path: Path, text: str, quick: bool) -> None:
    has_bfloat16.cache_clear()
    (tmp_path / "cpuinfo").write_text(text)
    assert has_bfloat16(str(tmp_path / "cpuinfo")) is quick
    assert has_bfloat16(str(tmp_path / "none")) is True


def test_plan_on_cpu_fills_in_what_vllm_needs_there() -> None:
    model = MODELS["tiny"]
    filled = plan_engine(model, CPU).apply(model)
    assert (filled.tensor_parallel_size, filled.pipeline_parallel_size, filled.replicas) == (1, 1, 1)
    assert filled.kv_cache_memory_gib == 1.0
    assert filled.enable_chunked_prefill is False
    assert filled.max_num_batched_tokens is not None
    assert filled.max_model_len is not None
    assert filled.max_num_batched_tokens >= filled.max_model_len  # a whole prompt must fit into a step
    assert filled.max_num_seqs == 256


def test_plan_on_cpu_books_all_cpus_for_its_replicas() -> None:
    assert plan_engine(MODELS["tiny"], CPU).num_cpus == 8
    assert plan_engine(replace(MODELS["tiny"], replicas=2), CPU).num_cpus == 4
    assert plan_engine(replace(MODELS["tiny"], tensor_parallel_size=2), replace(CPU, num_cpus=1)).num_cpus == 2
    wide = plan_engine(MODELS["tiny"], replace(CPU, nodes=3))
    assert (wide.replicas, wide.num_cpus) == (3, 8)


def test_plan_on_cpu_limits_sequences_to_the_cache() -> None:
    plan = plan_engine(MODELS["qwen2.5-0.5b"], CPU)
    assert plan.kv_cache_tokens == 2**30 // (12 * 1024 * 128) * 128  # 12 KiB per token, in blocks of 128
    assert plan.max_num_seqs == plan.kv_cache_tokens // 1024


def test_plan_on_cpu_lowers_the_context_to_the_cache() -> None:
    assert plan_engine(MODELS["qwen2.5-0.5b"], CPU).max_model_len == 16384
    plan = plan_engine(replace(MODELS["qwen2.5-0.5b"], kv_cache_memory_gib=0.125), CPU)
    assert plan.max_model_len == 2**27 // (12 * 1024 * 128) * 128
    assert any("max_model_len lowered" in reason for reason in plan.reasons)
    with pytest.raises(ConfigError, match=r"max_model_len=32768 needs 0\.38 GiB.*kv_cache_memory_gib=0\.125"):
        plan_engine(replace(MODELS["qwen2.5-0.5b"], kv_cache_memory_gib=0.125, max_model_len=32768), CPU)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("llama-3.3-70b-w8a8", r"67\.7 GiB of weights and needs GPUs, and this machine has none"),
        ("llama-3.1-70b-awq-int4", "needs GPUs"),
        ("llama-3.1-8b-fp8", "FP8 .* needs a GPU"),
        ("gpt-oss-20b", "MXFP4 and needs a GPU"),
    ],
)
def test_plan_on_cpu_refuses_what_needs_a_gpu(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        plan_engine(MODELS[name], CPU, key="generators.main.model")
    assert f"generators.main.model={name}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["llama-3.1-8b-awq-int4", "llama-3.1-8b-gptq-int4", "llama-3.1-8b-w8a8"])
def test_plan_on_cpu_serves_integers(name: str) -> None:
    assert plan_on_cpu(MODELS[name], CPU, host_memory_gib=64).replicas == 1


def test_plan_on_cpu_refuses_what_the_memory_does_not_hold() -> None:
    assert plan_on_cpu(MODELS["llama-3.1-8b"], CPU, host_memory_gib=32).replicas == 1
    with pytest.raises(ConfigError, match=r"18\.0 GiB of memory .* has 8\.0"):
        plan_on_cpu(MODELS["llama-3.1-8b"], CPU, host_memory_gib=8)


def test_plan_on_cpu_refuses_splits_that_do_not_exist_there() -> None:
    with pytest.raises(ConfigError, match=r"pipeline_parallel_size=2 needs GPUs"):
        plan_engine(replace(MODELS["tiny"], pipeline_parallel_size=2), CPU)
    with pytest.raises(ConfigError, match=r"tensor_parallel_size=3 must divide num_attention_heads=4; try 1 or 2"):
        plan_engine(replace(MODELS["tiny"], tensor_parallel_size=3), CPU)
