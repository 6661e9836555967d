"""How a checkpoint stores its weights: a `quantization_config` in, bytes per linear layer out.

Sizes follow what vLLM 0.32 keeps in memory (`vllm/model_executor/layers/quantization/`): packed weights, scales and
zero points. Embeddings, norms and, in all formats here, the output head keep the checkpoint's own data type.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from synthgen.errors import ConfigError

Compute = Literal["bf16", "fp8", "int8"]
"""The number format that the matrix units work in."""

ONLINE_FP8 = ("fp8", "fp8_per_tensor", "fp8_per_channel", "fp8_per_block", "online")


@dataclass(frozen=True, slots=True)
class Quantization:
    """The storage format of the linear layers.

    Attributes:
        method: as `config.json` names it; empty means not quantized.
        weight_bits: bits per weight (an average where the format mixes them).
        group_size: inputs that share a scale, per output; None: all of them; 0: one scale for the whole tensor.
        block: (outputs, inputs) of a tile that shares one scale, in place of `group_size`.
        scale_bytes: bytes per scale. zero_bits: bits per zero point, one for each scale.
        compute: what the matrix multiplications run in, where the GPU has it.
        ignore: names, prefixes or `re:` patterns of the layers that the format leaves alone.
        experts_only: only the experts of a mixture are quantized. everything: the embeddings and the head are too.
        kv_cache_bits: of the KV cache that the checkpoint asks for; None: the model's data type.
    """

    method: str = ""
    weight_bits: float = 16.0
    group_size: int | None = None
    block: tuple[int, int] | None = None
    scale_bytes: float = 0.0
    zero_bits: float = 0.0
    compute: Compute = "bf16"
    ignore: tuple[str, ...] = ()
    experts_only: bool = False
    everything: bool = False
    kv_cache_bits: int | None = None

    @property
    def label(self) -> str:
        """The format for people, such as `INT8 W8A8 (compressed-tensors)`."""
        if not self.method:
            return "not quantized"
        if self.method in ("mxfp4", "gguf"):
            return {"mxfp4": "MXFP4", "gguf": f"GGUF {self.weight_bits:g} bits"}[self.method]
        kind = {"fp8": "FP8", "int8": "INT8 W8A8", "bf16": f"INT{self.weight_bits:g}"}[self.compute]
        return f"{'NF4' if self.method == 'bitsandbytes' and self.weight_bits == 4 else kind} ({self.method})"

    @property
    def on_cpu(self) -> bool:
        """Whether vLLM's CPU build serves it: not quantized, or integers (tried: INT8 W8A8, AWQ and GPTQ INT4)."""
        integers = self.method.startswith(("awq", "gptq", "auto_", "compressed-tensors")) and self.compute != "fp8"
        return not self.method or integers

    def covers(self, name: str) -> bool:
        """Whether the linear layer of this name (`model.layers.0.mlp.up_proj`) is quantized."""
        if self.everything:
            return True
        if not self.method or name.endswith("lm_head"):
            return False
        if self.experts_only and ".experts" not in name:
            return False
        return not any(_matches(pattern, name) for pattern in self.ignore)

    def linear_bytes(self, outputs: int, inputs: int) -> float:
        """Return the bytes of one quantized weight matrix with its scales and zero points."""
        if self.block:
            scales = -(-outputs // self.block[0]) * -(-inputs // self.block[1])
        elif self.group_size == 0:
            scales = 1
        else:
            scales = outputs * (-(-inputs // self.group_size) if self.group_size else 1)
        return outputs * inputs * self.weight_bits / 8 + scales * (self.scale_bytes + self.zero_bits / 8)

    def tile(self) -> int:
        """Return what a shard's inputs must be a multiple of, so that no scale spans two GPUs."""
        return self.block[1] if self.block else (self.group_size or 1)


NOT_QUANTIZED = Quantization()


def read_quantization(config: Mapping[str, Any] | None, override: str | None = None) -> Quantization:
    """Return the format of a `quantization_config` (of `config.json`).

    Args:
        config: the entry, or None where there is none.
        override: `model.quantization`; on a checkpoint that is not quantized it asks vLLM to quantize while loading.

    Raises:
        ConfigError: the method is not one whose size is known.
    """
    if not config:
        if override in ONLINE_FP8:
            return Quantization("fp8", 8, group_size=0, scale_bytes=4, compute="fp8")
        if override:
            raise ConfigError(
                f"model.quantization={override}: the checkpoint is not quantized, and of the formats that vLLM makes "
                f"while loading only {', '.join(ONLINE_FP8)} can be planned; leave it unset for the checkpoint's own"
            )
        return NOT_QUANTIZED
    method = str(config.get("quant_method", "")).lower()
    ignore = tuple(config.get("ignore") or config.get("modules_to_not_convert") or config.get("ignored_layers") or ())
    reader = _READERS.get(method.removesuffix("_marlin").removeprefix("auto_"))
    if reader is None:
        raise ConfigError(
            f"quantization_config.quant_method={method!r} cannot be planned; "
            f"known: {', '.join(sorted(_READERS))} (docs/models.md)"
        )
    return reader(config, ignore)


def _read_int4(config: Mapping[str, Any], ignore: tuple[str, ...]) -> Quantization:
    bits = int(config.get("bits") or config.get("w_bit") or 4)
    group = int(config.get("group_size") or config.get("q_group_size") or 128)
    symmetric = bool(config.get("sym", not config.get("zero_point", False)))
    return Quantization(
        method=str(config["quant_method"]),
        weight_bits=bits,
        group_size=group if group > 0 else None,
        scale_bytes=2,
        zero_bits=0 if symmetric else bits,
        ignore=ignore,
    )


def _read_compressed_tensors(config: Mapping[str, Any], ignore: tuple[str, ...]) -> Quantization:
    groups = list((config.get("config_groups") or {}).values())
    if not groups:
        raise ConfigError("quantization_config.config_groups is empty; a compressed-tensors checkpoint has one group")
    group = max(groups, key=lambda g: (g.get("weights") or {}).get("num_bits", 0))
    weights = group.get("weights") or {}
    bits = int(weights.get("num_bits", 8))
    inputs = group.get("input_activations") or {}
    compute: Compute = "bf16"
    if inputs.get("num_bits") == 8:
        compute = "fp8" if weights.get("type") == "float" else "int8"
    strategy = weights.get("strategy", "channel")
    size = int(weights.get("group_size") or 0)
    block = weights.get("block_structure")
    cache = (config.get("kv_cache_scheme") or {}).get("num_bits")
    return Quantization(
        method="compressed-tensors",
        weight_bits=bits,
        group_size={"tensor": 0, "channel": None}.get(strategy, size or None),
        block=(int(block[0]), int(block[1])) if strategy == "block" and block else None,
        scale_bytes=2 if strategy == "group" else 4,
        zero_bits=0 if weights.get("symmetric", True) else bits,
        compute=compute,
        ignore=ignore,
        kv_cache_bits=int(cache) if cache else None,
    )


def _read_fp8(config: Mapping[str, Any], ignore: tuple[str, ...]) -> Quantization:
    block = config.get("weight_block_size")
    return Quantization(
        method=str(config["quant_method"]),
        weight_bits=8,
        group_size=0,
        block=(int(block[0]), int(block[1])) if block else None,
        scale_bytes=4,
        compute="fp8",
        ignore=ignore,
    )


def _read_fbgemm_fp8(config: Mapping[str, Any], ignore: tuple[str, ...]) -> Quantization:
    return Quantization("fbgemm_fp8", 8, group_size=None, scale_bytes=4, compute="fp8", ignore=ignore)


def _read_mxfp4(config: Mapping[str, Any], ignore: tuple[str, ...]) -> Quantization:
    # OCP microscaling: one 8-bit exponent for 32 four-bit floats; gpt-oss stores its experts so.
    return Quantization("mxfp4", 4, group_size=32, scale_bytes=1, ignore=ignore, experts_only=True)


def _read_gguf(config: Mapping[str, Any], ignore: tuple[str, ...]) -> Quantization:
    # GGUF mixes block formats, scales included in the average: 4.9 bits for Q4_K_M, 8.5 for Q8_0.
    return Quantization("gguf", float(config.get("bits", 4.9)), group_size=0, ignore=ignore, everything=True)


def _read_bitsandbytes(config: Mapping[str, Any], ignore: tuple[str, ...]) -> Quantization:
    four = config.get("load_in_4bit") or config.get("_load_in_4bit")
    if not four:
        return Quantization("bitsandbytes", 8, group_size=None, scale_bytes=4, ignore=ignore)
    # NF4 with nested scales: one byte for 64 weights, four for 256 of those bytes (QLoRA, arXiv 2305.14314).
    return Quantization("bitsandbytes", 4, group_size=64, scale_bytes=1 + 4 / 256, ignore=ignore)


_READERS = {
    "awq": _read_int4,
    "gptq": _read_int4,
    "compressed-tensors": _read_compressed_tensors,
    "fp8": _read_fp8,
    "fbgemm_fp8": _read_fbgemm_fp8,
    "mxfp4": _read_mxfp4,
    "gguf": _read_gguf,
    "bitsandbytes": _read_bitsandbytes,
}


def _matches(pattern: str, name: str) -> bool:
    if pattern.startswith("re:"):
        return re.match(pattern[3:], name) is not None
    return name == pattern or name.startswith(pattern + ".") or f".{pattern}." in f".{name}."
