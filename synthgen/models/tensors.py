"""The weight tensors of a decoder, by their checkpoint names: an `Architecture` in, shapes and their split out.

Where the checkpoint's own tensors are known (`Architecture.table`) they are these; else a formula lists those of a
gated decoder with its family's ways.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from synthgen.models.architecture import Architecture
from synthgen.models.experts import Experts, LatentAttention
from synthgen.models.table import Row, Split, Table

VOCAB_PADDING = 64
"""vLLM pads the vocabulary to a multiple of this (`vocab_parallel_embedding.DEFAULT_VOCAB_PADDING_SIZE`)."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A weight matrix, or several of one shape.

    Attributes:
        name: without the `.weight`, such as `model.layers.0.mlp.up_proj`.
        copies: so many experts have one each.
        linear: whether a quantization format may apply to it.
        active: copies that one token is multiplied with.
        stored: bytes of one copy as the checkpoint has it; None: by the format's formula.
        expert: whether expert parallelism deals its copies out.
    """

    name: str
    outputs: int
    inputs: int
    split: Split
    copies: int = 1
    bias: bool = False
    linear: bool = True
    active: int = 1
    stored: int | None = None
    expert: bool = False

    @property
    def parameters(self) -> int:
        """Weights and biases of all copies."""
        return self.copies * (self.outputs * self.inputs + (self.outputs if self.bias else 0))


def list_layer_tensors(arch: Architecture, layer: int) -> Iterator[Tensor]:
    """Yield the tensors of decoder layer `layer` (0-based), norms last."""
    if arch.table is not None:
        yield from _by_layer(arch.table, _per_token(arch)).get(layer, ())
        return
    prefix = f"model.layers.{layer}"
    kind = arch.kinds[layer] if arch.kinds else "full"
    if kind == "state":
        yield from _list_linear(arch, f"{prefix}.linear_attn")
    elif kind != "none":
        yield from _list_attention(arch, f"{prefix}.self_attn")
    if arch.experts is not None and layer in arch.experts.layers:
        yield from _list_experts(arch, arch.experts, f"{prefix}.mlp")
    elif not arch.alternating or kind == "none":
        yield from _list_mlp(arch, f"{prefix}.mlp", arch.intermediate_size)
    yield Tensor(f"{prefix}.norms", arch.norms_per_layer, arch.hidden_size, "none", linear=False)
    if arch.qk_norm:
        yield Tensor(f"{prefix}.self_attn.qk_norms", 2, arch.head_dim, "none", linear=False)
    if arch.attention_sinks:
        yield Tensor(f"{prefix}.self_attn.sinks", 1, arch.num_heads, "none", linear=False)


def list_input_tensors(arch: Architecture) -> Iterator[Tensor]:
    """Yield what comes before the layers: the token embeddings, and an image encoder."""
    if arch.table is not None:
        yield from (tensor for tensor in _by_layer(arch.table, 1).get(OUTSIDE, ()) if not _is_output(tensor, arch))
        return
    yield Tensor("model.embed_tokens", arch.vocab_size, arch.hidden_size, "vocab", linear=False, active=0)
    if arch.vision_parameters:
        yield Tensor("vision_tower", 1, arch.vision_parameters, "none", linear=False, active=0)


def list_output_tensors(arch: Architecture) -> Iterator[Tensor]:
    """Yield what comes after the layers: the last norm and, unless the embeddings serve as it, the output head."""
    if arch.table is not None:
        yield from (tensor for tensor in _by_layer(arch.table, 1).get(OUTSIDE, ()) if _is_output(tensor, arch))
        return
    yield Tensor("model.norm", 1, arch.hidden_size, "none", linear=False)
    if not arch.tie_word_embeddings:
        yield Tensor("lm_head", arch.vocab_size, arch.hidden_size, "vocab")


def list_tensors(arch: Architecture) -> Iterator[Tensor]:
    """Yield all tensors of the model."""
    yield from list_input_tensors(arch)
    for layer in range(arch.num_layers):
        yield from list_layer_tensors(arch, layer)
    yield from list_output_tensors(arch)


def count_parameters(arch: Architecture) -> int:
    """Return the number of parameters of the unquantized model, vocabulary not padded."""
    return sum(tensor.parameters for tensor in list_tensors(arch))


def count_active_parameters(arch: Architecture) -> int:
    """Return the weights that one token is multiplied with: all but the embeddings, of experts only the chosen ones."""
    total = 0
    for tensor in list_tensors(arch):
        total += min(tensor.active, tensor.copies) * tensor.outputs * tensor.inputs
    return total + (arch.vocab_size * arch.hidden_size if arch.tie_word_embeddings else 0)


OUTSIDE = -1


def _is_output(tensor: Tensor, arch: Architecture) -> bool:
    """Whether a tensor outside of the layers comes after them; a tied head is the embedding, and not there twice."""
    last = tensor.name.rpartition(".")[2]
    return "lm_head" in tensor.name or last in ("embed_out", "output") or ("norm" in last and "vis" not in tensor.name)


def _per_token(arch: Architecture) -> int:
    return arch.experts.per_token if arch.experts is not None else 1


@lru_cache(maxsize=256)
def _by_layer(table: Table, per_token: int) -> dict[int, tuple[Tensor, ...]]:
    """Return the tensors of each layer, and under OUTSIDE the others."""
    found: dict[int, list[Tensor]] = {}
    for row in table:
        tensor = _to_tensor(row, per_token)
        for layer in row.layers or (OUTSIDE,):
            named = replace(tensor, name=tensor.name.replace("#", str(layer), 1)) if row.layers else tensor
            found.setdefault(layer, []).append(named)
    return {layer: tuple(tensors) for layer, tensors in found.items()}


def _to_tensor(row: Row, per_token: int) -> Tensor:
    aside = row.aside or (row.split == "vocab" and "lm_head" not in row.name)
    return Tensor(
        row.name,
        row.outputs,
        row.inputs,
        row.split,
        row.copies,
        linear=row.linear,
        active=0 if aside else min(per_token, row.copies) if row.expert else row.copies,
        stored=row.stored,
        expert=row.expert,
    )


def _list_attention(arch: Architecture, prefix: str) -> Iterator[Tensor]:
    hidden = arch.hidden_size
    if arch.latent is not None:
        yield from _list_latent(arch, arch.latent, prefix)
        return
    value_dim = arch.v_head_dim or arch.head_dim
    queries, keys = arch.num_heads * arch.head_dim, arch.num_kv_heads * arch.head_dim
    yield Tensor(f"{prefix}.q_proj", queries, hidden, "outputs", bias=arch.qkv_bias)
    yield Tensor(f"{prefix}.k_proj", keys, hidden, "kv", bias=arch.qkv_bias)
    yield Tensor(f"{prefix}.v_proj", arch.num_kv_heads * value_dim, hidden, "kv", bias=arch.qkv_bias)
    yield Tensor(f"{prefix}.o_proj", hidden, arch.num_heads * value_dim, "inputs", bias=arch.output_bias)


def _list_linear(arch: Architecture, prefix: str) -> Iterator[Tensor]:
    """Yield a layer with a state, roughly: what goes in, its gate, and what comes out, all as wide as its values."""
    hidden = arch.hidden_size
    width = max((numbers for cache in arch.caches for numbers, _ in cache.state[-1:]), default=hidden * 128) // 128
    for name in ("q_proj", "k_proj", "in_proj_qkv", "g_proj"):
        yield Tensor(f"{prefix}.{name}", width, hidden, "outputs")
    yield Tensor(f"{prefix}.out_proj", hidden, width, "inputs")


def _list_latent(arch: Architecture, latent: LatentAttention, prefix: str) -> Iterator[Tensor]:
    hidden, heads = arch.hidden_size, arch.num_heads
    query = heads * (latent.qk_nope_head_dim + latent.qk_rope_head_dim)
    if latent.q_lora_rank:
        yield Tensor(f"{prefix}.q_a_proj", latent.q_lora_rank, hidden, "none")
        yield Tensor(f"{prefix}.q_b_proj", query, latent.q_lora_rank, "outputs")
        yield Tensor(f"{prefix}.q_a_layernorm", 1, latent.q_lora_rank, "none", linear=False)
    else:
        yield Tensor(f"{prefix}.q_proj", query, hidden, "outputs")
    yield Tensor(f"{prefix}.kv_a_proj_with_mqa", latent.kv_lora_rank + latent.qk_rope_head_dim, hidden, "none")
    yield Tensor(f"{prefix}.kv_a_layernorm", 1, latent.kv_lora_rank, "none", linear=False)
    expanded = heads * (latent.qk_nope_head_dim + latent.v_head_dim)
    yield Tensor(f"{prefix}.kv_b_proj", expanded, latent.kv_lora_rank, "outputs")
    yield Tensor(f"{prefix}.o_proj", hidden, heads * latent.v_head_dim, "inputs")


def _list_mlp(arch: Architecture, prefix: str, width: int, copies: int = 1, active: int = 1) -> Iterator[Tensor]:
    hidden = arch.hidden_size
    names = ("gate_proj", "up_proj") if arch.gated_mlp else ("up_proj",)
    for name in names:
        yield Tensor(f"{prefix}.{name}", width, hidden, "outputs", copies, arch.mlp_bias, active=active)
    yield Tensor(f"{prefix}.down_proj", hidden, width, "inputs", copies, arch.mlp_bias, active=active)


def _list_experts(arch: Architecture, experts: Experts, prefix: str) -> Iterator[Tensor]:
    hidden, width = experts.hidden_size or arch.hidden_size, experts.intermediate_size
    yield Tensor(f"{prefix}.gate", experts.count, arch.hidden_size, "none", bias=experts.bias, linear=False)
    if experts.hidden_size:  # experts that work in a smaller space (Nemotron 3, Kimi K3)
        yield Tensor(f"{prefix}.fc1_latent_proj", hidden, arch.hidden_size, "none")
        yield Tensor(f"{prefix}.fc2_latent_proj", arch.hidden_size, hidden, "none")
    for name, outputs, inputs, split in (
        ("gate_proj", width, hidden, "outputs"),
        ("up_proj", width, hidden, "outputs"),
        ("down_proj", hidden, width, "inputs"),
    ):
        if name == "gate_proj" and not arch.gated_mlp:
            continue
        kept: Split = "outputs" if split == "outputs" else "inputs"
        full = f"{prefix}.experts.{name}"
        yield Tensor(full, outputs, inputs, kept, experts.count, experts.bias, active=experts.per_token, expert=True)
    if experts.shared_intermediate_size and arch.shared_gate:
        yield Tensor(f"{prefix}.shared_expert_gate", 1, hidden, "none", linear=False)
    if experts.shared_intermediate_size:
        yield from _list_mlp(arch, f"{prefix}.shared_experts", experts.shared_intermediate_size)
