"""What each decoder layer is, and what it keeps of a sequence: all of it, a window, a state, or nothing.

`read_caches` gives one `Cache` for each layer that keeps something. Kinds are read from whatever a family says them
with (`layer_types`, `hybrid_override_pattern`, `full_attention_interval`, …). The sizes of states are vLLM's
(`vllm/model_executor/layers/mamba/mamba_utils.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from synthgen.models.blocks import count_heads

Kind = Literal["full", "window", "chunk", "state", "both", "none"]
"""`both`: attention and a state side by side (Falcon-H1). `none`: only an MLP."""

_KINDS: dict[str, Kind] = {
    "full_attention": "full", "global_attention": "full", "attention": "full", "global": "full", "full": "full",
    "sliding_attention": "window", "local_attention": "window", "sliding": "window", "local": "window", "swa": "window",
    "sliding_window_attention": "window", "chunked_attention": "chunk",
    "linear_attention": "state", "mamba": "state", "mamba2": "state", "conv": "state", "recurrent": "state",
    "gated_delta_net": "state", "kda": "state", "deltanet": "state", "short_conv": "state",
    "hybrid": "both", "moe": "none", "mlp": "none", "dense": "none", "no_op": "none",
    "compressed_sparse_attention": "full", "heavily_compressed_attention": "full",
}  # fmt: skip
_NEMOTRON: dict[str, Kind] = {"M": "state", "*": "full", "-": "none", "E": "none"}


@dataclass(frozen=True, slots=True)
class Cache:
    """What one layer keeps of a sequence.

    Attributes:
        heads: KV heads, which tensor parallelism deals out. width: numbers that a head keeps of a token, key and value.
        window: tokens back that it looks; None: all. chunk: the window begins anew at multiples of it (Llama 4).
        whole: every GPU keeps it whole (the compressed vector of latent attention).
        state: (numbers, bytes of one; 0: as the model) that it keeps of a sequence of any length, dealt out over GPUs.
        extra: bytes that it keeps of a token besides, on every GPU (an index of DeepSeek's sparse attention).
        period: tokens that one entry of the cache stands for.
    """

    layer: int
    heads: int = 0
    width: int = 0
    window: int | None = None
    chunk: bool = False
    whole: bool = False
    state: tuple[tuple[int, int], ...] = ()
    extra: int = 0
    period: int = 1


def read_kinds(text: Mapping[str, Any], family: str, layers: int, window: int | None) -> tuple[Kind, ...] | None:
    """Return the kind of each layer; None: the file says nothing, and all are alike."""
    named = text.get("layer_types") or text.get("layers_block_type") or text.get("layers_types")
    if isinstance(named, Sequence) and not isinstance(named, str) and len(named) >= layers:
        return tuple(_KINDS.get(str(kind), "full") for kind in named[:layers])
    pattern = text.get("hybrid_override_pattern")
    if isinstance(pattern, str):
        return tuple(_NEMOTRON.get(letter, "full") for letter in pattern.replace("|", "")[:layers])
    linear = text.get("linear_attn_config")
    if isinstance(linear, Mapping) and linear.get("full_attn_layers") is not None:
        full = {int(layer) - 1 for layer in linear["full_attn_layers"]}  # counted from 1 (Kimi)
        return _choose("full", "state", (layer in full for layer in range(layers)))
    if text.get("attn_layer_period"):  # Jamba, Bamba
        period, offset = int(text["attn_layer_period"]), int(text.get("attn_layer_offset") or 0)
        return _choose("full", "state", (layer % period == offset for layer in range(layers)))
    if text.get("attn_layer_indices") is not None:
        return _choose("full", "state", (layer in text["attn_layer_indices"] for layer in range(layers)))
    if text.get("full_attn_idxs") is not None:  # LFM2
        return _choose("full", "state", (layer in text["full_attn_idxs"] for layer in range(layers)))
    types = text.get("attn_type_list")
    if isinstance(types, Sequence):  # MiniMax-Text-01
        return _choose("full", "state", (int(kind) == 1 for kind in types[:layers]))
    if text.get("full_attention_interval") and text.get("linear_num_value_heads"):  # Qwen3-Next, Qwen3.5
        every = int(text["full_attention_interval"])
        return _choose("full", "state", ((layer + 1) % every == 0 for layer in range(layers)))
    if text.get("layer_group_size") and family.startswith("bailing"):  # Ling: lightning or delta attention in between
        every = int(text["layer_group_size"])
        return _choose("full", "state", ((layer + 1) % every == 0 for layer in range(layers)))
    mixed = text.get("hybrid_layer_pattern")
    if isinstance(mixed, Sequence) and not isinstance(mixed, str):  # MiMo-V2
        return _choose("window", "full", (int(kind) == 1 for kind in mixed[:layers]))
    if family.startswith("llama4"):
        return _read_llama4(text, layers)
    if family in ("falcon_h1", "mamba", "mamba2", "falcon_mamba"):
        return _choose("both", "state", (family == "falcon_h1" for _ in range(layers)))
    if not window:
        return None
    return _read_period(text, family, layers)


def read_caches(
    text: Mapping[str, Any], family: str, layers: int, kinds: Sequence[Kind], attention: Cache, window: int | None
) -> tuple[tuple[Cache, ...], tuple[str, ...]]:
    """Return what the layers keep, and what is not known of it, a sentence each.

    Args:
        attention: what a layer with attention keeps.
    """
    state = _read_state(text, family)
    caches: list[Cache] = []
    blocks = text.get("block_configs")
    if isinstance(blocks, Sequence) and len(blocks) == layers and all(isinstance(block, Mapping) for block in blocks):
        kept = [count_heads(block, int(text.get("num_attention_heads") or 1)) for block in blocks]
        return tuple(Cache(layer, heads, attention.width) for layer, heads in enumerate(kept) if heads), ()
    own = {"full": _full_cache(text, attention), "window": _window_cache(text, attention)}
    shared = int(text.get("num_kv_shared_layers") or 0)  # Gemma 3n and 4: the last layers read an earlier one's cache
    ratios = text.get("compress_ratios")
    for layer, kind in enumerate(kinds):
        if kind in ("state", "both") and state:
            caches.append(Cache(layer, state=state))
        if kind in ("state", "none") or (shared and layer >= layers - shared):
            continue
        base = own["window" if kind == "window" else "full"]
        if isinstance(ratios, Sequence) and layer < len(ratios):
            caches += _compressed(base, layer, int(ratios[layer] or 0), window)
            continue
        reach = window if kind in ("window", "chunk") else None
        caches.append(
            Cache(
                layer, base.heads, base.width, reach, chunk=kind == "chunk", whole=base.whole, extra=_index(text, layer)
            )
        )
    notes: tuple[str, ...] = ()
    if not state and any(kind in ("state", "both") for kind in kinds):
        count = sum(kind in ("state", "both") for kind in kinds)
        notes = (f"memory of the {count} linear-attention layers is not known: taken as 0; vLLM will measure",)
    return tuple(caches), notes


def _full_cache(text: Mapping[str, Any], attention: Cache) -> Cache:
    if not text.get("global_head_dim"):
        return attention
    heads = int(text.get("num_global_key_value_heads") or attention.heads)  # Gemma 4
    return Cache(0, heads, 2 * int(text["global_head_dim"]))


def _window_cache(text: Mapping[str, Any], attention: Cache) -> Cache:
    other = text.get("attention_other_setting")
    if isinstance(other, Mapping):  # Step 3.5
        heads = int(other.get("num_attention_groups") or other.get("num_key_value_heads") or attention.heads)
        return Cache(0, heads, 2 * int(other.get("head_dim") or attention.width // 2))
    if text.get("swa_num_key_value_heads"):  # MiMo-V2
        key = int(text.get("swa_head_dim") or attention.width // 2)
        return Cache(0, int(text["swa_num_key_value_heads"]), key + int(text.get("swa_v_head_dim") or key))
    return attention


def _index(text: Mapping[str, Any], layer: int) -> int:
    """Return the bytes of the sparse indexer's key: FP8, and a scale of four bytes (`deepseek_v32` of vLLM), or 16 bits
    (`minimax_m3`)."""
    sparse = text.get("sparse_attention_config")
    if isinstance(sparse, Mapping) and sparse.get("use_sparse_attention"):  # MiniMax M3
        which = sparse.get("sparse_attention_freq") or ()
        return 2 * int(sparse.get("sparse_index_dim") or 0) if layer < len(which) and which[layer] else 0
    if not text.get("index_head_dim") or not text.get("kv_lora_rank"):
        return 0
    types = text.get("indexer_types")
    if isinstance(types, Sequence) and layer < len(types) and types[layer] == "shared":
        return 0
    return int(text["index_head_dim"]) + 4


def _compressed(base: Cache, layer: int, ratio: int, window: int | None) -> list[Cache]:
    """Return DeepSeek V4's caches of a layer: a window of whole tokens, and one entry for `ratio` tokens."""
    one = base.width // 2  # key and value are the same vector
    found = [Cache(layer, 1, one, window, whole=True)]
    if ratio > 1:
        found.append(Cache(layer, 1, one, whole=True, period=ratio))
    return found


def _read_llama4(text: Mapping[str, Any], layers: int) -> tuple[Kind, ...]:
    rope = text.get("no_rope_layers")
    if isinstance(rope, Sequence) and len(rope) >= layers:
        return _choose("chunk", "full", (bool(int(kind)) for kind in rope[:layers]))
    every = int(text.get("no_rope_layer_interval") or 4)
    return _choose("full", "chunk", ((layer + 1) % every == 0 for layer in range(layers)))


def _read_period(text: Mapping[str, Any], family: str, layers: int) -> tuple[Kind, ...]:
    given = text.get("sliding_window_pattern")
    if isinstance(given, str):  # EXAONE 4: `LLLG`
        return _choose("full", "window", (given[layer % len(given)] == "G" for layer in range(layers)))
    period = {"gemma2": 2, "gpt_oss": 2}.get(family) or int(given or 0)
    if family in ("gemma3", "gemma3_text"):
        period = period or 6
    if family in ("cohere2", "olmo3"):
        period = period or 4
    return _choose("full", "window", (bool(period) and (layer + 1) % period == 0 for layer in range(layers)))


def _choose(one: Kind, other: Kind, flags: Iterable[bool]) -> tuple[Kind, ...]:
    return tuple(one if flag else other for flag in flags)


def _read_state(text: Mapping[str, Any], family: str) -> tuple[tuple[int, int], ...]:
    """Return (numbers, bytes of one) of the parts of a state: the convolution's and the recurrence's."""
    precise = {"float32": 4, "bfloat16": 2, "float16": 2}
    said = str(text.get("mamba_ssm_dtype") or text.get("mamba_ssm_cache_dtype") or "")
    size = precise.get(said.removeprefix("torch."), 4 if family.startswith("nemotron") else 0)

    def number(*names: str) -> int:
        return next((int(text[name]) for name in names if isinstance(text.get(name), int)), 0)

    linear = text.get("linear_attn_config")
    if isinstance(linear, Mapping) and linear.get("num_heads"):  # Kimi's delta attention
        heads, width = int(linear["num_heads"]), int(linear["head_dim"])
        kernel = int(linear.get("short_conv_kernel_size") or 4)
        return ((3 * heads * width * (kernel - 1), 0), (heads * width * width, 4))
    if number("linear_num_value_heads"):  # gated delta net (Qwen3-Next, Qwen3.5)
        keys = number("linear_num_key_heads") * number("linear_key_head_dim")
        values = number("linear_num_value_heads") * number("linear_value_head_dim")
        kernel = number("linear_conv_kernel_dim") or 4
        return (((2 * keys + values) * (kernel - 1), 0), (values * number("linear_key_head_dim"), size))
    if number("conv_L_cache"):  # LFM2's short convolution
        return ((number("hidden_size") * (number("conv_L_cache") - 1), 0),)
    width = number("ssm_state_size", "mamba_d_state", "state_size")
    if not width:
        heads, head = number("num_attention_heads"), number("head_dim")
        if family.startswith("bailing") and number("short_conv_kernel_size"):  # Ling 3: Kimi's delta attention
            return ((3 * heads * head * (number("short_conv_kernel_size") - 1), 0), (heads * head * head, 4))
        if family.startswith(("minimax", "bailing")) and heads and head:  # lightning attention
            return ((heads * head * head, 0),)
        return ()
    expand = number("mamba_expand", "expand") or 2
    kernel = number("conv_kernel", "mamba_d_conv") or 4
    heads = number("mamba_num_heads", "mamba_n_heads", "n_mamba_heads")
    head = number("mamba_head_dim", "mamba_d_head", "mamba_headdim")
    inner = number("mamba_d_ssm", "mamba_intermediate_size") or heads * head or expand * number("hidden_size")
    if not heads:  # Mamba 1 (Jamba)
        return ((inner * (kernel - 1), 0), (inner * width, size))
    groups = number("n_groups", "mamba_n_groups", "mamba_ngroups") or 1
    head = head or math.ceil(inner / heads)
    return (((inner + 2 * groups * width) * (kernel - 1), 0), (heads * head * width, size))
