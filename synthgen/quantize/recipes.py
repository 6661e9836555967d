"""A scheme in, llm-compressor's recipe out: plain data, which names its modifiers as its own YAML recipes do.

The recipes are those of llm-compressor's examples for each scheme (`examples/quantization_w8a8_int8`,
`quantization_w4a16`, `quantization_w8a8_fp8`, `quantization_w4a4_fp4`), with what the settings change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synthgen.errors import ConfigError
from synthgen.models.architecture import Architecture
from synthgen.models.tensors import list_layer_tensors
from synthgen.quantize.settings import QuantizeConfig, Scheme

GROUP_SIZES = (128, 64, 32)
"""Inputs that may share a scale of W4A16, the best known first."""


def make_recipe(config: QuantizeConfig, inputs: tuple[int, ...]) -> dict[str, Any]:
    """Return the recipe of `config.scheme`.

    Args:
        inputs: how many numbers the matrices of a layer take in, each width once.

    Raises:
        ConfigError: W4A16, and no group size divides the widths.
    """
    common: dict[str, Any] = {"targets": ["Linear"], "ignore": list(config.ignore)}
    modifiers: dict[str, Any] = {}
    if config.scheme is Scheme.W8A8:
        if config.smoothing:
            modifiers["SmoothQuantModifier"] = {"smoothing_strength": config.smoothing}
        modifiers["GPTQModifier"] = {**common, "scheme": "W8A8", "dampening_frac": config.dampening}
    elif config.scheme is Scheme.W4A16:
        size = config.group_size or _choose_group(inputs)
        if any(width % size for width in inputs):
            raise ConfigError(
                f"group_size={size} does not divide the widths of this model's matrices ({_join(inputs)}); leave it out"
            )
        modifiers["GPTQModifier"] = {**_group_scheme(common, size), "dampening_frac": config.dampening}
    else:
        modifiers["QuantizationModifier"] = {**common, "scheme": config.scheme.value}
    return {"quantize_stage": {"quantize_modifiers": modifiers}}


def list_inputs(arch: Architecture) -> tuple[int, ...]:
    """Return the widths of what the matrices of a model's layers take in, each once."""
    tensors = (tensor for layer in range(arch.num_layers) for tensor in list_layer_tensors(arch, layer))
    return tuple(dict.fromkeys(tensor.inputs for tensor in tensors if tensor.linear))


def _choose_group(inputs: tuple[int, ...]) -> int:
    found = next((size for size in GROUP_SIZES if not any(width % size for width in inputs)), None)
    if found is None:
        raise ConfigError(
            f"scheme=W4A16 needs widths that {GROUP_SIZES[-1]} divides; this model's matrices have {_join(inputs)}; "
            "take scheme=W8A8 or scheme=FP8_DYNAMIC"
        )
    return found


def _group_scheme(common: Mapping[str, Any], size: int) -> dict[str, Any]:
    """Return the preset W4A16, or what it stands for with another group size."""
    if size == GROUP_SIZES[0]:
        return {**common, "scheme": "W4A16"}
    weights = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": size}
    return {
        "ignore": common["ignore"],
        "config_groups": {"group_0": {"targets": common["targets"], "weights": weights}},
    }


def _join(inputs: tuple[int, ...]) -> str:
    return ", ".join(str(width) for width in inputs)
