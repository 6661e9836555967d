"""From a catalog entry to vLLM's arguments, and what is refused before anything is loaded."""

from __future__ import annotations

from typing import Any

import pytest

from synthgen.config import ModelConfig
from synthgen.engines.vllm_args import check_catalog_entry, check_checkpoint, make_cpu_environment, make_engine_args
from synthgen.errors import ConfigError

FP8 = {
    "quant_method": "compressed-tensors",
    "config_groups": {"group_0": {"weights": {"type": "float", "num_bits": 8}}},
}
INT8 = {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"type": "int", "num_bits": 8}}}}


def make_model(**fields: object) -> ModelConfig:
    return ModelConfig(**{"name": "m", "id": "org/m", **fields})  # type: ignore[arg-type]


def check(
    model: ModelConfig, *, heads: int | None = 32, quantization: dict[str, Any] | None = None, on_cpu: bool = False
) -> None:
    check_checkpoint(model, heads=heads, quantization=quantization, on_cpu=on_cpu, cpus=4)


def test_engine_args_leave_open_choices_to_vllm() -> None:
    args = make_engine_args(make_model(), path="org/m", on_cpu=False)
    assert not args.keys() & {
        "max_model_len",
        "max_num_seqs",
        "max_num_batched_tokens",
        "kv_cache_memory_bytes",
        "enable_chunked_prefill",
        "quantization",
        "revision",
        "distributed_executor_backend",
    }
    assert (args["model"], args["scheduling_policy"], args["tensor_parallel_size"]) == ("org/m", "priority", 1)


def test_engine_args_are_fields_of_vllm() -> None:
    arg_utils = pytest.importorskip("vllm.engine.arg_utils")
    numbers = {"max_model_len": 9, "max_num_seqs": 9, "max_num_batched_tokens": 9, "kv_cache_memory_gib": 2.5}
    model = make_model(revision="r", tokenizer="t", quantization="fp8", enable_chunked_prefill=True, **numbers)
    args = make_engine_args(model, path="p", on_cpu=True, lora_ranks=[16], distributed_executor_backend="ray")
    assert args.keys() <= set(arg_utils.AsyncEngineArgs.__dataclass_fields__)
    assert args["kv_cache_memory_bytes"] == 2.5 * 2**30


def test_engine_args_of_a_cpu_bound_memory_and_context() -> None:
    args = make_engine_args(make_model(), path="p", on_cpu=True, context_length=131072)
    assert (args["kv_cache_memory_bytes"], args["max_model_len"], args["enable_chunked_prefill"]) == (
        2**30,
        16384,
        False,
    )
    assert make_engine_args(make_model(), path="p", on_cpu=True, context_length=2048)["max_model_len"] == 2048
    assert (
        make_engine_args(make_model(max_model_len=99), path="p", on_cpu=True, context_length=2048)["max_model_len"]
        == 99
    )


def test_engine_args_of_the_user_win() -> None:
    model = make_model(engine_args={"seed": 5, "max_logprobs": 7, "scheduling_policy": None})
    args = make_engine_args(model, path="p", on_cpu=False)
    assert (args["seed"], args["max_logprobs"]) == (5, 7)
    assert "scheduling_policy" not in args


def test_tokenizer_revision_follows_only_the_models_own_tokenizer() -> None:
    assert make_engine_args(make_model(revision="r"), path="p", on_cpu=False)["tokenizer_revision"] == "r"
    assert "tokenizer_revision" not in make_engine_args(make_model(revision="r", tokenizer="t"), path="p", on_cpu=False)


@pytest.mark.parametrize(
    ("cpus", "processes", "threads"), [(1, 1, "1"), (2, 1, "1"), (2, 2, "1"), (9, 2, "4"), (16, 1, "15")]
)
def test_cpu_environment_shares_the_cpus_and_leaves_one(cpus: int, processes: int, threads: str) -> None:
    environment = make_cpu_environment(cpus=cpus, processes=processes)
    assert environment == {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": threads}


def test_unservable_entry_says_why() -> None:
    with pytest.raises(ConfigError, match="cannot be served: take the FP8 one"):
        check_catalog_entry(make_model(unservable="take the FP8 one"))


def test_missing_plugin_says_how_to_install_it() -> None:
    with pytest.raises(ConfigError, match="pip install vllm-no-such-plugin"):
        check_catalog_entry(make_model(requires_package="vllm-no-such-plugin"))
    check_catalog_entry(make_model(requires_package="pytest"))


def test_tensor_parallel_size_must_divide_the_heads() -> None:
    with pytest.raises(ConfigError, match=r"tensor_parallel_size=3 must divide num_attention_heads=32; try .*2 or 4"):
        check(make_model(tensor_parallel_size=3))
    check(make_model(tensor_parallel_size=3), heads=None)
    check(make_model(tensor_parallel_size=8))


def test_cpu_refuses_more_processes_than_cpus() -> None:
    with pytest.raises(ConfigError, match="4 processes at most"):
        check(make_model(tensor_parallel_size=8), on_cpu=True)
    check(make_model(tensor_parallel_size=8))


@pytest.mark.parametrize(
    ("fields", "quantization"),
    [
        ({"quantization": "fp8"}, None),
        ({}, {"quant_method": "fp8"}),
        ({}, FP8),
        ({"quantization": "bitsandbytes"}, None),
    ],
)
def test_cpu_refuses_gpu_only_quantization(fields: dict[str, object], quantization: dict[str, Any] | None) -> None:
    with pytest.raises(ConfigError, match="on GPUs only"):
        check(make_model(**fields), quantization=quantization, on_cpu=True)
    check(make_model(**fields), quantization=quantization)


def test_cpu_takes_int8_and_awq() -> None:
    check(make_model(), quantization=INT8, on_cpu=True)
    check(make_model(), quantization={"quant_method": "awq"}, on_cpu=True)


def test_cpu_needs_whole_prompts_in_a_step() -> None:
    with pytest.raises(ConfigError, match=r"max_num_batched_tokens=512 must be at least model\.max_model_len=1024"):
        check(make_model(max_num_batched_tokens=512, max_model_len=1024), on_cpu=True)
    check(make_model(max_num_batched_tokens=512, max_model_len=1024, enable_chunked_prefill=True), on_cpu=True)
