"""A `config.json` as the planner reads it: one flat mapping of the language model's numbers, under one name each.

Families name the same number differently, hang the language model into a section, and leave out what is their default.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

SECTIONS = ("text_config", "llm_config", "language_config", "thinker_config", "language_model_config")
"""Where the language model's numbers are when they are not at the top."""
_TOP = frozenset(
    {
        "architectures", "auto_map", "vision_config", "audio_config", "quantization_config", "compression_config",
        "tensors", "transformers_version", "expert_dtype", *SECTIONS,
    }
)  # fmt: skip
"""Keys that belong to the whole model."""
_NAMES = {
    "hidden_size": ("n_embd", "d_model", "dim", "model_dim"),
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads"),
    "num_key_value_heads": ("num_kv_heads", "n_kv_heads", "n_head_kv", "multi_query_group_num", "num_attention_groups"),
    "intermediate_size": ("ffn_hidden_size", "n_inner", "ffn_dim", "hidden_dim", "dense_intermediate_size"),
    "vocab_size": ("padded_vocab_size", "n_vocab"),
    "max_position_embeddings": (
        "n_positions",
        "max_sequence_length",
        "seq_length",
        "max_seq_len",
        "model_max_length",
        "n_ctx",
    ),
    "num_experts_per_tok": (
        "num_experts_per_token",
        "top_k_experts",
        "moe_topk",
        "moe_top_k",
        "moe_k",
        "experts_per_token",
    ),
    "num_experts": ("num_local_experts", "n_routed_experts", "moe_num_experts", "num_moe_experts"),
    "n_shared_experts": ("num_shared_experts", "moe_num_shared_experts", "num_shared_expert"),
}  # fmt: skip
"""Other names of a number, in the order in which they are looked for."""
DEFAULTS: dict[str, Mapping[str, Any]] = {
    "gemma3_text": {
        "vocab_size": 262_208, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
        "max_position_embeddings": 131_072, "sliding_window": 4096, "tie_word_embeddings": True,
    },
    "gemma2": {"vocab_size": 256_000, "head_dim": 256, "sliding_window": 4096, "max_position_embeddings": 8192},
    "llama": {"vocab_size": 32_000, "max_position_embeddings": 2048},
    "mistral": {"vocab_size": 32_000, "max_position_embeddings": 131_072, "num_key_value_heads": 8},
    "mixtral": {"vocab_size": 32_000, "max_position_embeddings": 131_072, "num_key_value_heads": 8},
}  # fmt: skip
"""What a family's real files leave out (the defaults of `transformers`' configuration_*.py)."""
DEFAULTS["gemma3"] = DEFAULTS["gemma3_text"]


def merge_overrides(found: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return `found` with `model.architecture` over it: a section is merged, never replaced.

    A number of the language model goes to where the file has such numbers, whether or not the override names the
    section.
    """
    merged: dict[str, Any] = copy.deepcopy(dict(found))
    section = find_section(merged)
    for key, value in overrides.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge_overrides(merged[key], value)
        elif section is not None and key not in _TOP:
            merged[section] = {**merged[section], key: value}
            if key in merged:
                merged[key] = value
        else:
            merged[key] = value
    return merged


def find_section(config: Mapping[str, Any]) -> str | None:
    """Return the key under which the language model's numbers are; None: at the top."""
    for key in SECTIONS:
        if isinstance(config.get(key), Mapping) and config[key]:
            return key
    return None


def read_text(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers of the language model, under their usual names; what the file leaves out stays out."""
    section = find_section(config)
    if section is None:
        text = dict(config)
    else:
        inner = config[section]
        deeper = find_section(inner)
        text = {**{key: config[key] for key in ("tie_word_embeddings", "model_type") if key in config}}
        text |= read_text(inner) if deeper else dict(inner)
        text.setdefault("model_type", config.get("model_type"))
    defaults = DEFAULTS.get(str(text.get("model_type")), {})
    for name, others in _NAMES.items():
        if text.get(name) is None:
            found = next((text[other] for other in others if text.get(other) is not None), None)
            if found is not None:
                text[name] = found
    for name, value in defaults.items():
        if text.get(name) is None:
            text[name] = value
    for name in ("num_experts", "num_experts_per_tok", "n_shared_experts"):
        value = text.get(name)
        if isinstance(value, list):  # one for each layer or each kind of token (ERNIE, Hunyuan)
            text[name] = max((int(one) for one in value), default=0)
    return text
