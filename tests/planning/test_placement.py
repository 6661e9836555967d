"""Which GPUs an engine gets."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planning_clusters import CPU, MODELS, gpus

from synthgen.config import ClusterConfig, GpuConfig, ModelConfig
from synthgen.errors import ConfigError
from synthgen.planning import DoesNotFitError, EnginePlan, Lengths, plan_engine, resolve_architecture
from synthgen.planning.gpu_placement import WANTED_SEQS
from synthgen.planning.memory import GIB, buffers_bytes, weights_bytes


@pytest.mark.parametrize(
    ("name", "cluster", "tp", "pp", "replicas"),
    [
        ("llama-3.1-8b", gpus("h100-80"), 1, 1, 8),
        ("llama-3.1-8b", gpus("l4", 1), 1, 1, 1),
        ("llama-3.1-8b", gpus("l4", 4), 2, 1, 2),  # one L4 has room for 25 sequences only
        ("llama-3.3-70b-w8a8", gpus("h100-80"), 2, 1, 4),
        ("llama-3.3-70b-w8a8", gpus("h200-141", 1), 1, 1, 1),
        ("llama-3.3-70b-w8a8", gpus("a100-40"), 4, 1, 2),
        ("llama-3.1-70b", gpus("h100-80"), 4, 1, 2),
        ("llama-3.1-405b-fp8", gpus("h100-80"), 8, 1, 1),
        ("llama-3.1-405b-fp8", gpus("h100-80", 8, 4), 8, 1, 4),
        ("llama-3.1-405b-awq-int4", gpus("h100-80"), 4, 1, 2),
        ("llama-3.1-405b", gpus("h100-80", 8, 2), 8, 2, 1),
        ("llama-3.1-405b", gpus("h200-141"), 8, 1, 1),
        ("deepseek-v3", gpus("h200-141"), 8, 1, 1),
    ],
)
def test_plan_engine_chooses(name: str, cluster: ClusterConfig, tp: int, pp: int, replicas: int) -> None:
    plan = plan_engine(MODELS[name], cluster)
    assert (plan.tensor_parallel_size, plan.pipeline_parallel_size, plan.replicas) == (tp, pp, replicas)
    assert plan.num_gpus == tp * pp
    assert plan.nodes == (2 if pp == 2 else 1)


def test_plan_engine_fills_in_every_choice() -> None:
    model = MODELS["llama-3.3-70b-w8a8"]
    filled = plan_engine(model, gpus("h100-80")).apply(model)
    assert filled.tensor_parallel_size == 2
    assert filled.pipeline_parallel_size == 1
    assert filled.replicas == 4
    assert filled.max_num_seqs
    assert filled.max_num_batched_tokens == 16384
    assert filled.max_model_len == 131072
    assert filled.enable_chunked_prefill is True
    assert filled.kv_cache_memory_gib is None  # vLLM measures
    assert filled.id == model.id


def test_plan_engine_keeps_what_the_configuration_fixes() -> None:
    model = replace(
        MODELS["llama-3.1-8b"], tensor_parallel_size=4, replicas=1, max_num_seqs=33, max_model_len=4096,
        max_num_batched_tokens=2048, enable_chunked_prefill=False,
    )  # fmt: skip
    plan = plan_engine(model, gpus("h100-80"))
    assert plan.apply(model) == replace(model, pipeline_parallel_size=1)


def test_plan_engine_explains_itself_with_numbers() -> None:
    reasons = "\n".join(plan_engine(MODELS["llama-3.3-70b-w8a8"], gpus("h100-80")).reasons)
    assert "TP 2: the smallest fast split with room for 64 sequences" in reasons
    assert re.search(r"TP 1: 8 replicas, .* each with room for \d+ sequences", reasons)
    assert "TP 4: 2 replicas, about " in reasons


def test_plan_engine_prefers_a_larger_split_when_the_small_one_is_cramped() -> None:
    long = Lengths(prompt=16_000, output=1_000, longest=20_000)
    assert plan_engine(MODELS["llama-3.3-70b-w8a8"], gpus("h100-80"), lengths=long).tensor_parallel_size > 2


def test_plan_engine_lowers_the_context_where_it_does_not_fit() -> None:
    plan = plan_engine(MODELS["llama-3.1-8b"], gpus("l4", 1))
    assert plan.max_model_len is not None
    assert 20_000 < plan.max_model_len < 30_000
    assert any("max_model_len lowered from 131,072" in reason for reason in plan.reasons)
    assert plan.kv_cache_tokens >= plan.max_model_len


def test_plan_engine_says_what_is_short_and_what_would_fit() -> None:
    with pytest.raises(DoesNotFitError) as caught:
        plan_engine(MODELS["llama-3.1-405b"], gpus("h100-80"), key="judge.model")
    text = str(caught.value)
    assert "judge.model=llama-3.1-405b" in text
    assert f"{caught.value.short_gib:.1f} GiB short" in text
    assert "model@judge.model=llama-3.1-405b-fp8" in text
    assert "cluster.nodes=2" in text
    assert re.search(r", or \d × [A-Z]+\d+", text), "the least GPUs of another kind"
    assert "\n" not in text


def test_plan_engine_suggests_the_split_that_fits() -> None:
    model = replace(MODELS["llama-3.3-70b-w8a8"], tensor_parallel_size=1, pipeline_parallel_size=1)
    with pytest.raises(DoesNotFitError, match=r"try model\.tensor_parallel_size=4"):
        plan_engine(model, gpus("a100-40"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"tensor_parallel_size": 3},
            r"gen\.tensor_parallel_size=3 must divide num_attention_heads=32; try 1, 2, 4 or 8",
        ),
        ({"tensor_parallel_size": 16}, "more than the 8 GPUs of a node"),
        ({"replicas": 9}, r"gen\.replicas=9: .* holds 8 replicas .*try gen\.replicas=8"),
        ({"pipeline_parallel_size": 33}, "more than the 32 layers"),
        ({"pipeline_parallel_size": 9}, "needs more GPUs"),
    ],
)
def test_plan_engine_refuses_fixed_sizes_that_cannot_work(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_engine(replace(MODELS["llama-3.1-8b"], **changes), gpus("h100-80"), key="gen")


def test_plan_engine_keeps_quantization_groups_whole() -> None:
    # Qwen2.5-72B has an MLP of 29568 = 231 × 128: in groups of 128 it cannot be split at all.
    awq = {"quant_method": "awq", "bits": 4, "group_size": 128}
    model = MODELS["qwen2.5-72b"]
    model = replace(model, architecture={**model.architecture, "quantization_config": awq}, tensor_parallel_size=2)
    with pytest.raises(ConfigError, match="in groups of 128"):
        plan_engine(model, gpus("h100-80"))


def test_plan_engine_needs_the_memory_of_an_unknown_gpu() -> None:
    cluster = ClusterConfig(gpus_per_node=1, gpu=GpuConfig(name="B900"))
    with pytest.raises(ConfigError, match=r"cluster\.gpu\.memory_gib"):
        plan_engine(MODELS["llama-3.1-8b"], cluster)


def test_plan_engine_without_a_data_sheet_still_places() -> None:
    cluster = ClusterConfig(gpus_per_node=8, gpu=GpuConfig(name="B900", memory_gib=79.1))
    plan = plan_engine(MODELS["llama-3.3-70b-w8a8"], cluster)
    assert plan.tensor_parallel_size == 2
    assert plan.speed is None


@pytest.mark.parametrize("name", ["llama-3.1-405b-bnb-nf4", "llama-3.1-8b-bnb-nf4"])
def test_plan_engine_refuses_what_vllm_does_not_serve(name: str) -> None:
    with pytest.raises(ConfigError, match=r"bitsandbytes .*awq-int4"):
        plan_engine(MODELS[name], gpus("h200-141"))


def test_plan_engine_names_the_plugin_that_is_missing() -> None:
    with pytest.raises(ConfigError, match="pip install vllm-gguf-plugin"):
        plan_engine(MODELS["llama-3-8b-gguf"], gpus("h100-80"))


def test_plan_engine_rehearses_placement_with_echo() -> None:
    real = plan_engine(MODELS["llama-3.3-70b-w8a8"], gpus("h100-80"))
    rehearsed = plan_engine(replace(MODELS["llama-3.3-70b-w8a8"], engine="echo"), gpus("h100-80"))
    assert (rehearsed.num_gpus, rehearsed.replicas) == (real.num_gpus, real.replicas)
    sized = replace(MODELS["echo"], tensor_parallel_size=8, pipeline_parallel_size=2)
    plan = plan_engine(sized, gpus("h100-80", 8, 2))
    assert (plan.num_gpus, plan.nodes, plan.replicas) == (16, 2, 1)
    with pytest.raises(ConfigError, match="do not fit"):
        plan_engine(sized, gpus("h100-80"))


def test_plan_engine_of_engines_without_a_model() -> None:
    assert plan_engine(MODELS["echo"], CPU).replicas == 4
    assert plan_engine(replace(MODELS["echo"], replicas=7), CPU).replicas == 7
    endpoint = plan_engine(MODELS["openai_endpoint"], gpus("h100-80"))
    assert (endpoint.num_gpus, endpoint.num_cpus, endpoint.max_num_seqs) == (0, 0, 64)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(
        ["llama-3.1-8b", "llama-3.3-70b-w8a8", "llama-3.1-405b-fp8", "qwen2.5-7b", "gpt-oss-20b", "phi-4"]
    ),
    memory=st.floats(12, 200),
    per_node=st.integers(1, 8),
    nodes=st.integers(1, 3),
    output=st.integers(16, 4096),
)
def test_plans_fit_into_memory_and_divide_the_heads(
    name: str, memory: float, per_node: int, nodes: int, output: int
) -> None:
    model, cluster = _case(name, memory, per_node, nodes)
    lengths = Lengths(prompt=300, output=output, longest=1000 + output)
    plan = _try(model, cluster, lengths)
    if plan is None:
        return
    arch = resolve_architecture(model)
    fit = plan.fit
    assert fit is not None
    weights = weights_bytes(
        arch, tensor_parallel_size=plan.tensor_parallel_size, stages=plan.pipeline_parallel_size
    ) + buffers_bytes(arch)
    assert fit.weights_gib == pytest.approx(weights / GIB)
    assert fit.weights_gib + fit.reserve_gib + fit.kv_gib <= memory * model.gpu_memory_utilization + 1e-6
    assert arch.num_heads % plan.tensor_parallel_size == 0
    assert plan.tensor_parallel_size <= per_node
    assert plan.gpus <= nodes * per_node
    assert plan.nodes <= nodes
    assert plan.kv_cache_tokens >= (plan.max_model_len or 0) > 0
    assert plan.max_num_seqs >= 1


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(["llama-3.1-8b", "llama-3.3-70b-w8a8", "qwen2.5-7b"]),
    memory=st.floats(16, 150),
    more=st.floats(0, 60),
    per_node=st.sampled_from([1, 2, 4, 8]),
)
def test_plans_need_no_more_gpus_with_more_memory(name: str, memory: float, more: float, per_node: int) -> None:
    small = _try(*_case(name, memory, per_node, 1))
    large = _try(*_case(name, memory + more, per_node, 1))
    if small is None:
        return
    assert large is not None
    if small.fit is not None and small.fit.concurrent_seqs >= WANTED_SEQS:
        assert large.num_gpus <= small.num_gpus


def _case(name: str, memory: float, per_node: int, nodes: int) -> tuple[ModelConfig, ClusterConfig]:
    sheet = replace(gpus("h100-80").gpu, memory_gib=memory)
    return MODELS[name], ClusterConfig(nodes=nodes, gpus_per_node=per_node, gpu=sheet)


def _try(model: ModelConfig, cluster: ClusterConfig, lengths: Lengths | None = None) -> EnginePlan | None:
    try:
        return plan_engine(model, cluster, lengths=lengths)
    except DoesNotFitError:
        return None


def make_classifier(**fields: Any) -> ModelConfig:
    return replace(MODELS["llama-prompt-guard-2-86m"], **fields)


def test_small_classifier_of_transformers_leaves_the_gpus_to_others() -> None:
    plan = plan_engine(make_classifier(), gpus("h100-80", nodes=2))
    assert (plan.num_gpus, plan.num_cpus, plan.replicas) == (0, 1.0, 2)
    assert plan.apply(make_classifier()).engine_args == {"device": "cpu"}
    assert plan.weights_gib == pytest.approx(278.8e6 * 4 / GIB, rel=0.01)  # mDeBERTa v3 base, in 32 bits
    alone = plan_engine(make_classifier(), CPU)
    assert (alone.num_gpus, alone.num_cpus, alone.replicas) == (0, 8.0, 1)
    bounded = make_classifier(max_num_batched_tokens=512, max_model_len=100)
    filled = plan_engine(bounded, CPU).apply(bounded)
    assert (filled.max_num_batched_tokens, filled.max_model_len, filled.dtype) == (512, 100, "float32")
    asked = plan_engine(make_classifier(engine_args={"device": "cuda"}, replicas=3), gpus("h100-80"))
    assert (asked.num_gpus, asked.replicas, asked.gpus) == (1, 3, 3)


def test_large_classifier_of_transformers_takes_a_gpu() -> None:
    large = replace(MODELS["llama-3.1-8b"], engine="transformers")
    plan = plan_engine(large, gpus("h100-80", 4))
    assert (plan.num_gpus, plan.replicas) == (1, 4)
    assert plan.apply(large).engine_args == {"device": "cuda"}
    with pytest.raises(DoesNotFitError, match=r"has 29\.9 GiB of weights, .* 18 GiB of that are for weights here"):
        plan_engine(large, gpus("l4"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tensor_parallel_size": 2}, "model.tensor_parallel_size=2: engine=transformers serves a model on one GPU"),
        ({"kv_cache_memory_gib": 2.0}, "model.kv_cache_memory_gib=2.0 has no effect on engine=transformers"),
        ({"id": "s3://bucket/model"}, "engine=transformers reads no URLs and no GGUF files"),
        ({"id": "org/guard", "gguf_file": "q.gguf"}, "engine=transformers reads no URLs and no GGUF files"),
        ({"lora": "org/adapter"}, "model.lora=org/adapter has no effect on engine=transformers"),
        ({"engine_args": {"max_loras": 2}}, "model.engine_args.max_loras is vLLM's"),
        ({"engine_args": {"device": "tpu"}}, "model.engine_args.device=tpu must be cpu or cuda"),
        ({"engine_args": {"device": "cuda"}}, "model.engine_args.device=cuda, and this cluster has no GPU"),
    ],
)
def test_classifier_of_transformers_is_asked_for_nothing_else(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        plan_engine(make_classifier(**fields), CPU)
