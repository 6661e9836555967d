"""The weight tensors of a decoder, by their checkpoint names: an `Architecture` in, shapes and their split out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from synthgen.models.architecture import Architecture, Experts, LatentAttention

VOCAB_PADDING = 64
"""vLLM pads the vocabulary to a multiple of this (`vocab_parallel_embedding.DEFAULT_VOCAB_PADDING_SIZE`)."""

Split = Literal["outputs", "inputs", "kv", "vocab", "none"]
"""How tensor parallelism cuts a tensor: by its outputs, its inputs, by KV heads, by vocabulary rows, or not at all."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A weight matrix, or several of one shape.

    Attributes:
        name: without the `.weight`, such as `model.layers.0.mlp.up_proj`.
        copies: so many experts have one each.
        linear: whether a quantization format may apply to it.
        active: copies that one token is multiplied with.
    """

    name: str
    outputs: int
    inputs: int
    split: Split
    copies: int = 1
    bias: bool = False
    linear: bool = True
    active: int = 1

    @property
    def parameters(self) -> int:
        """Weights and biases of all copies."""
        return self.copies * (self.outputs * self.inputs + (self.outputs if self.bias else 0))


def list_layer_tensors(arch: Architecture, layer: int) -> Iterator[Tensor]:
    """Yield the tensors of decoder layer `layer` (0-based), norms last."""
    prefix = f"model.layers.{layer}"
    yield from _list_attention(arch, f"{prefix}.self_attn")
    if arch.experts is not None and layer in arch.experts.layers:
        yield from _list_experts(arch, arch.experts, f"{prefix}.mlp")
    else:
        yield from _list_mlp(arch, f"{prefix}.mlp", arch.intermediate_size)
    yield Tensor(f"{prefix}.norms", arch.norms_per_layer, arch.hidden_size, "none", linear=False)
    if arch.qk_norm:
        yield Tensor(f"{prefix}.self_attn.qk_norms", 2, arch.head_dim, "none", linear=False)
    if arch.attention_sinks:
        yield Tensor(f"{prefix}.self_attn.sinks", 1, arch.num_heads, "none", linear=False)


def list_input_tensors(arch: Architecture) -> Iterator[Tensor]:
    """Yield what comes before the layers: the token embeddings, and an image encoder."""
    yield Tensor("model.embed_tokens", arch.vocab_size, arch.hidden_size, "vocab", linear=False, active=0)
    if arch.vision_parameters:
        yield Tensor("vision_tower", 1, arch.vision_parameters, "none", linear=False, active=0)


def list_output_tensors(arch: Architecture) -> Iterator[Tensor]:
    """Yield what comes after the layers: the last norm and, unless the embeddings serve as it, the output head."""
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


def _list_attention(arch: Architecture, prefix: str) -> Iterator[Tensor]:
    hidden = arch.hidden_size
    if arch.latent is not None:
        yield from _list_latent(arch, arch.latent, prefix)
        return
    queries, keys = arch.num_heads * arch.head_dim, arch.num_kv_heads * arch.head_dim
    yield Tensor(f"{prefix}.q_proj", queries, hidden, "outputs", bias=arch.qkv_bias)
    yield Tensor(f"{prefix}.k_proj", keys, hidden, "kv", bias=arch.qkv_bias)
    yield Tensor(f"{prefix}.v_proj", keys, hidden, "kv", bias=arch.qkv_bias)
    yield Tensor(f"{prefix}.o_proj", hidden, queries, "inputs", bias=arch.output_bias)


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
    hidden, width = arch.hidden_size, experts.intermediate_size
    yield Tensor(f"{prefix}.gate", experts.count, hidden, "none", bias=experts.bias, linear=False)
    for name, outputs, inputs, split in (
        ("gate_proj", width, hidden, "outputs"),
        ("up_proj", width, hidden, "outputs"),
        ("down_proj", hidden, width, "inputs"),
    ):
        kept: Split = "outputs" if split == "outputs" else "inputs"
        full = f"{prefix}.experts.{name}"
        yield Tensor(full, outputs, inputs, kept, experts.count, experts.bias, active=experts.per_token)
    if experts.shared_intermediate_size:
        yield from _list_mlp(arch, f"{prefix}.shared_experts", experts.shared_intermediate_size)
