"""Bytes of quantized layers, worked by hand from each format's layout."""

from __future__ import annotations

from typing import Any

import pytest

from synthgen.errors import ConfigError
from synthgen.models.quantization import Quantization
from synthgen.models.quantization_readers import read_quantization

GROUP = {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True}
INT8 = {
    "quant_method": "compressed-tensors",
    "config_groups": {"group_0": {"weights": GROUP, "input_activations": {"num_bits": 8, "type": "int"}}},
    "ignore": ["lm_head"],
}


def compressed(weights: dict[str, Any], activations: dict[str, Any] | None = None) -> Quantization:
    group = {"weights": {**GROUP, **weights}, "input_activations": activations}
    return read_quantization({**INT8, "config_groups": {"group_0": group}})


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (INT8, 256 * 512 + 256 * 4),  # one float32 scale per output
        ({"quant_method": "fbgemm_fp8"}, 256 * 512 + 256 * 4),
        ({"quant_method": "fp8"}, 256 * 512 + 4),  # one scale in all
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 256 * 512 + 2 * 4 * 4),
        # four bits; for each output and 128 inputs a 16-bit scale and a 4-bit zero point
        ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}, 256 * 256 + 256 * 4 * 2.5),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True}, 256 * 256 + 256 * 4 * 2),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1, "sym": True}, 256 * 512 + 256 * 2),
        ({"quant_method": "mxfp4"}, 256 * 256 + 256 * 16),  # a byte for 32 weights
        ({"quant_method": "gguf", "bits": 8.5}, 256 * 512 * 8.5 / 8),
    ],
)
def test_linear_bytes_by_hand(config: dict[str, Any], expected: float) -> None:
    assert read_quantization(config).linear_bytes(256, 512) == expected


def test_linear_bytes_of_compressed_tensors_strategies() -> None:
    assert compressed({"strategy": "tensor"}).linear_bytes(256, 512) == 256 * 512 + 4
    grouped = compressed({"num_bits": 4, "strategy": "group", "group_size": 64})
    assert grouped.linear_bytes(256, 512) == 256 * 256 + 256 * 8 * 2
    block = compressed({"strategy": "block", "block_structure": [128, 128]})
    assert block.linear_bytes(256, 512) == 256 * 512 + 8 * 4


def test_compute_follows_weights_and_activations() -> None:
    eight = {"num_bits": 8}
    assert read_quantization(INT8).compute == "int8"
    assert compressed({"type": "float"}, eight).compute == "fp8"
    assert compressed({"num_bits": 4, "strategy": "group", "group_size": 128}).compute == "bf16"
    assert read_quantization({"quant_method": "awq", "bits": 4}).compute == "bf16"


def test_covers_leaves_the_head_and_ignored_layers_alone() -> None:
    quant = Quantization("fbgemm_fp8", 8, ignore=(r"re:.*\.self_attn\.", "model.layers.0.mlp", "down_proj"))
    assert not quant.covers("lm_head")
    assert not quant.covers("model.layers.5.self_attn.q_proj")
    assert not quant.covers("model.layers.0.mlp.up_proj")
    assert not quant.covers("model.layers.7.mlp.down_proj")
    assert quant.covers("model.layers.7.mlp.up_proj")
    assert quant.covers("model.layers.10.mlp.up_proj")  # not a part of layer 0 or 1
    assert not Quantization().covers("model.layers.7.mlp.up_proj")


def test_covers_only_experts_in_mxfp4() -> None:
    quant = read_quantization({"quant_method": "mxfp4"})
    assert quant.covers("model.layers.0.mlp.experts.up_proj")
    assert not quant.covers("model.layers.0.self_attn.q_proj")


def test_read_quantization_online_fp8() -> None:
    assert read_quantization(None, "fp8").weight_bits == 8
    with pytest.raises(ConfigError, match=r"model\.quantization=awq"):
        read_quantization(None, "awq")


def test_read_quantization_takes_what_it_does_not_know_by_its_bits() -> None:
    some = read_quantization({"quant_method": "aqlm", "nbits_per_codebook": 2, "in_group_size": 8})
    assert (some.weight_bits, some.note) == (
        2,
        "the size of quant_method='aqlm' is not known here: taken as 2 bits per weight",
    )
    none = read_quantization({"quant_method": "brand_new"})
    assert none.linear_bytes(256, 512) == 256 * 512 * 2
    assert "counted as not quantized" in none.note


def test_labels_are_for_people() -> None:
    assert read_quantization(INT8).label == "INT8 W8A8 (compressed-tensors)"
    assert read_quantization({"quant_method": "awq", "bits": 4}).label == "INT4 (awq)"
    assert read_quantization({"quant_method": "bitsandbytes", "load_in_4bit": True}).label == "NF4 (bitsandbytes)"
    assert read_quantization({"quant_method": "fp8"}).label == "FP8 (fp8)"
