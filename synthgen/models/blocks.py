"""Decoders whose layers differ in width, as a search made them (Nemotron of NVIDIA's Puzzle, `block_configs`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from synthgen.models.table import Row, Table

MLP_MULTIPLE = 256
"""Widths of an MLP are rounded up to a multiple of this (`DeciLMForCausalLM` of vLLM, `_find_multiple`)."""


def list_blocks(text: Mapping[str, Any], heads: int, head: int) -> Table | None:
    """Return the tensors of such a model, by its `block_configs`; None: they are of another form."""
    blocks = text.get("block_configs")
    if not isinstance(blocks, Sequence) or not all(isinstance(block, Mapping) for block in blocks):
        return None
    hidden, vocabulary = int(text["hidden_size"]), int(text["vocab_size"])
    rows = [Row("model.embed_tokens", (), vocabulary, hidden)]
    for layer, block in enumerate(blocks):
        rows.append(Row("model.layers.#.norms", (layer,), 2, hidden))
        kept = count_heads(block, heads)
        if kept:
            shapes = {
                "q_proj": (heads * head, hidden),
                "k_proj": (kept * head, hidden),
                "v_proj": (kept * head, hidden),
            }
            shapes["o_proj"] = (hidden, heads * head)
            rows += [Row(f"model.layers.#.self_attn.{name}", (layer,), *shape) for name, shape in shapes.items()]
        width = _find_width(block, hidden)
        if width:
            rows += [Row(f"model.layers.#.mlp.{name}", (layer,), width, hidden) for name in ("gate_proj", "up_proj")]
            rows.append(Row("model.layers.#.mlp.down_proj", (layer,), hidden, width))
    rows.append(Row("model.norm", (), 1, hidden))
    if not text.get("tie_word_embeddings"):
        rows.append(Row("lm_head", (), vocabulary, hidden))
    return tuple(rows)


def count_heads(block: Mapping[str, Any], heads: int) -> int:
    """Return the KV heads of a block; 0: it has no attention."""
    attention = block.get("attention")
    if not isinstance(attention, Mapping) or attention.get("no_op") or attention.get("replace_with_linear"):
        return 0
    shared = attention.get("n_heads_in_group")
    return heads // int(shared) if shared else int(attention.get("num_key_value_heads") or heads)


def _find_width(block: Mapping[str, Any], hidden: int) -> int:
    mlp = block.get("ffn")
    if not isinstance(mlp, Mapping) or mlp.get("no_op") or mlp.get("replace_with_linear"):
        return 0
    if mlp.get("intermediate_size"):
        return int(mlp["intermediate_size"])
    width = int(2 * float(mlp.get("ffn_mult") or 0) * hidden / 3)
    return -(-width // MLP_MULTIPLE) * MLP_MULTIPLE
