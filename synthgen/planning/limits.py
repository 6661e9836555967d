"""Values that no engine takes: refused before GPUs are booked, each in one line that names the key and the mend."""

from __future__ import annotations

import os

from synthgen.config import ModelConfig
from synthgen.errors import ConfigError
from synthgen.models.architecture import Architecture

KV_CACHE_DTYPES = (
    "auto", "float16", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2", "fp8_inc", "fp8_ds_mla", "nvfp4_ds_mla", "nvfp4",
    "nvfp4_4over6", "fp8_per_token_head", "int8_per_token_head", "int4_per_token_head", "turboquant_k8v4",
    "turboquant_4bit_nc", "turboquant_k3v4_nc", "turboquant_3bit_nc", "ultraquant_4bit",
)  # fmt: skip
"""What vLLM 0.32 takes (`vllm/config/cache.py`, CacheDType)."""
_ROPE = ("hf_overrides", "rope_scaling", "rope_parameters")


def check_values(model: ModelConfig, key: str) -> None:
    """Raise ConfigError for a value that vLLM takes for no model."""
    share = model.gpu_memory_utilization
    if not 0 < share <= 1:
        raise ConfigError(
            f"{key}.gpu_memory_utilization={share:g} must be above 0 and at most 1: it is a share of a GPU's memory; "
            "vLLM's own choice is 0.92"
        )
    if model.kv_cache_dtype not in KV_CACHE_DTYPES:
        raise ConfigError(
            f"{key}.kv_cache_dtype={model.kv_cache_dtype} is not one that vLLM knows; try auto, bfloat16, fp8, "
            "fp8_e4m3 or fp8_e5m2"
        )
    if model.kv_cache_memory_gib is not None and model.kv_cache_memory_gib <= 0:
        raise ConfigError(f"{key}.kv_cache_memory_gib={model.kv_cache_memory_gib:g} must be above 0; leave it out")
    if model.max_num_batched_tokens is not None and model.max_num_batched_tokens < 1:
        raise ConfigError(
            f"{key}.max_num_batched_tokens={model.max_num_batched_tokens} must be at least 1; leave it out"
        )


def check_context(arch: Architecture, model: ModelConfig, key: str) -> None:
    """Raise ConfigError for a context beyond the model's that no rope setting stretches."""
    asked = model.max_model_len
    if asked is None or asked <= arch.context_length or os.environ.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN") == "1":
        return
    if any(name in model.engine_args for name in _ROPE):
        return
    raise ConfigError(
        f"{key}.max_model_len={asked} is beyond the {arch.context_length:,} tokens of {model.name}; lower it, or "
        f"stretch the model by a rope setting in {key}.engine_args.hf_overrides"
    )
