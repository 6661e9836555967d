"""The built-in models: Llama checkpoints made on this machine, so that a demo and the tests need no download.

`builtin:tiny` (0.8M parameters) and `builtin:small-random` (27M, for benchmarks) have Llama 3's chat format and the
weight format of RedHatAI/Llama-3.3-70B-Instruct-quantized.w8a8, so the engine loads them the way it loads that one.
Their text is noise. The directory that `ensure_builtin_model` returns is what a Hub repository would hold.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from synthgen.errors import ConfigError
from synthgen.models.cache import find_cache, make_once
from synthgen.models.tiny_tokenizer import BOS, EOT, VOCAB_SIZE, train_tokenizer, write_tokenizer_config
from synthgen.models.tiny_weights import Shape, make_weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CONTEXT_LENGTH = 16384
"""Tokens. A vocabulary of 2048 makes prompts long: with eight texts of 512 tokens UltraFeedback's has about 5,500, and
a full judgement of them up to 8,000 more."""


@dataclass(frozen=True, slots=True)
class _Recipe:
    shape: Shape
    seed: int


BUILTIN_MODELS: dict[str, _Recipe] = {
    "builtin:tiny": _Recipe(Shape(hidden=128, layers=2, heads=4, kv_heads=2, head_dim=32, intermediate=256), seed=1),
    "builtin:small-random": _Recipe(
        Shape(hidden=512, layers=8, heads=8, kv_heads=4, head_dim=64, intermediate=1536), seed=2
    ),
}


def ensure_tiny_model(cache_dir: Path | None = None) -> Path:
    """Return the directory of `builtin:tiny`; see `ensure_builtin_model`."""
    return ensure_builtin_model("builtin:tiny", cache_dir)


def ensure_builtin_model(model_id: str, cache_dir: Path | None = None, known: Collection[str] | None = None) -> Path:
    """Return the directory of a random checkpoint, made now if it is not there yet (about a second).

    Args:
        model_id: a key of BUILTIN_MODELS.
        known: every built-in id, for the error.
        cache_dir: where to keep it; None: $XDG_CACHE_HOME/synthgen, or ~/.cache/synthgen.

    Safe under concurrent callers (`make_once`).

    Raises:
        ConfigError: there is no such model, or the cache directory cannot be written.
    """
    recipe = BUILTIN_MODELS.get(model_id)
    if recipe is None:
        raise ConfigError(f"model.id={model_id} is not built in; try one of: {', '.join(known or BUILTIN_MODELS)}")
    target = find_cache(cache_dir) / f"{model_id.removeprefix('builtin:')}-{_hash_sources()}"
    return make_once(target, lambda directory: _write_checkpoint(directory, recipe))


def _hash_sources() -> str:
    """Return a hash of everything that the checkpoints are made from, so that a new recipe gets a new directory."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for name in ("tiny.py", "tiny_tokenizer.py", "tiny_weights.py", "tiny_text.txt"):
        digest.update((here / name).read_bytes())
    return digest.hexdigest()[:12]


def _write_checkpoint(directory: Path, recipe: _Recipe) -> None:
    tokenizer = train_tokenizer()
    (directory / "tokenizer.json").write_text(tokenizer.to_str(pretty=True) + "\n", encoding="utf-8")
    (directory / "tokenizer_config.json").write_text(write_tokenizer_config(CONTEXT_LENGTH), encoding="utf-8")
    vocab = tokenizer.get_vocab()
    ids = {"bos_token_id": vocab[BOS], "eos_token_id": vocab[EOT]}
    _write_json(directory / "config.json", _make_config(recipe.shape, ids))
    _write_json(directory / "generation_config.json", {"do_sample": True, "temperature": 1.0, **ids})
    _write_safetensors(directory / "model.safetensors", make_weights(recipe.shape, tokenizer, recipe.seed))


def _make_config(shape: Shape, ids: dict[str, int]) -> dict[str, object]:
    """Return config.json; `quantization_config` is that of RedHatAI/Llama-3.3-70B-Instruct-quantized.w8a8."""
    weights: dict[str, object] = {
        "actorder": None,
        "block_structure": None,
        "dynamic": False,
        "group_size": None,
        "num_bits": 8,
        "observer": "minmax",
        "observer_kwargs": {},
        "strategy": "channel",
        "symmetric": True,
        "type": "int",
    }
    activations = {**weights, "dynamic": True, "observer": None, "strategy": "token"}
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        **ids,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "initializer_range": 0.02,
        "intermediate_size": shape.intermediate,
        "max_position_embeddings": CONTEXT_LENGTH,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "pretraining_tp": 1,
        "quantization_config": {
            "config_groups": {
                "group_0": {
                    "input_activations": activations,
                    "output_activations": None,
                    "targets": ["Linear"],
                    "weights": weights,
                }
            },
            "format": "int-quantized",
            "ignore": ["lm_head"],
            "kv_cache_scheme": None,
            "quant_method": "compressed-tensors",
            "quantization_status": "compressed",
        },
        "rms_norm_eps": 1e-05,
        "rope_scaling": {
            "factor": 8.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": CONTEXT_LENGTH // 8,
            "rope_type": "llama3",
        },
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": VOCAB_SIZE,
    }


def _write_json(path: Path, value: dict[str, object]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _write_safetensors(path: Path, tensors: dict[str, NDArray[np.generic]]) -> None:
    """Write int8 tensors as they are and all others as bfloat16 (numpy has none, so the format is written by hand:
    the header's length in 8 bytes, the header as JSON, the data; https://huggingface.co/docs/safetensors)."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    blobs, offset = [], 0
    for name, tensor in sorted(tensors.items()):
        blob = tensor.tobytes() if tensor.dtype == "int8" else _round_to_bfloat16(tensor)
        dtype = "I8" if tensor.dtype == "int8" else "BF16"
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [offset, offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # data starts at a multiple of 8
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(blobs))


def _round_to_bfloat16(tensor: NDArray[np.generic]) -> bytes:
    """Return little-endian bfloat16, rounded to nearest, ties to even."""
    import numpy as np

    bits = tensor.astype("<f4").view("<u4")
    return (
        ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype("<u2").tobytes()
    )
