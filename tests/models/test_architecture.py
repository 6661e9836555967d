"""The numbers of config.json, against parameter counts that the Hub publishes."""

from __future__ import annotations

from typing import Any

import pytest

from synthgen.errors import ConfigError
from synthgen.models.architecture import read_architecture
from synthgen.models.tensors import count_active_parameters, count_parameters
from synthgen.planning import load_models, resolve_architecture

# From the safetensors index of each repository.
PUBLISHED = {
    "deepseek-v3": 671_026_404_352,
    "gemma-2-9b": 9_241_705_984,
    "gemma-3-27b": 27_432_406_640,
    "gpt-oss-120b": 116_829_156_672,
    "gpt-oss-20b": 20_914_757_184,
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-8b": 8_030_261_248,
    "mistral-small-24b-fp8": 23_572_403_200,
    "phi-4": 14_659_507_200,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-72b": 72_706_203_648,
    "qwen2.5-7b": 7_615_616_512,
    "qwen3-235b-a22b-fp8": 235_093_634_560,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-32b": 32_762_123_264,
    "qwen3-8b": 8_190_735_360,
    "smollm2-135m": 134_515_008,
}
ACTIVE_BILLIONS = {"deepseek-v3": 37, "gpt-oss-120b": 5.1, "gpt-oss-20b": 3.6, "qwen3-30b-a3b": 3.3}

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
}


@pytest.mark.parametrize(("name", "published"), PUBLISHED.items(), ids=PUBLISHED)
def test_count_parameters_equals_the_published_count(name: str, published: int) -> None:
    model = next(model for model in load_models() if model.name == name)
    assert count_parameters(resolve_architecture(model)) == published


@pytest.mark.parametrize(("name", "billions"), ACTIVE_BILLIONS.items(), ids=ACTIVE_BILLIONS)
def test_count_active_parameters_is_near_the_published_figure(name: str, billions: float) -> None:
    model = next(model for model in load_models() if model.name == name)
    assert count_active_parameters(resolve_architecture(model)) / 1e9 == pytest.approx(billions, rel=0.1)


def test_read_architecture_names_the_missing_number() -> None:
    with pytest.raises(ConfigError, match=r"model\.architecture\.num_hidden_layers"):
        read_architecture({**LLAMA, "num_hidden_layers": None})


@pytest.mark.parametrize("value", [0, -1, True, "32"])
def test_read_architecture_refuses_numbers_that_are_none(value: object) -> None:
    with pytest.raises(ConfigError, match="hidden_size"):
        read_architecture({**LLAMA, "hidden_size": value})


def test_read_architecture_goes_on_with_layers_that_it_cannot_count() -> None:
    arch = read_architecture({**LLAMA, "layer_types": ["linear_attention"] * 24 + ["full_attention"] * 8})
    assert len(arch.caches) == 8
    assert not arch.exact
    assert "memory of the 24 linear-attention layers is not known: taken as 0; vLLM will measure" in arch.notes


def test_read_architecture_reads_windows_of_each_family() -> None:
    gemma = read_architecture({**LLAMA, "model_type": "gemma3_text", "sliding_window": 1024, "num_hidden_layers": 12})
    assert gemma.windows == (1024,) * 5 + (None,) + (1024,) * 5 + (None,)
    qwen = read_architecture({**LLAMA, "model_type": "qwen2", "sliding_window": 4096, "use_sliding_window": False})
    assert set(qwen.windows) == {None}
    oss = read_architecture(
        {**LLAMA, "sliding_window": 128, "layer_types": ["sliding_attention", "full_attention"] * 16}
    )
    assert oss.windows[:2] == (128, None)
    mistral = read_architecture({**LLAMA, "model_type": "mistral", "sliding_window": 4096})
    assert set(mistral.windows) == {4096}


def test_read_architecture_serves_32_bits_in_16() -> None:
    assert read_architecture({**LLAMA, "torch_dtype": "float32"}).dtype_bytes == 2
    assert read_architecture({**LLAMA, "torch_dtype": "float16"}).dtype == "float16"
    assert read_architecture({**LLAMA, "dtype": "bfloat16"}, dtype="float32").dtype_bytes == 4
    with pytest.raises(ConfigError, match="float8"):
        read_architecture(LLAMA, dtype="float8")


def test_read_architecture_ties_embeddings_as_the_family_does() -> None:
    assert not read_architecture(LLAMA).tie_word_embeddings
    assert read_architecture({**LLAMA, "model_type": "gemma2"}).tie_word_embeddings
    assert read_architecture({**LLAMA, "tie_word_embeddings": True}).tie_word_embeddings


def test_read_architecture_says_when_the_family_is_unknown() -> None:
    assert read_architecture(LLAMA).exact
    assert not read_architecture({**LLAMA, "model_type": "brandnew"}).exact
