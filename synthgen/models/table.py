"""The weight tensors of a checkpoint as rows: names and shapes in, one row for all layers that have the same tensor.

Rows come from safetensors headers (`headers.py`), from a model that transformers builds without memory
(`engines/answering.py`), or from a file of the catalog (`conf/model/tensors/`). A line of such a file reads

    model.layers.#.mlp.experts.down_proj 0-47 2048x512 *128

name (`#`: the layer), layers (`-`: outside of the layers), outputs x inputs, copies (experts), and `@bytes` of one copy
where the checkpoint's own size is known.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Split = Literal["outputs", "inputs", "kv", "vocab", "none"]
"""How tensor parallelism cuts a tensor: by its outputs, its inputs, by KV heads, by vocabulary rows, or not at all."""

_LAYER = re.compile(r"(?<![a-z_])(layers|h|blocks)\.(\d+)(?=\.)")
_ASIDE = re.compile(r"visual|vision|audio|speech|projector|multi_modal|image|sound")
_DRAFT = re.compile(r"(^|\.)(mtp|mtp_block|eagle|draft)(\.|_|$)|nextn|rotary_emb\.inv_freq")
_EXPERT = re.compile(r"\.experts\.\d+(?=\.)")
_VOCAB = ("embed_tokens", "embeddings", "word_embeddings", "tok_embeddings", "wte", "lm_head", "embed_out", "output")
_OUTPUTS = frozenset(
    (
        "q_proj", "q_b_proj", "kv_b_proj", "gate_proj", "up_proj", "gate_up_proj", "w1", "w3", "qkv_proj", "c_fc",
        "fc1", "query_key_value", "Wqkv", "dense_h_to_4h", "conv1d", "g_b_proj", "f_b_proj", "b_proj", "g_proj", "wq_b",
        "in_proj", "in_proj_qkv", "in_proj_qkvz", "in_proj_z", "in_proj_b", "in_proj_a", "in_proj_ba", "input_linear",
        "f_proj", "q_conv1d", "k_conv1d", "v_conv1d",
    )
)  # fmt: skip
_INPUTS = frozenset(
    (
        "o_proj", "out_proj", "down_proj", "w2", "c_proj", "fc2", "dense", "dense_4h_to_h", "o_b_proj", "wo_b",
        "output_linear",
    )
)  # fmt: skip
_NOT_LINEAR = frozenset(
    (
        "gate",
        "router",
        "shared_expert_gate",
        "conv1d",
        "q_conv1d",
        "k_conv1d",
        "v_conv1d",
        "embed_tokens",
        "embeddings",
        "wte",
        "word_embeddings",
    )
)
_PARTS = (
    "weight_scale_inv", "weight_scale_2", "weight_scale", "weight_zero_point", "weight_packed", "weight_shape",
    "weight_g_idx", "weight_global_scale", "input_global_scale", "input_scale", "weight", "qweight", "qzeros",
    "scales", "g_idx", "bias", "k_scale", "v_scale",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One tensor of some layers.

    Attributes:
        layers: that have it; empty: it stands outside of the layers.
        outputs, inputs: of the matrix that it stands for; outputs is 0 for scales and zero points.
        copies: so many of it in each layer (experts).
        stored: bytes of one copy, as the checkpoint has it; None: by the format's formula.
    """

    name: str
    layers: tuple[int, ...]
    outputs: int
    inputs: int
    copies: int = 1
    stored: int | None = None

    @property
    def module(self) -> str:
        """The name of the layer that it belongs to, without `.weight`, `.weight_scale` and so on."""
        head, _, tail = self.name.rpartition(".")
        return head if tail in _PARTS and head else self.name

    @property
    def split(self) -> Split:
        """How tensor parallelism cuts it."""
        name = self.module
        if _ASIDE.search(name):
            return "none"
        last = re.sub(r"_(blocks|scales|bias)$", "", name.rpartition(".")[2])
        if not self.layers:
            return "vocab" if last in _VOCAB else "none"
        if last in ("k_proj", "v_proj") and ".linear_attn." not in name and not self.name.endswith(".bias"):
            return "kv"
        if last in _OUTPUTS or last in ("k_proj", "v_proj"):
            return "outputs"
        return "inputs" if last in _INPUTS else "none"

    @property
    def expert(self) -> bool:
        """Whether a token is multiplied with a few of its copies only."""
        return self.copies > 1 and ".experts" in self.name

    @property
    def aside(self) -> bool:
        """Whether it belongs to an encoder of images or sound."""
        return bool(_ASIDE.search(self.name))

    @property
    def linear(self) -> bool:
        """Whether a quantization format may apply to it."""
        last = self.module.rpartition(".")[2]
        return self.outputs > 1 and self.inputs > 1 and last not in _NOT_LINEAR and "norm" not in last


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor of a checkpoint: its shape, and its bytes where they are kept as they are (None: served in 16 bits)."""

    name: str
    shape: tuple[int, ...]
    packed: int = 1  # numbers in one element
    size: int | None = None


Table = tuple[Row, ...]


def make_table(tensors: Iterable[Stored], layers: int) -> Table:
    """Return the rows of a model of `layers` decoder layers; what only drafts tokens (MTP) is left out."""
    found: dict[tuple[str, int, int, int | None], dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for tensor in tensors:
        name, layer = _place(tensor.name)
        if layer >= layers or _DRAFT.search(name):
            continue
        outputs, inputs, copies = _shape(tensor, name)
        found[(name, outputs, inputs, tensor.size if copies == 1 else _divide(tensor.size, copies))][layer] += copies
    rows = []
    for (name, outputs, inputs, size), where in found.items():
        by_copies: dict[int, list[int]] = defaultdict(list)
        for layer, copies in where.items():
            by_copies[copies].append(layer)
        for copies, members in by_copies.items():
            inside = tuple(sorted(layer for layer in members if layer >= 0))
            rows.append(Row(name, inside, outputs, inputs, copies, size))
    return tuple(rows)


def format_table(table: Table) -> list[str]:
    """Return the rows as lines, as `parse_table` reads them."""
    lines = []
    for row in table:
        parts = [row.name, _format_layers(row.layers), f"{row.outputs}x{row.inputs}"]
        parts += [f"*{row.copies}"] if row.copies > 1 else []
        parts += [f"@{row.stored}"] if row.stored is not None else []
        lines.append(" ".join(parts))
    return lines


def parse_table(lines: Sequence[str]) -> Table:
    """Return the rows of `lines`; empty lines and those that begin with `# ` are passed over."""
    return tuple(_parse_row(line) for line in lines if line.strip() and not line.startswith("# "))


def _parse_row(line: str) -> Row:
    name, layers, shape, *rest = line.split()
    outputs, inputs = (int(number) for number in shape.split("x"))
    marks = {part[0]: int(part[1:]) for part in rest}
    return Row(name, tuple(_parse_layers(layers)), outputs, inputs, marks.get("*", 1), marks.get("@"))


def _format_layers(layers: Sequence[int]) -> str:
    runs: list[tuple[int, int]] = []
    for layer in layers:
        if runs and layer == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], layer)
        else:
            runs.append((layer, layer))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs) or "-"


def _parse_layers(text: str) -> Iterator[int]:
    for part in text.split(",") if text != "-" else ():
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _place(name: str) -> tuple[str, int]:
    """Return the name with `#` for numbers, and the decoder layer that it stands in (-1: none)."""
    plain = name.removesuffix(".weight")
    if _ASIDE.search(plain):
        return re.sub(r"(?<=\.)\d+(?=\.|$)", "#", plain), -1
    match = _LAYER.search(plain)
    if match is None:
        return plain, -1
    shown = f"{plain[: match.start()]}{match[1]}.#{plain[match.end() :]}"
    return _EXPERT.sub(".experts", shown), int(match[2])


def _shape(tensor: Stored, name: str) -> tuple[int, int, int]:
    """Return (outputs, inputs, copies) of the matrices that a tensor stands for."""
    shape = tensor.shape
    if _is_scale(tensor.name):
        return 0, 0, 1
    if len(shape) >= 3 and ".experts" in name:
        return shape[1], math.prod(shape[2:]) * tensor.packed, shape[0]
    if len(shape) == 2 and ".experts" in name and name.endswith("_bias"):
        return 1, shape[1], shape[0]
    if len(shape) >= 2:
        return shape[0], math.prod(shape[1:]) * tensor.packed, 1
    return 1, math.prod(shape), 1


def _is_scale(name: str) -> bool:
    last = name.rpartition(".")[2]
    return (last in _PARTS and last not in ("weight", "weight_packed", "qweight", "bias")) or last.endswith("_scales")


def _divide(size: int | None, copies: int) -> int | None:
    return None if size is None else size // copies
