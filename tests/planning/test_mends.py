"""Every mend that an error of the planner names is tried: with it the same model plans."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from planning_clusters import CPU, MODELS, gpus

from synthgen.config import ClusterConfig, GpuConfig
from synthgen.errors import ConfigError
from synthgen.planning import plan_engine
from synthgen.planning.prices import find_gpu_price

H100 = gpus("h100-80", 1)
NODE = gpus("h100-80")
TWO_NODES = gpus("h100-80", 8, 2)
UNKNOWN = ClusterConfig(gpus_per_node=1, gpu=GpuConfig(name="B900"))
ROPE = {"hf_overrides": {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}}

# Model, what is wrong, where; what the error says, and the same with what it says: another model by `name`.
CASES: list[tuple[str, dict[str, Any], ClusterConfig, str, dict[str, Any], ClusterConfig]] = [
    ("llama-3.1-8b", {"gpu_memory_utilization": 1.5}, H100, "0.92", {"gpu_memory_utilization": 0.92}, H100),
    *[
        ("llama-3.1-8b", {"kv_cache_dtype": "fp7"}, H100, kind, {"kv_cache_dtype": kind}, H100)
        for kind in ("auto", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2")
    ],
    ("llama-3.1-8b", {"kv_cache_memory_gib": -1.0}, H100, "leave it out", {}, H100),
    ("llama-3.1-8b", {"max_num_batched_tokens": 0}, H100, "leave it out", {}, H100),
    ("llama-3.1-8b", {"max_model_len": 200_000}, H100, "lower it", {"max_model_len": 131_072}, H100),
    (
        "llama-3.1-8b",
        {"max_model_len": 200_000},
        H100,
        "model.engine_args.hf_overrides",
        {"max_model_len": 200_000, "engine_args": ROPE},
        H100,
    ),
    *[
        ("llama-3.1-8b", {"tensor_parallel_size": 3}, NODE, "try 1, 2, 4 or 8", {"tensor_parallel_size": size}, NODE)
        for size in (1, 2, 4, 8)
    ],
    (
        "llama-3.1-405b-fp8",
        {"tensor_parallel_size": 16},
        TWO_NODES,
        "across nodes use model.pipeline_parallel_size",
        {"tensor_parallel_size": 8, "pipeline_parallel_size": 2},
        TWO_NODES,
    ),
    (
        "qwen3-30b-a3b",
        {"engine_args": {"data_parallel_size": 16}},
        NODE,
        "try 8 or less",
        {"engine_args": {"data_parallel_size": 8}},
        NODE,
    ),
    ("llama-3.1-8b", {"replicas": 9}, NODE, "model.replicas=8", {"replicas": 8}, NODE),
    ("llama-3.1-8b", {}, UNKNOWN, "cluster/gpu=h100-80", {}, H100),
    ("llama-3.1-8b-fp8", {}, CPU, "such as qwen2.5-0.5b", {"name": "qwen2.5-0.5b"}, CPU),
    ("llama-3.1-8b-fp8", {}, CPU, "set cluster to one with GPUs", {}, H100),
    ("llama-3.1-70b", {}, CPU, "such as qwen2.5-0.5b", {"name": "qwen2.5-0.5b"}, CPU),
    ("llama-3.1-70b", {}, CPU, "a cluster with GPUs", {}, NODE),
    ("qwen2.5-0.5b", {"pipeline_parallel_size": 2}, CPU, "on a CPU it is 1", {"pipeline_parallel_size": 1}, CPU),
    (
        "qwen2.5-0.5b",
        {"max_model_len": 32_768, "kv_cache_memory_gib": 0.01},
        CPU,
        "raise model.kv_cache_memory_gib",
        {"max_model_len": 32_768, "kv_cache_memory_gib": 1.0},
        CPU,
    ),
    ("qwen2.5-0.5b", {"kv_cache_memory_gib": 1e-5}, CPU, "raise it", {"kv_cache_memory_gib": 1.0}, CPU),
    (
        "qwen2.5-0.5b",
        {"kv_cache_memory_gib": 1e6},
        CPU,
        "lower model.kv_cache_memory_gib",
        {"kv_cache_memory_gib": 1.0},
        CPU,
    ),
]


@pytest.mark.parametrize(("name", "wrong", "cluster", "said", "mend", "there"), CASES)
def test_what_an_error_names_plans(
    name: str, wrong: dict[str, Any], cluster: ClusterConfig, said: str, mend: dict[str, Any], there: ClusterConfig
) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_engine(replace(MODELS[name], **wrong), cluster)
    assert said in str(caught.value)
    model = MODELS[mend.pop("name", name)]
    assert plan_engine(replace(model, **mend), there).replicas >= 1


def test_price_of_a_gpu_hour_is_the_users_first() -> None:
    sheet = replace(H100, gpu_hour_usd=0.0)
    price = find_gpu_price(sheet)
    assert price is not None
    assert price.low < price.middle < price.high
    assert "2026" in price.source
    own = find_gpu_price(replace(sheet, gpu_hour_usd=9.0))
    assert own is not None
    assert (own.low, own.high, own.source) == (9.0, 9.0, "cluster.gpu_hour_usd")
    assert find_gpu_price(CPU) is None
    wrong = replace(sheet, gpu=replace(sheet.gpu, hour_usd=[3.0, 2.0]))
    with pytest.raises(ConfigError, match=r"try \[2\.0,3\.0\]"):
        find_gpu_price(wrong)
    assert find_gpu_price(replace(sheet, gpu=replace(sheet.gpu, hour_usd=[2.0, 3.0]))) is not None
