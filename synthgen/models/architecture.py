"""A checkpoint's shape: the numbers of its `config.json` in, an `Architecture` out.

Field names on the reading side are `config.json`'s own. What a family leaves out of the file (tied embeddings of Gemma,
biases of Qwen 2, the layers that look through a window) is filled in as `transformers` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synthgen.errors import ConfigError
from synthgen.models.blocks import list_blocks
from synthgen.models.config_file import read_text
from synthgen.models.experts import Experts, LatentAttention, count_vision, largest, read_experts, read_latent
from synthgen.models.layers import Cache, Kind, read_caches, read_kinds
from synthgen.models.quantization import NOT_QUANTIZED, Quantization
from synthgen.models.quantization_readers import read_quantization
from synthgen.models.table import Table

DTYPE_BYTES = {"float32": 4, "float16": 2, "half": 2, "bfloat16": 2, "float": 4}
_GEMMA = ("gemma", "gemma2", "gemma3", "gemma3_text")
_QKV_BIAS = ("qwen2", "qwen2_moe", "gpt_oss")
_QK_NORM = ("qwen3", "qwen3_moe", "gemma3", "gemma3_text")
_PLAIN_MLP = ("gpt2", "opt", "phi", "gpt_neox", "starcoder2", "falcon", "bloom", "mpt")
_SHARED_GATE = ("qwen2_moe", "qwen3_next", "qwen3_5_moe", "qwen3_5_moe_text")
_NEEDED = ("hidden_size", "num_hidden_layers", "vocab_size")
UNKNOWN_CONTEXT = 32_768
"""Taken where a file gives no context length, tokens."""
KNOWN_FAMILIES = (
    *_GEMMA, "llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen2_moe", "qwen3_moe", "gpt_oss", "phi3", "granite",
    "deepseek_v2", "deepseek_v3", "smollm3", "olmo2", "kimi_k2",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Architecture:
    """A decoder's shape, as its `config.json` gives it.

    Attributes:
        caches: what layers keep of a sequence, in the order of the layers; a layer may have none, or two.
        dtype: of what is not quantized (`float32` checkpoints are served in 16 bits, as vLLM does).
        norms_per_layer: norm vectors of the hidden size in each layer.
        attention_sinks: whether each head has a learned sink logit (gpt-oss).
        vision_parameters: of an image encoder that is loaded with the model.
        exact: False where the family is unknown and was counted as a plain gated decoder.
        table: the checkpoint's tensors, where they are known one by one; None: by the formula of `tensors.py`.
        source: which way the weights were counted, for people.
        kinds: of each layer, where they differ. alternating: a layer is an MLP or mixes tokens, not both (Nemotron-H).
        notes: what is not understood of it and how it was taken, a sentence each.
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
    caches: tuple[Cache, ...]
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
    table: Table | None = None
    source: str = "the numbers of its config.json"
    notes: tuple[str, ...] = ()
    v_head_dim: int | None = None
    shared_gate: bool = False
    kinds: tuple[Kind, ...] = ()
    alternating: bool = False

    @property
    def dtype_bytes(self) -> int:
        """Bytes of one unquantized weight."""
        return DTYPE_BYTES[self.dtype]

    @property
    def windows(self) -> tuple[int | None, ...]:
        """How many tokens back each layer with attention looks; None: all."""
        return tuple(cache.window for cache in self.caches if not cache.state)


class UnknownShapeError(ConfigError):
    """A number without which the weights cannot be counted is missing. vLLM may serve the model all the same."""


def read_architecture(
    config: Mapping[str, Any],
    *,
    dtype: str = "auto",
    quantization: str | None = None,
    source: str = "config.json",
    table: Table | None = None,
    counted_by: str | None = None,
) -> Architecture:
    """Return the shape that `config` (a `config.json`, or the same names from the catalog) describes.

    Args:
        dtype: `model.dtype`; `auto`: the checkpoint's own, 32 bits lowered to 16.
        quantization: `model.quantization`.
        source: names the file in errors.
        table: the checkpoint's tensors, where they are known. counted_by: which way.

    Raises:
        UnknownShapeError: a number is missing. ConfigError: a number is none, or `dtype` is not one.
    """
    text = read_text(config)
    family = str(text.get("model_type") or config.get("model_type") or "llama")
    kinds_named = text.get("layer_types") or text.get("layers_block_type") or text.get("hybrid_override_pattern")
    if kinds_named and not text.get("num_hidden_layers"):
        text["num_hidden_layers"] = len(kinds_named)
    hidden, layers, vocabulary = (_number(text, name, source) for name in _NEEDED)
    heads = _number(text, "num_attention_heads", source, default=max(1, hidden // 128))
    context, context_note = _read_context(text, source)
    gemma = family in _GEMMA
    latent = read_latent(text)
    head = int(text.get("head_dim") or (256 if gemma else hidden // heads))
    width = int(text.get("v_head_dim") or head) if latent is None else head
    table = list_blocks(text, heads, head) if table is None and text.get("block_configs") else table
    kv_heads = largest(text.get("num_key_value_heads")) or heads
    window = _read_window(text, family)
    plain: Kind = "full"
    kinds = read_kinds(text, family, layers, window) or (plain,) * layers
    caches, notes = read_caches(text, family, layers, kinds, _describe_cache(latent, kv_heads, head, width), window)
    quant = _read_quantization(config, text, quantization)
    experts = read_experts(text, family, layers)
    exact = table is not None or (family in KNOWN_FAMILIES and "state" not in kinds and "both" not in kinds)
    if not exact:
        notes = (f"model_type {family!r} is not known here: counted as a plain gated decoder", *notes)
    return Architecture(
        model_type=family,
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head,
        intermediate_size=_read_width(text, experts, hidden, source),
        vocab_size=vocabulary,
        context_length=context,
        # A classifier has a head of a few rows in the place of the vocabulary's.
        tie_word_embeddings=_classifies(config)
        or bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", gemma))),
        caches=caches,
        dtype=_read_dtype(config, text, dtype),
        quantization=quant,
        gated_mlp=family not in _PLAIN_MLP and text.get("mlp_hidden_act") != "relu2",
        qkv_bias=family in _QKV_BIAS or bool(text.get("attention_bias")),
        output_bias=bool(text.get("attention_bias")) and family not in ("qwen2", "qwen2_moe"),
        mlp_bias=bool(text.get("mlp_bias")),
        qk_norm=family in _QK_NORM,
        norms_per_layer=4 if family in ("gemma2", "gemma3", "gemma3_text") else 2,
        experts=experts,
        latent=latent,
        attention_sinks=family == "gpt_oss",
        vision_parameters=count_vision(config.get("vision_config"), hidden),
        exact=exact,
        table=table,
        source=counted_by or "the numbers of its config.json",
        notes=(*notes, *context_note, *((quant.note,) if quant.note else ())),
        v_head_dim=None if width == head else width,
        shared_gate=family in _SHARED_GATE,
        kinds=kinds if len(set(kinds)) > 1 or "state" in kinds else (),
        alternating=family.startswith("nemotron_h"),
    )


def list_missing(config: Mapping[str, Any]) -> list[str]:
    """Return the numbers that `config` lacks and the planner needs, beside those that follow from others."""
    text = read_text(config)
    needed = [*_NEEDED, "num_attention_heads", "max_position_embeddings"]
    if text.get("layer_types") or text.get("hybrid_override_pattern") or text.get("layers_block_type"):
        needed.remove("num_hidden_layers")
    return [name for name in needed if text.get(name) is None]


def _classifies(config: Mapping[str, Any]) -> bool:
    return any(str(name).endswith("ForSequenceClassification") for name in config.get("architectures") or ())


def _number(text: Mapping[str, Any], name: str, source: str, default: int | None = None) -> int:
    value = text.get(name)
    if value is None and default is not None:
        return default
    if isinstance(value, list) and value and all(isinstance(one, int) for one in value):
        value = max(value)
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        kind = UnknownShapeError if value is None else ConfigError
        raise kind(
            f"{source}: {name}={value!r}, and the planner needs a positive number; give it as model.architecture.{name}"
        )
    return value


def _read_context(text: Mapping[str, Any], source: str) -> tuple[int, tuple[str, ...]]:
    """Return the longest context that vLLM takes, by `max_position_embeddings` and the rope settings.

    `_get_and_verify_max_len` of vLLM: YaRN multiplies the original length, other scalings the one of the file, and
    `longrope`, `llama3` and `su` are in it already.
    """
    given = text.get("max_position_embeddings")
    note: tuple[str, ...] = ()
    if given is None:
        note = (f"the context length is not known: taken as {UNKNOWN_CONTEXT:,}; set max_model_len",)
    length = _number(text, "max_position_embeddings", source, default=UNKNOWN_CONTEXT)
    rope = text.get("rope_parameters") or text.get("rope_scaling")
    if not isinstance(rope, Mapping) or str(text.get("model_type")).startswith("gemma3"):  # has its factor in it
        return length, note
    kind = str(rope.get("rope_type") or rope.get("type") or "")
    factor = rope.get("factor")
    if kind in ("", "default", "mrope", "su", "longrope", "llama3", "proportional", "axial"):
        return length, note
    if not isinstance(factor, int | float) or factor <= 0:
        return length, note
    if kind in ("yarn", "deepseek_yarn"):
        original = rope.get("original_max_position_embeddings")
        return int((original or length) * factor), note
    return int(length * factor), note


def _read_window(text: Mapping[str, Any], family: str) -> int | None:
    window = text.get("sliding_window") or text.get("attention_chunk_size") or text.get("sliding_window_size")
    if family.startswith("qwen") and not text.get("use_sliding_window"):
        return None
    if family.startswith("llama4") and not window:
        window = 8192
    return int(window) if isinstance(window, int) else None


def _describe_cache(latent: LatentAttention | None, heads: int, head: int, value: int) -> Cache:
    """Return what one layer with attention keeps of a token."""
    if latent is not None:  # the compressed vector is needed whole on every GPU
        return Cache(0, 1, latent.kv_lora_rank + latent.qk_rope_head_dim, whole=True)
    return Cache(0, heads, head + value)


def _read_width(text: Mapping[str, Any], experts: Experts | None, hidden: int, source: str) -> int:
    """Return the width of a dense MLP; a model that has experts alone may name none."""
    width = text.get("intermediate_size_mlp") or text.get("intermediate_size")
    if isinstance(width, list):
        width = max((int(one) for one in width), default=None)
    if width is None and experts is not None:
        return experts.shared_intermediate_size or experts.intermediate_size
    if width == 0 and experts is not None:
        return experts.intermediate_size
    return _number({"intermediate_size": width}, "intermediate_size", source, default=4 * hidden)


def _read_quantization(config: Mapping[str, Any], text: Mapping[str, Any], override: str | None) -> Quantization:
    names = ("quantization_config", "compression_config")
    found = next((part[name] for part in (config, text) for name in names if isinstance(part.get(name), Mapping)), None)
    if found and text.get("expert_dtype"):
        found = {**found, "expert_dtype": text["expert_dtype"]}
    return read_quantization(found, override)


def _read_dtype(config: Mapping[str, Any], text: Mapping[str, Any], dtype: str) -> str:
    if dtype != "auto":
        if dtype not in DTYPE_BYTES:
            raise ConfigError(f"model.dtype={dtype} must be one of auto, {', '.join(DTYPE_BYTES)}")
        return dtype
    names = ("dtype", "torch_dtype")
    found = next((str(part[n]) for part in (text, config) for n in names if part.get(n)), "bfloat16")
    found = found.removeprefix("torch.")
    return found if DTYPE_BYTES.get(found) == 2 else "bfloat16"
