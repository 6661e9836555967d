"""Nothing that vLLM serves is refused, and what is published of models is what the plan counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from planning_clusters import CPU, MODELS, gpus

from synthgen.config import ModelConfig
from synthgen.errors import ConfigError
from synthgen.models.tensors import count_active_parameters, count_parameters
from synthgen.planning import DoesNotFitError, kv_bytes_per_token, plan_engine, resolve_architecture, weights_bytes
from synthgen.planning.memory import GIB, buffers_bytes, sequence_kv_bytes, state_bytes
from tests.planning.public_configs import CONFIGS, PARAMETERS, model_of

WIDE = gpus("h200-141", 8, 4)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_public_configuration_plans(name: str) -> None:
    plan = plan_engine(model_of(name), WIDE)
    assert plan.num_gpus > 0
    assert plan.weights_gib > 0
    assert plan.kv_cache_tokens > 0
    assert any(reason.startswith("weights counted by ") for reason in plan.reasons)


def test_there_are_enough_of_them() -> None:
    assert len(CONFIGS) >= 60


@pytest.mark.parametrize(("name", "published"), PARAMETERS.items(), ids=PARAMETERS)
def test_parameters_are_the_published_ones(name: str, published: tuple[str, float]) -> None:
    table, parameters = published
    arch = resolve_architecture(model_of(name, tensors=table))
    assert count_parameters(arch) == pytest.approx(parameters, rel=0.006)
    assert arch.exact


@pytest.mark.parametrize(
    ("name", "table", "billions"),
    [
        ("nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-NVFP4", "nemotron-3-super-120b-a12b", 12),
        ("Qwen/Qwen3.5-397B-A17B", "qwen3.5-397b-a17b", 17),
        ("MiniMaxAI/MiniMax-M2.5", "minimax-m2.5", 10),
        ("meta-llama/Llama-4-Maverick-17B-128E-Instruct", "llama-4-maverick", 17),
    ],
)
def test_active_parameters_are_near_the_name(name: str, table: str, billions: float) -> None:
    arch = resolve_architecture(model_of(name, tensors=table))
    assert count_active_parameters(arch) / 1e9 == pytest.approx(billions, rel=0.08)


# GiB of the published files (or, where vLLM's log is the source, of all GPUs together).
WEIGHTS = [
    ("RedHatAI/Llama-3.3-70B-Instruct-NVFP4", {}, 39.8),
    ("nvidia/Llama-3.3-70B-Instruct-NVFP4", {}, 39.8),
    ("moonshotai/Kimi-K2.5", {"tensors": "kimi-k2.5"}, 554.0),  # 595 GB
]


@pytest.mark.parametrize(("name", "changes", "gib"), WEIGHTS)
def test_weights_are_the_published_ones(name: str, changes: dict[str, Any], gib: float) -> None:
    assert weights_bytes(resolve_architecture(model_of(name, **changes))) / GIB == pytest.approx(gib, rel=0.01)


def test_weights_of_experts_equal_what_vllm_logged() -> None:
    # Qwen3 30B-A3B in BF16 with TP 4: "Model loading took 14.2474 GiB" (vllm-project/vllm#17327).
    arch = resolve_architecture(MODELS["qwen3-30b-a3b"])
    loaded = weights_bytes(arch, tensor_parallel_size=4) + buffers_bytes(arch)
    assert loaded / GIB == pytest.approx(14.2474, rel=0.006)


def test_only_some_layers_have_a_cache() -> None:
    hybrid = resolve_architecture(model_of("Qwen/Qwen3.5-35B-A3B"))
    # 10 of 40 layers, 2 heads of 256, key and value, 2 bytes.
    assert kv_bytes_per_token(hybrid) == 10 * 2 * 2 * 256 * 2
    # 30 layers: a convolution over 8192 channels, and 32 heads of 128 x 128 in 32 bits.
    assert state_bytes(hybrid) == 30 * (8192 * 3 * 2 + 32 * 128 * 128 * 4)
    nemotron = resolve_architecture(model_of("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"))
    assert kv_bytes_per_token(nemotron) == 6 * 2 * 2 * 128 * 2
    mimo = resolve_architecture(model_of("XiaomiMiMo/MiMo-V2-Flash"))
    assert kv_bytes_per_token(mimo) == (9 * 4 + 39 * 8) * (192 + 128) * 2
    assert {cache.window for cache in mimo.caches} == {128, None}
    llama = resolve_architecture(model_of("meta-llama/Llama-4-Scout-17B-16E-Instruct"))
    assert [cache.window for cache in llama.caches[:4]] == [8192, 8192, 8192, None]
    gemma = resolve_architecture(model_of("google/gemma-4-26B-A4B"))
    assert kv_bytes_per_token(gemma) == (25 * 8 * 2 * 256 + 5 * 2 * 2 * 512) * 2


def test_a_long_sequence_costs_a_hybrid_little() -> None:
    arch = resolve_architecture(model_of("Qwen/Qwen3.5-35B-A3B"))
    short, long = sequence_kv_bytes(arch, 1024), sequence_kv_bytes(arch, 65_536)
    assert short > state_bytes(arch)
    assert long - short < 65_536 * kv_bytes_per_token(arch) * 1.02


@pytest.mark.parametrize(
    ("name", "context"),
    [
        ("deepseek-ai/DeepSeek-R1", 163_840),  # YaRN: 40 x 4096, and the file says it, too
        ("allenai/Olmo-3-7B-Instruct", 65_536),  # YaRN: 8 x 8192
        ("google/gemma-3-27b-it", 131_072),  # left out of the file, and its factor of 8 is in it already
        ("moonshotai/Kimi-Linear-48B-A3B-Instruct", 1_048_576),  # under another name
        ("meta-llama/Meta-Llama-3.1-8B", 131_072),
    ],
)
def test_context_is_what_vllm_takes(name: str, context: int) -> None:
    assert resolve_architecture(model_of(name)).context_length == context


def test_yarn_stretches_the_context() -> None:
    model = MODELS["qwen2.5-7b"]
    rope = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768}
    stretched = replace(model, architecture={**model.architecture, "rope_scaling": rope})
    assert resolve_architecture(stretched).context_length == 131_072


@pytest.mark.parametrize("name", ["google/gemma-3-27b-it", "Qwen/Qwen3.5-27B"])
def test_every_mend_of_a_missing_number_works(name: str, tmp_path: Any) -> None:
    import json

    broken = json.loads(json.dumps(CONFIGS[name]))
    broken["text_config"].pop("hidden_size")
    (tmp_path / "config.json").write_text(json.dumps(broken))
    for given in ({"hidden_size": 5120}, {"text_config": {"hidden_size": 5120}}):
        arch = resolve_architecture(
            ModelConfig(name="mine", id=str(tmp_path), architecture={**given, "tensors": "qwen3.5-27b"})
        )
        assert arch.hidden_size == 5120
        assert arch.num_layers == CONFIGS[name]["text_config"]["num_hidden_layers"]
        assert arch.vocab_size > 200_000


def test_a_model_of_unknown_shape_is_served_with_safe_settings() -> None:
    numbers = {"hidden_size": 4096, "model_type": "brand_new"}
    strange = ModelConfig(name="strange", id="/no/such/directory", architecture=numbers)
    plan = plan_engine(strange, gpus("h100-80"))
    assert (plan.tensor_parallel_size, plan.replicas, plan.max_num_seqs) == (8, 1, 64)
    assert "vLLM will measure" in plan.reasons[0]
    assert "num_hidden_layers" in plan.reasons[0]
    given = plan_engine(replace(strange, tensor_parallel_size=2, max_num_seqs=7), gpus("h100-80"))
    assert (given.tensor_parallel_size, given.replicas, given.max_num_seqs) == (2, 4, 7)
    assert plan_engine(strange, CPU).num_gpus == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gpu_memory_utilization": 0.0}, r"gen\.gpu_memory_utilization=0 must be above 0 and at most 1"),
        ({"gpu_memory_utilization": 1.2}, r"gen\.gpu_memory_utilization=1\.2 must be"),
        ({"kv_cache_dtype": "fp9"}, r"gen\.kv_cache_dtype=fp9 is not one that vLLM knows; try auto"),
        ({"max_model_len": 200_000}, r"gen\.max_model_len=200000 is beyond the 131,072 tokens"),
        ({"quantization": "bitsandbytes"}, r"quantized by bitsandbytes"),
    ],
)
def test_impossible_values_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_engine(replace(MODELS["llama-3.1-8b"], **changes), gpus("h100-80"), key="gen")


def test_nf4_is_refused_by_any_path(tmp_path: Any) -> None:
    import json

    nf4 = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    numbers = {**MODELS["llama-3.1-8b"].architecture, "quantization_config": nf4}
    (tmp_path / "config.json").write_text(json.dumps(numbers))
    with pytest.raises(ConfigError, match="does not have built in"):
        plan_engine(ModelConfig(name="mine", id=str(tmp_path)), gpus("h100-80"))


def test_a_rope_setting_lets_the_context_go_beyond() -> None:
    long = replace(MODELS["llama-3.1-8b"], max_model_len=200_000, engine_args={"hf_overrides": {"rope_scaling": {}}})
    assert plan_engine(long, gpus("h100-80")).max_model_len == 200_000


def test_smaller_steps_make_room() -> None:
    # Known to run: 70B in FP8 on one H100 with a context of 9,000.
    model = replace(MODELS["llama-3.3-70b-fp8"], max_model_len=9000, gpu_memory_utilization=0.95)
    plan = plan_engine(model, gpus("h100-80", 1))
    assert plan.max_num_batched_tokens is not None
    assert plan.max_num_batched_tokens <= 4096
    assert any("max_num_batched_tokens lowered" in reason for reason in plan.reasons)
    tight = replace(model, max_num_batched_tokens=2048, max_num_seqs=64)
    assert plan_engine(tight, gpus("h100-80", 1)).kv_cache_gib == pytest.approx(4.9, abs=0.2)


def test_experts_are_dealt_out_where_their_width_cannot_be_split() -> None:
    model = MODELS["qwen3-235b-a22b-fp8"]
    documented = replace(model, tensor_parallel_size=8, engine_args={"enable_expert_parallel": True})
    plan = plan_engine(documented, gpus("h100-80"))
    assert (plan.tensor_parallel_size, plan.expert_parallel) == (8, True)
    alone = plan_engine(replace(model, tensor_parallel_size=8), gpus("h100-80"))
    assert alone.expert_parallel
    assert any("expert parallelism" in reason for reason in alone.reasons)
    filled = alone.apply(replace(model, tensor_parallel_size=8))
    assert filled.engine_args == {"enable_expert_parallel": True}


def test_data_parallel_engines_are_counted() -> None:
    model = replace(
        MODELS["qwen3-235b-a22b-fp8"],
        tensor_parallel_size=2,
        engine_args={"enable_expert_parallel": True, "data_parallel_size": 4},
    )
    plan = plan_engine(model, gpus("h100-80"))
    assert (plan.num_gpus, plan.replicas) == (8, 1)
    assert plan.fit is not None
    assert plan.fit.weights_gib < 40  # attention twice over, experts an eighth


@pytest.mark.parametrize(("name", "kind"), [("qwen3-235b-a22b-fp8", "a100-40"), ("llama-3.1-405b-awq-int4", "a100-40")])
def test_a_node_is_enough_where_it_can_be(name: str, kind: str) -> None:
    plan = plan_engine(MODELS[name], gpus(kind))
    assert plan.nodes == 1
    assert plan.num_gpus == 8


def test_pipeline_stages_within_a_node_are_tried() -> None:
    # An MLP of 29568 = 231 x 128 cannot be split in groups of 128: only stages are left.
    awq = {"quant_method": "awq", "bits": 4, "group_size": 128}
    model = MODELS["qwen2.5-72b"]
    model = replace(model, architecture={**model.architecture, "quantization_config": awq})
    plan = plan_engine(model, gpus("l4", 4))
    assert (plan.tensor_parallel_size, plan.pipeline_parallel_size, plan.nodes) == (1, 4, 1)


def test_does_not_fit_error_is_kept_for_what_cannot_be_mended() -> None:
    with pytest.raises(DoesNotFitError):
        plan_engine(MODELS["deepseek-v3"], gpus("l4", 1))
