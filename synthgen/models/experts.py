"""Parts that not every decoder has: experts, latent attention, an encoder of images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Experts:
    """The mixture of experts of some layers. Sizes are widths of the hidden layer of one expert."""

    count: int
    per_token: int
    intermediate_size: int
    layers: frozenset[int]
    shared_intermediate_size: int = 0  # of the experts that see every token, together
    bias: bool = False
    hidden_size: int = 0  # that they work in; 0: the model's


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): the cache holds one compressed vector per token."""

    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    q_lora_rank: int | None = None


def largest(value: Any) -> int:
    """Return a number of heads; of a list, one for each layer, the largest."""
    if isinstance(value, list):
        return max((int(one) for one in value if one), default=0)
    return int(value or 0)


def read_experts(text: Mapping[str, Any], family: str, layers: int) -> Experts | None:
    """Return the mixture of experts that a `config.json` describes; None: it has none."""
    count = int(text.get("num_experts") or text.get("num_local_experts") or text.get("n_routed_experts") or 0)
    if not count:
        return None
    width = largest(text.get("moe_intermediate_size")) or largest(text.get("expert_ffn_hidden_size"))
    width = width or largest(text.get("intermediate_size")) or int(text["hidden_size"])
    shared = (
        int(text.get("shared_expert_intermediate_size") or text.get("moe_shared_expert_intermediate_size") or 0)
        or int(text.get("shared_intermediate_size") or 0)
        or int(text.get("n_shared_experts") or 0) * width
        or (width if family.startswith("llama4") else 0)
    )
    return Experts(
        count=count,
        per_token=int(text.get("num_experts_per_tok") or 2),
        intermediate_size=width,
        layers=_read_expert_layers(text, layers),
        shared_intermediate_size=shared,
        bias=family == "gpt_oss",
        hidden_size=int(text.get("moe_latent_size") or text.get("routed_expert_hidden_size") or 0),
    )


def _read_expert_layers(text: Mapping[str, Any], layers: int) -> frozenset[int]:
    """Return the layers that have experts: from a list, by a step, or all but the first ones."""
    named = text.get("mlp_layer_types")
    if isinstance(named, list):
        return frozenset(layer for layer, kind in enumerate(named[:layers]) if kind in ("sparse", "moe"))
    blocks = text.get("layers_block_type")
    if isinstance(blocks, list) and "moe" in blocks:
        return frozenset(layer for layer, kind in enumerate(blocks[:layers]) if kind == "moe")
    pattern = text.get("hybrid_override_pattern")
    if isinstance(pattern, str):
        return frozenset(layer for layer, letter in enumerate(pattern[:layers]) if letter == "E")
    step = text.get("moe_layer_freq")
    if isinstance(step, list):
        return frozenset(layer for layer, flag in enumerate(step[:layers]) if flag)
    if isinstance(text.get("moe_layers"), list):  # Llama 4
        return frozenset(int(layer) for layer in text["moe_layers"] if int(layer) < layers)
    dense_first = int(text.get("first_k_dense_replace") or text.get("num_dense_layers") or 0)
    if text.get("expert_layer_period"):  # Jamba
        period, offset = int(text["expert_layer_period"]), int(text.get("expert_layer_offset") or 0)
        return frozenset(layer for layer in range(layers) if layer % period == offset)
    every = int(text.get("decoder_sparse_step") or text.get("interleave_moe_layer_step") or step or 1)
    skipped = set(text.get("mlp_only_layers") or ())
    return frozenset(layer for layer in range(dense_first, layers) if layer not in skipped and (layer + 1) % every == 0)


def read_latent(text: Mapping[str, Any]) -> LatentAttention | None:
    """Return the latent attention that a `config.json` describes; None: its attention is another."""
    if not text.get("kv_lora_rank"):
        return None
    query = text.get("q_lora_rank")
    return LatentAttention(
        kv_lora_rank=int(text["kv_lora_rank"]),
        qk_nope_head_dim=int(text["qk_nope_head_dim"]),
        qk_rope_head_dim=int(text["qk_rope_head_dim"]),
        v_head_dim=int(text["v_head_dim"]),
        q_lora_rank=int(query) if query else None,
    )


def count_vision(vision: Mapping[str, Any] | None, text_hidden: int) -> int:
    """Return the parameters of a SigLIP-like encoder and its projection, from the numbers of `vision_config`."""
    if not vision or not vision.get("num_hidden_layers"):
        return 0
    if not isinstance(vision.get("hidden_size"), int) or not isinstance(vision.get("intermediate_size"), int):
        return 0
    hidden, width = int(vision["hidden_size"]), int(vision["intermediate_size"])
    patch, side = largest(vision.get("patch_size")) or 14, largest(vision.get("image_size")) or 896
    layer = 4 * (hidden * hidden + hidden) + 2 * hidden * width + width + hidden + 4 * hidden
    embeddings = 3 * patch * patch * hidden + hidden + (side // patch) ** 2 * hidden + 2 * hidden
    return int(vision["num_hidden_layers"]) * layer + embeddings + hidden * text_hidden + hidden
