"""From a `quantization_config` to a `Quantization`: a function per method of vLLM 0.32, found by its name.

A method that is not here is no reason to stop: its bits are read from the names that most methods use, and the plan
says so. Whether vLLM serves it is asked of vLLM (`checkpoint.py`).

One file because its readers share their ways of saying a group, a scale and a list of names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from synthgen.errors import ConfigError
from synthgen.models.quantization import NOT_QUANTIZED, Compute, Quantization

Config = Mapping[str, Any]

ONLINE_FP8 = ("fp8", "fp8_per_tensor", "fp8_per_channel", "fp8_per_block", "online")
ONLINE = {
    **{name: Quantization("fp8", 8, group_size=0, scale_bytes=4, compute="fp8") for name in ONLINE_FP8},
    "mxfp8": Quantization("mxfp8", 8, group_size=32, scale_bytes=1, compute="fp8", kind="MXFP8"),
    "nvfp4_per_token": Quantization("nvfp4", 4, group_size=16, scale_bytes=1, compute="fp4", kind="NVFP4"),
    "int8_per_channel_weight_only": Quantization("int8", 8, scale_bytes=4, kind="INT8 W8A16"),
    "experts_int8": Quantization("experts_int8", 8, scale_bytes=4, kind="INT8 W8A16", experts_only=True),
}
"""What vLLM makes of an unquantized checkpoint while it loads (`vllm/config/quantization.py`)."""


def read_quantization(config: Config | None, override: str | None = None) -> Quantization:
    """Return the format of a `quantization_config` (of `config.json`).

    Args:
        config: the entry, or None where there is none.
        override: `model.quantization`; on a checkpoint that is not quantized it asks vLLM to quantize while loading.

    Raises:
        ConfigError: vLLM does not make this format while loading.
    """
    if not config:
        if override in ONLINE:
            return ONLINE[override]
        if override:
            raise ConfigError(
                f"model.quantization={override}: the checkpoint is not quantized, and of the formats that vLLM makes "
                f"while loading only {', '.join(ONLINE)} can be planned; leave it unset for the checkpoint's own"
            )
        return NOT_QUANTIZED
    method = name_method(config)
    ignore = next((names for key in _IGNORE if (names := _list_names(config.get(key)))), ())
    return _READERS.get(method, _read_unknown)({**config, "quant_method": config.get("quant_method") or method}, ignore)


def name_method(config: Config) -> str:
    """Return the method of a `quantization_config` as the readers name it; empty: it names none."""
    if _modelopt_part(config) is not None and not config.get("quant_method"):
        return "modelopt"
    method = str(config.get("quant_method", "")).lower().replace("_", "-")
    return _SAME.get(method.removesuffix("-marlin").removeprefix("auto-"), method.removesuffix("-marlin"))


def knows_method(config: Config) -> bool:
    """Whether the sizes of this `quantization_config` are known here."""
    return name_method(config) in _READERS


_IGNORE = ("ignore", "modules_to_not_convert", "ignored_layers", "exclude_modules", "exclude")
_SAME = {
    "compressed-tensors": "compressed-tensors", "fbgemm-fp8": "fbgemm_fp8", "gpt-oss-mxfp4": "mxfp4",
    "round": "auto-round", "intel/auto-round": "auto-round", "inc": "auto-round", "modelopt-fp4": "modelopt",
    "modelopt-mixed": "modelopt", "modelopt-mxfp8": "modelopt", "deepseek-v4-fp8": "fp8", "moe-wna16": "gptq",
}  # fmt: skip


def _list_names(value: Any) -> tuple[str, ...]:
    return tuple(str(name) for name in value) if isinstance(value, Sequence) and not isinstance(value, str) else ()


def _read_int4(config: Config, ignore: tuple[str, ...]) -> Quantization:
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


def _read_auto_round(config: Config, ignore: tuple[str, ...]) -> Quantization:
    """Integers as GPTQ has them, or microscaling floats (AutoRound, arXiv 2309.05516)."""
    kind = str(config.get("data_type", "int"))
    base = _read_int4(config, ignore)
    if "fp" in kind and base.weight_bits in (4, 8):
        base = replace(_float(config, int(base.weight_bits), base.group_size or 32, kind), ignore=ignore)
    extra = config.get("extra_config") or {}
    plain = tuple(str(name) for name, one in extra.items() if isinstance(one, Mapping) and one.get("bits", 16) >= 16)
    return replace(base, ignore=(*base.ignore, *plain))


def _read_compressed_tensors(config: Config, ignore: tuple[str, ...]) -> Quantization:
    groups = [group for group in (config.get("config_groups") or {}).values() if isinstance(group, Mapping)]
    if not groups:
        return replace(_read_unknown(config, ignore), note="its config_groups are empty: counted as not quantized")
    cache = _read_cache_bits(config)
    main = [group for group in groups if _is_general(group)]
    # Of several groups that mean all layers the widest is taken, so that the plan is not too small.
    base = max(main, key=lambda g: (g.get("weights") or {}).get("num_bits", 0)) if main else groups[0]
    others = tuple(
        (_list_names(group.get("targets")), _read_group(group))
        for group in groups
        if not main or not _is_general(group)
    )
    return replace(
        _read_group(base),
        ignore=ignore,
        others=others if not main or len(main) < len(groups) else (),
        named_only=not main,
        kv_cache_bits=int(cache) if cache else None,
    )


def _read_cache_bits(config: Config) -> int | None:
    scheme = config.get("kv_cache_scheme")
    bits = scheme.get("num_bits") if isinstance(scheme, Mapping) else None
    return int(bits) if bits else None


def _is_general(group: Config) -> bool:
    """Whether a group's targets are a class of layers, and not names."""
    targets = _list_names(group.get("targets"))
    return not targets or any("." not in name and not name.startswith("re:") and name != "lm_head" for name in targets)


def _read_group(group: Config) -> Quantization:
    weights = group.get("weights") or {}
    bits = int(weights.get("num_bits", 8))
    inputs = group.get("input_activations") or {}
    strategy = weights.get("strategy") or ("group" if weights.get("group_size") else "channel")
    size = int(weights.get("group_size") or 0)
    if weights.get("type") == "float" and (bits == 4 or size == 32):
        made = _float(weights, bits, size or 16, str(group.get("format") or weights.get("scale_dtype") or ""))
        return replace(made, method="compressed-tensors", compute=_compute(made.compute, bits, inputs))
    block = weights.get("block_structure")
    compute: Compute = "bf16"
    if inputs.get("num_bits") == 8:
        compute = "fp8" if weights.get("type") == "float" else "int8"
    return Quantization(
        method="compressed-tensors",
        weight_bits=bits,
        group_size={"tensor": 0, "channel": None}.get(strategy, size or None),
        block=(int(block[0]), int(block[1])) if strategy == "block" and block else None,
        scale_bytes=2 if strategy == "group" else 4,
        zero_bits=0 if weights.get("symmetric", True) else bits,
        compute=compute,
        kind="FP8 weights" if weights.get("type") == "float" and compute == "bf16" else "",
    )


def _compute(compute: Compute, bits: int, inputs: Config) -> Compute:
    """Return what a format of 4-bit or 8-bit floats is multiplied in: weights alone are widened."""
    if not inputs:
        return "bf16"
    return "fp8" if bits == 8 or inputs.get("num_bits") == 8 else compute


def _float(config: Config, bits: int, size: int, hint: str) -> Quantization:
    """Return 4-bit or 8-bit floats in groups that share a scale of one byte.

    NVFP4: 16 of them share an FP8 scale (NVIDIA); MXFP4, MXFP8: 32 share an exponent (OCP microscaling formats 1.0).
    """
    micro = size == 32 or hint.lower().startswith("mx")
    name = f"{'MXFP' if micro else 'NVFP' if bits == 4 else 'FP'}{bits}"
    method = str(config.get("quant_method") or "")
    return Quantization(method, bits, size, scale_bytes=1, compute="fp4" if bits == 4 else "fp8", kind=name)


def _read_fp8(config: Config, ignore: tuple[str, ...]) -> Quantization:
    block = config.get("weight_block_size")
    experts = Quantization("fp8", 4, group_size=32, scale_bytes=1, compute="fp8", kind="MXFP4")
    return Quantization(
        method=str(config["quant_method"]),
        weight_bits=8,
        group_size=0,
        block=(int(block[0]), int(block[1])) if block else None,
        scale_bytes=4,
        compute="fp8",
        ignore=ignore,
        # DeepSeek V4: FP8, and the experts in four bits (`expert_dtype` of its config.json).
        others=((("re:.*\\.experts\\b(?!.*shared)",), experts),) if config.get("expert_dtype") == "fp4" else (),
    )


def _read_fbgemm_fp8(config: Config, ignore: tuple[str, ...]) -> Quantization:
    return Quantization("fbgemm_fp8", 8, group_size=None, scale_bytes=4, compute="fp8", ignore=ignore)


def _read_mxfp4(config: Config, ignore: tuple[str, ...]) -> Quantization:
    # OCP microscaling: one 8-bit exponent for 32 four-bit floats; gpt-oss stores its experts so.
    return Quantization("mxfp4", 4, group_size=32, scale_bytes=1, ignore=ignore, experts_only=True)


def _read_mxfp8(config: Config, ignore: tuple[str, ...]) -> Quantization:
    return replace(ONLINE["mxfp8"], ignore=ignore)


def _modelopt_part(config: Config) -> Config | None:
    """Return where ModelOpt says what it did: in the config itself or, as in hf_quant_config.json, one level below."""
    part = config.get("quantization")
    if isinstance(part, Mapping) and ("quant_algo" in part or "quantized_layers" in part):
        return part
    return config if "quant_algo" in config or "quantized_layers" in config else None


def _read_modelopt(config: Config, ignore: tuple[str, ...]) -> Quantization:
    part = _modelopt_part(config) or config
    ignore = ignore or next((names for key in _IGNORE if (names := _list_names(part.get(key)))), ())
    cache = {"FP8": 8, "NVFP4": 4, "INT8": 8}.get(str(part.get("kv_cache_quant_algo") or "").upper())
    cache = cache or _read_cache_bits(config)
    layers = part.get("quantized_layers") or {}
    algorithm = str(part.get("quant_algo") or "").upper()
    if layers and algorithm in ("MIXED_PRECISION", ""):
        by_format: dict[str, list[str]] = {}
        for name, one in layers.items():
            by_format.setdefault(json.dumps(one, sort_keys=True), []).append(str(name))
        others = tuple((tuple(names), _modelopt_format(json.loads(one))) for one, names in by_format.items())
        widest = max((other for _, other in others), key=lambda other: -other.weight_bits)
        made = replace(widest, others=others, named_only=True, kind="mixed " + _join_kinds([o for _, o in others]))
    elif not algorithm and config.get("config_groups"):
        made = _read_compressed_tensors(config, ignore)
    else:
        made = _modelopt_format(part)
    return replace(made, method="modelopt", ignore=ignore, kv_cache_bits=int(cache) if cache else made.kv_cache_bits)


def _modelopt_format(config: Config) -> Quantization:
    """Return the format of a `quant_algo` (modelopt.torch.export names them)."""
    name = str(config.get("quant_algo") or "").upper()
    size = int(config.get("group_size") or 0)
    if "MXFP8" in name:
        return Quantization("modelopt", 8, 32, scale_bytes=1, compute="fp8", kind="MXFP8")
    if "FP4" in name:
        compute: Compute = "bf16" if "W4A16" in name else "fp8" if "W4A8" in name else "fp4"
        micro = "MXFP4" in name
        return Quantization(
            "modelopt",
            4,
            size or (32 if micro else 16),
            scale_bytes=1,
            compute=compute,
            kind="MXFP4" if micro else "NVFP4",
        )
    if "FP8" in name:
        block = (128, 128) if "PB" in name else None
        group = None if "CHANNEL" in name else 0
        return Quantization("modelopt", 8, group, block=block, scale_bytes=4, compute="fp8")
    if "INT4" in name or "W4A" in name:
        return Quantization("modelopt", 4, size or 128, scale_bytes=2, kind="INT4")
    if "INT8" in name or "W8A8" in name:
        return Quantization("modelopt", 8, None, scale_bytes=4, compute="int8")
    return Quantization("modelopt", 16, note=f"quant_algo={name or None} is not known here: counted as not quantized")


def _join_kinds(formats: Sequence[Quantization]) -> str:
    return " and ".join(sorted({one.label.partition(" (")[0] for one in formats}))


def _read_quark(config: Config, ignore: tuple[str, ...]) -> Quantization:
    """AMD Quark: a format for all layers, others by name, and a list of layers left alone."""
    base = _quark_format(config.get("global_quant_config") or {})
    named = config.get("layer_quant_config") or {}
    others = tuple(((str(name),), _quark_format(one)) for name, one in named.items() if isinstance(one, Mapping))
    cache = (
        (config.get("kv_cache_quant_config") or {}) if isinstance(config.get("kv_cache_quant_config"), Mapping) else {}
    )
    return replace(base, ignore=ignore, others=others, kv_cache_bits=8 if cache else None)


def _quark_format(config: Config) -> Quantization:
    def first(value: Any) -> Config:
        found = value[0] if isinstance(value, list) and value else value
        return found if isinstance(found, Mapping) else {}

    weight, inputs = first(config.get("weight")), first(config.get("input_tensors"))
    dtype = str(weight.get("dtype", ""))
    bits = int(found[1]) if (found := re.search(r"(?:fp|int)(\d+)", dtype)) else 16
    size = int(weight.get("group_size") or 0)
    if dtype.startswith("fp4") or "mx" in dtype:
        return Quantization(
            "quark", bits, size or 32, scale_bytes=1, compute="fp4" if inputs else "bf16", kind=f"MXFP{bits}"
        )
    if dtype.startswith("fp8"):
        channel = weight.get("qscheme") == "per_channel"
        return Quantization(
            "quark", 8, None if channel else 0, scale_bytes=4, compute="fp8" if inputs else "bf16", kind="FP8"
        )
    if dtype.startswith(("int", "uint")):
        eight = bits == 8 and bool(inputs)
        return Quantization(
            "quark", bits, size or None, scale_bytes=4 if eight else 2, compute="int8" if eight else "bf16"
        )
    return Quantization(
        "quark", 16, note=f"the weights' dtype {dtype or None} is not known here: counted as not quantized"
    )


def _read_torchao(config: Config, ignore: tuple[str, ...]) -> Quantization:
    """torchao names a class or a function for what it did (`Int4WeightOnlyConfig`, `float8_weight_only`)."""
    said = json.dumps(config.get("quant_type", config), default=str).lower()
    found = re.search(r'"group_size":\s*(\d+)', said)
    active = "dynamicactivation" in said or "dynamic_activation" in said
    if "float8" in said or "fp8" in said:
        return Quantization(
            "torchao", 8, None, scale_bytes=4, compute="fp8" if active else "bf16", ignore=ignore, kind="FP8"
        )
    if "nvfp4" in said or "mxfp4" in said or "float4" in said:
        size = 32 if "mx" in said else 16
        return Quantization("torchao", 4, size, scale_bytes=1, compute="fp4", ignore=ignore, kind="FP4")
    if "int4" in said:
        return Quantization("torchao", 4, int(found[1]) if found else 128, scale_bytes=2, zero_bits=16, ignore=ignore)
    if "int8" in said:
        return Quantization("torchao", 8, None, scale_bytes=4, compute="int8" if active else "bf16", ignore=ignore)
    return _read_unknown(config, ignore)


def _read_gguf(config: Config, ignore: tuple[str, ...]) -> Quantization:
    # GGUF mixes block formats, scales included in the average: 4.9 bits for Q4_K_M, 8.5 for Q8_0.
    return Quantization("gguf", float(config.get("bits", 4.9)), group_size=0, ignore=ignore, everything=True)


def _read_bitsandbytes(config: Config, ignore: tuple[str, ...]) -> Quantization:
    four = config.get("load_in_4bit") or config.get("_load_in_4bit")
    if not four:
        return Quantization("bitsandbytes", 8, group_size=None, scale_bytes=4, ignore=ignore)
    # NF4 with nested scales: one byte for 64 weights, four for 256 of those bytes (QLoRA, arXiv 2305.14314).
    return Quantization("bitsandbytes", 4, group_size=64, scale_bytes=1 + 4 / 256, ignore=ignore)


def _read_hqq(config: Config, ignore: tuple[str, ...]) -> Quantization:
    params = (config.get("quant_config") or {}).get("weight_quant_params") or config
    return Quantization(
        "hqq",
        int(params.get("nbits") or 4),
        int(params.get("group_size") or 64),
        scale_bytes=2,
        zero_bits=16,
        ignore=ignore,
    )


def _read_unknown(config: Config, ignore: tuple[str, ...]) -> Quantization:
    """Return what can be told of any method: its bits and its groups, under the names that most use."""
    method = str(config.get("quant_method") or "unnamed")
    said = json.dumps(config, default=str)
    bits = re.search(r'"(?:bits|nbits|w_bit|num_bits|nbits_per_codebook|weight_bits)":\s*(\d+)', said)
    group = re.search(r'"(?:group_size|q_group_size|in_group_size)":\s*(\d+)', said)
    eight = re.search(r"fp8|int8|float8", said.lower())
    size = int(bits[1]) if bits and 1 < int(bits[1]) <= 16 else 8 if eight else 16
    taken = f"taken as {size} bits per weight" if size < 16 else "counted as not quantized"
    return Quantization(
        method,
        size,
        int(group[1]) if group else None,
        scale_bytes=2 if size < 16 else 0,
        ignore=ignore,
        note=f"the size of quant_method={method!r} is not known here: {taken}",
    )


_READERS: dict[str, Callable[[Config, tuple[str, ...]], Quantization]] = {
    "auto-round": _read_auto_round,
    "awq": _read_int4,
    "bitsandbytes": _read_bitsandbytes,
    "compressed-tensors": _read_compressed_tensors,
    "fbgemm_fp8": _read_fbgemm_fp8,
    "fp8": _read_fp8,
    "gguf": _read_gguf,
    "gptq": _read_int4,
    "hqq": _read_hqq,
    "modelopt": _read_modelopt,
    "mxfp4": _read_mxfp4,
    "mxfp8": _read_mxfp8,
    "quark": _read_quark,
    "torchao": _read_torchao,
}
