"""A checkpoint's shape: the numbers of its `config.json` in, an `Architecture` out.

Field names on the reading side are `config.json`'s own. What a family leaves out of the file (tied embeddings of Gemma,
biases of Qwen 2, the layers that look through a window) is filled in as `transformers` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synthgen.errors import ConfigError
from synthgen.models.quantization import NOT_QUANTIZED, Quantization, read_quantization

DTYPE_BYTES = {"float32": 4, "float16": 2, "half": 2, "bfloat16": 2, "float": 4}
_GEMMA = ("gemma", "gemma2", "gemma3", "gemma3_text")
_QKV_BIAS = ("qwen2", "qwen2_moe", "gpt_oss")
_QK_NORM = ("qwen3", "qwen3_moe", "gemma3", "gemma3_text")
_PLAIN_MLP = ("gpt2", "opt", "phi", "gpt_neox", "starcoder2", "falcon", "bloom", "mpt")
_FULL = ("full_attention", "global_attention", "attention")
_WINDOWED = ("sliding_attention", "chunked_attention", "local_attention")
KNOWN_FAMILIES = (
    *_GEMMA, "llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen2_moe", "qwen3_moe", "gpt_oss", "phi3", "granite",
    "deepseek_v2", "deepseek_v3", "smollm3", "olmo2",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Experts:
    """The mixture of experts of some layers. Sizes are widths of the hidden layer of one expert."""

    count: int
    per_token: int
    intermediate_size: int
    layers: frozenset[int]
    shared_intermediate_size: int = 0  # of the experts that see every token, together
    bias: bool = False


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): the cache holds one compressed vector per token."""

    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    q_lora_rank: int | None = None


@dataclass(frozen=True, slots=True)
class Architecture:
    """A decoder's shape, as its `config.json` gives it.

    Attributes:
        windows: per layer, how many tokens back it looks; None: all. len == num_layers.
        dtype: of what is not quantized (`float32` checkpoints are served in 16 bits, as vLLM does).
        norms_per_layer: norm vectors of the hidden size in each layer.
        attention_sinks: whether each head has a learned sink logit (gpt-oss).
        vision_parameters: of an image encoder that is loaded with the model.
        exact: False where the family is unknown and was counted as a plain gated decoder.
    """

    model_type: str
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    context_length: int
    tie_word_embeddings: bool
    windows: tuple[int | None, ...]
    dtype: str = "bfloat16"
    quantization: Quantization = NOT_QUANTIZED
    gated_mlp: bool = True
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    norms_per_layer: int = 2
    experts: Experts | None = None
    latent: LatentAttention | None = None
    attention_sinks: bool = False
    vision_parameters: int = 0
    exact: bool = True

    @property
    def dtype_bytes(self) -> int:
        """Bytes of one unquantized weight."""
        return DTYPE_BYTES[self.dtype]


def read_architecture(
    config: Mapping[str, Any], *, dtype: str = "auto", quantization: str | None = None, source: str = "config.json"
) -> Architecture:
    """Return the shape that `config` (a `config.json`, or the same names from the catalog) describes.

    Args:
        dtype: `model.dtype`; `auto`: the checkpoint's own, 32 bits lowered to 16.
        quantization: `model.quantization`.
        source: names the file in errors.

    Raises:
        ConfigError: a number is missing, or the layers are of a kind that cannot be counted.
    """
    text: Mapping[str, Any] = config.get("text_config") or config
    family = str(text.get("model_type") or config.get("model_type") or "llama")
    hidden = _number(text, "hidden_size", source)
    layers = _number(text, "num_hidden_layers", source)
    heads = _number(text, "num_attention_heads", source)
    gemma = family in _GEMMA
    return Architecture(
        model_type=family,
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=int(text.get("num_key_value_heads") or heads),
        head_dim=int(text.get("head_dim") or (256 if gemma else hidden // heads)),
        intermediate_size=_number(text, "intermediate_size", source),
        vocab_size=_number(text, "vocab_size", source),
        context_length=_number(text, "max_position_embeddings", source),
        tie_word_embeddings=bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", gemma))),
        windows=_read_windows(text, family, layers, source),
        dtype=_read_dtype(config, text, dtype),
        quantization=read_quantization(
            config.get("quantization_config") or text.get("quantization_config"), quantization
        ),
        gated_mlp=family not in _PLAIN_MLP,
        qkv_bias=family in _QKV_BIAS or bool(text.get("attention_bias")),
        output_bias=bool(text.get("attention_bias")) and family not in ("qwen2", "qwen2_moe"),
        mlp_bias=bool(text.get("mlp_bias")),
        qk_norm=family in _QK_NORM,
        norms_per_layer=4 if family in ("gemma2", "gemma3", "gemma3_text") else 2,
        experts=_read_experts(text, family, layers),
        latent=_read_latent(text),
        attention_sinks=family == "gpt_oss",
        vision_parameters=_count_vision(config.get("vision_config"), hidden),
        exact=family in KNOWN_FAMILIES,
    )


def _number(text: Mapping[str, Any], name: str, source: str) -> int:
    value = text.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise ConfigError(
            f"{source}: {name}={value!r}, and the planner needs a positive number; give it as model.architecture.{name}"
        )
    return value


def _read_dtype(config: Mapping[str, Any], text: Mapping[str, Any], dtype: str) -> str:
    if dtype != "auto":
        if dtype not in DTYPE_BYTES:
            raise ConfigError(f"model.dtype={dtype} must be one of auto, {', '.join(DTYPE_BYTES)}")
        return dtype
    names = ("dtype", "torch_dtype")
    found = next((str(part[n]) for part in (text, config) for n in names if part.get(n)), "bfloat16")
    found = found.removeprefix("torch.")
    return found if DTYPE_BYTES.get(found) == 2 else "bfloat16"


def _read_windows(text: Mapping[str, Any], family: str, layers: int, source: str) -> tuple[int | None, ...]:
    window = text.get("sliding_window") or text.get("attention_chunk_size")
    if family.startswith("qwen") and not text.get("use_sliding_window"):
        window = None
    kinds = text.get("layer_types")
    if kinds:
        strange = sorted({str(kind) for kind in kinds} - {*_FULL, *_WINDOWED})
        if strange or len(kinds) != layers:
            what = f"layers of type {', '.join(strange)}" if strange else f"{len(kinds)} of {layers} entries"
            raise ConfigError(
                f"{source}: layer_types has {what}, which the planner cannot count; "
                "serve it yourself and take model=openai_endpoint"
            )
        return tuple(int(window) if window and kind in _WINDOWED else None for kind in kinds)
    if not window:
        return (None,) * layers
    period = {"gemma2": 2, "gpt_oss": 2}.get(family) or int(text.get("sliding_window_pattern") or 0)
    if family in ("gemma3", "gemma3_text"):
        period = period or 6
    return tuple(None if period and (layer + 1) % period == 0 else int(window) for layer in range(layers))


def _read_experts(text: Mapping[str, Any], family: str, layers: int) -> Experts | None:
    count = int(text.get("num_local_experts") or text.get("num_experts") or text.get("n_routed_experts") or 0)
    if not count:
        return None
    width = int(text.get("moe_intermediate_size") or text["intermediate_size"])
    dense_first = int(text.get("first_k_dense_replace") or 0)
    step = int(text.get("decoder_sparse_step") or text.get("moe_layer_freq") or 1)
    skipped = set(text.get("mlp_only_layers") or ())
    shared = int(text.get("shared_expert_intermediate_size") or 0) or int(text.get("n_shared_experts") or 0) * width
    return Experts(
        count=count,
        per_token=int(text.get("num_experts_per_tok") or text.get("experts_per_token") or 2),
        intermediate_size=width,
        layers=frozenset(
            layer for layer in range(dense_first, layers) if layer not in skipped and (layer + 1) % step == 0
        ),
        shared_intermediate_size=shared,
        bias=family == "gpt_oss",
    )


def _read_latent(text: Mapping[str, Any]) -> LatentAttention | None:
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


def _count_vision(vision: Mapping[str, Any] | None, text_hidden: int) -> int:
    """Return the parameters of a SigLIP-like encoder and its projection, from the numbers of `vision_config`."""
    if not vision or not vision.get("num_hidden_layers"):
        return 0
    hidden, width = int(vision["hidden_size"]), int(vision["intermediate_size"])
    patch, side = int(vision.get("patch_size", 14)), int(vision.get("image_size", 896))
    layer = 4 * (hidden * hidden + hidden) + 2 * hidden * width + width + hidden + 4 * hidden
    embeddings = 3 * patch * patch * hidden + hidden + (side // patch) ** 2 * hidden + 2 * hidden
    return int(vision["num_hidden_layers"]) * layer + embeddings + hidden * text_hidden + hidden
