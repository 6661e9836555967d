"""GPU memory: weights, KV cache and what else vLLM takes. All results are bytes unless a name says otherwise.

The reserve beside weights and cache follows vLLM's start-up profile: one forward pass over `max_num_batched_tokens`
tokens, then sampling for `max_num_seqs` sequences, the larger of the two; CUDA graphs; the CUDA context and, between
GPUs, NCCL's buffers. Its constants are fitted to start-up logs of vLLM 0.19 on H100; docs/planning.md says where the
others come from.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

from synthgen.models.architecture import Architecture
from synthgen.models.quantization import Quantization
from synthgen.models.tensors import (
    VOCAB_PADDING,
    Tensor,
    list_input_tensors,
    list_layer_tensors,
    list_output_tensors,
    list_tensors,
)
from synthgen.planning.cache_blocks import cut_blocks, page_bytes

GIB = 2**30
GPU_BLOCK = 16
CPU_BLOCK = 128
"""Tokens per block of the KV cache (vLLM's defaults, `CacheConfig` and `platforms/cpu.py`)."""

SAMPLER_BYTES = 15.5
"""Peak bytes of sampling per sequence and vocabulary entry. Fit: 1.89 GiB for 1024 × 128256, 3.63 for 1024 × 256000."""
GRAPH_GIB = (0.3, 0.019)
"""CUDA graphs, GiB: a constant, and per layer. Fitted: 0.91 GiB at 32 layers, 1.79 GiB at 80."""
CONTEXT_GIB = 0.25
NCCL_GIB = 2.1
"""Memory outside PyTorch, GiB per GPU: alone or over PCIe, and when several GPUs talk over fast links."""
FAST_LINK_GB_S = 100
"""NVLink and AMD's links have more, PCIe less; over PCIe NCCL keeps its buffers in the host's memory."""
MXFP4_PADDING = 256
"""Kernels for MXFP4 experts pad the hidden size to a multiple of this (2880 → 3072 in gpt-oss)."""


@lru_cache(maxsize=4096)
def weights_bytes(
    arch: Architecture,
    quantization: Quantization | None = None,
    *,
    tensor_parallel_size: int = 1,
    stages: int = 1,
    expert_gpus: int | None = None,
) -> int:
    """Return the bytes of the weights on the fullest GPU (with one GPU: all of them).

    Args:
        quantization: another format than the checkpoint's own.
        tensor_parallel_size: GPUs that share each layer.
        expert_gpus: GPUs that whole experts are dealt out to (expert parallelism); None: each expert is split.
        stages: pipeline stages; layers are dealt out as `vllm.distributed.utils.get_pp_indices` does.
    """
    quant = arch.quantization if quantization is None else quantization
    shares = split_layers(arch.num_layers, stages)
    largest, start = 0.0, 0
    for stage, count in enumerate(shares):
        tensors = [t for layer in range(start, start + count) for t in list_layer_tensors(arch, layer)]
        start += count
        last = stage == stages - 1
        if stage == 0 or (last and arch.tie_word_embeddings):
            tensors += list_input_tensors(arch)
        if last:
            tensors += list_output_tensors(arch)
        largest = max(largest, _sum_bytes(tensors, arch, quant, tensor_parallel_size, expert_gpus))
    return math.ceil(largest)


@lru_cache(maxsize=256)
def expert_bytes(arch: Architecture) -> float:
    """Return the bytes of all experts that a token may be sent to, in the checkpoint's format."""
    tensors = (tensor for tensor in list_tensors(arch) if tensor.expert)
    return _sum_bytes(tensors, arch, arch.quantization, 1, None)


def buffers_bytes(arch: Architecture) -> int:
    """Return what vLLM keeps beside the weights on each GPU: the rotary embedding's table, for the whole context."""
    rotary = arch.latent.qk_rope_head_dim if arch.latent is not None else arch.head_dim
    return arch.context_length * rotary * arch.dtype_bytes


def split_layers(layers: int, stages: int) -> list[int]:
    """Return the layers of each pipeline stage: equal, the remainder going to the stages before the last."""
    shares = [layers // stages] * stages
    for index in range(layers % stages):
        shares[-(index + 2) % stages] += 1
    return shares


def kv_bytes_per_token(arch: Architecture, kv_cache_dtype: str = "auto") -> int:
    """Return the KV cache of one token in all layers with attention: 2 × layers × kv_heads × head_dim × bytes.

    Layers with a sliding window count in full; see `sequence_kv_bytes` for what a long sequence really keeps. States do
    not grow with a sequence: see `state_bytes`.
    """
    element = cache_element_bytes(arch, kv_cache_dtype)
    return sum(page_bytes(cache, element, arch.dtype_bytes, 1) for cache in arch.caches if not cache.state)


def state_bytes(arch: Architecture) -> int:
    """Return what the layers without attention keep of a sequence, however long it is."""
    return sum(page_bytes(cache, 1, arch.dtype_bytes, 1) for cache in arch.caches if cache.state)


def sequence_kv_bytes(
    arch: Architecture,
    tokens: float,
    kv_cache_dtype: str = "auto",
    *,
    tensor_parallel_size: int = 1,
    layers: int | None = None,
    block: int = GPU_BLOCK,
    slack: int = 0,
    states: int = 1,
) -> int:
    """Return the KV cache that a sequence of `tokens` occupies on one GPU, in whole blocks, windows respected.

    Args:
        layers: layers on this GPU; None: all.
        slack: tokens under way at once that a layer may hold beyond its window; 0: what a running sequence holds.
        states: blocks of each state that a request holds (`cache_blocks.ALIGNED_STATES`).
    """
    element = cache_element_bytes(arch, kv_cache_dtype)
    blocks = cut_blocks(arch, element, tensor_parallel_size=tensor_parallel_size, layers=layers, block=block)
    return blocks.count(tokens, slack=slack or None, states=states) * blocks.block_bytes


def kv_cache_tokens(
    arch: Architecture,
    pool_bytes: float,
    max_model_len: int,
    kv_cache_dtype: str = "auto",
    *,
    tensor_parallel_size: int = 1,
    layers: int | None = None,
    block: int = GPU_BLOCK,
    slack: int = 0,
    states: int = 1,
) -> int:
    """Return the tokens that vLLM says a pool of `pool_bytes` per GPU holds ("KV cache size: N tokens").

    vLLM counts how many requests of `max_model_len` fit, times `max_model_len`
    (`v1/core/kv_cache_utils.py::get_kv_cache_capacity`).
    """
    element = cache_element_bytes(arch, kv_cache_dtype)
    blocks = cut_blocks(arch, element, tensor_parallel_size=tensor_parallel_size, layers=layers, block=block)
    full = blocks.count(max_model_len, slack=slack or None, states=states)
    return max(0, int(int(pool_bytes // blocks.block_bytes) / full * max_model_len)) if full else max_model_len


def reserve_bytes(
    arch: Architecture,
    *,
    max_num_batched_tokens: int,
    max_num_seqs: int,
    gpus: int = 1,
    tensor_parallel_size: int = 1,
    layers: int | None = None,
    cuda_graphs: bool = True,
    link_gb_s: float = 0.0,
    expert_gpus: int | None = None,
    engines: int = 1,
) -> int:
    """Return what one GPU of a replica of `gpus` needs beside weights and KV cache.

    Args:
        link_gb_s: of the links between GPUs; 0: not known, taken as fast.
        expert_gpus: GPUs that whole experts are dealt out to; None: each expert is split.
        engines: data-parallel engines that share the experts; each GPU is sent the tokens of all.
    """
    numbers = 4 * arch.hidden_size + 3 * arch.intermediate_size / tensor_parallel_size
    if arch.experts is not None:
        split = 1 if expert_gpus else tensor_parallel_size
        numbers = max(numbers, 4 * arch.hidden_size + engines * _expert_numbers(arch, split))
    forward = max_num_batched_tokens * arch.dtype_bytes * numbers
    sampling = max_num_seqs * arch.vocab_size * SAMPLER_BYTES
    graphs = GRAPH_GIB[0] + GRAPH_GIB[1] * (layers or arch.num_layers) if cuda_graphs else 0.0
    return math.ceil(max(forward, sampling) + (graphs + _outside_gib(gpus, link_gb_s)) * GIB)


def _expert_numbers(arch: Architecture, split: int) -> float:
    """Return the numbers per token in the two workspaces of a mixture: a row for each expert that the token chose, as
    wide as the model or as what the experts write, which alone is split (`TritonExperts.workspace_shapes`)."""
    experts = arch.experts
    assert experts is not None
    hidden, width = experts.hidden_size or arch.hidden_size, experts.intermediate_size / split
    return experts.per_token * (max(hidden, width) + max(hidden, 2 * width))


def _outside_gib(gpus: int, link_gb_s: float) -> float:
    """Return the memory outside PyTorch."""
    if gpus == 1 or 0 < link_gb_s < FAST_LINK_GB_S:
        return CONTEXT_GIB
    return NCCL_GIB


def cache_element_bytes(arch: Architecture, kv_cache_dtype: str = "auto") -> float:
    """Return the bytes of one number in the KV cache."""
    if kv_cache_dtype.startswith(("fp8", "int8")):
        return 1
    if kv_cache_dtype == "auto" and arch.quantization.kv_cache_bits:
        return arch.quantization.kv_cache_bits / 8
    return 2 if kv_cache_dtype in ("bfloat16", "float16") else arch.dtype_bytes


def _sum_bytes(
    tensors: Iterable[Tensor], arch: Architecture, quant: Quantization, tp: int, expert_gpus: int | None
) -> float:
    total = 0.0
    for tensor in tensors:
        copies = tensor.copies
        if tensor.expert and expert_gpus is not None:  # whole experts are dealt out, in place of slices of each
            copies, split = -(-copies // expert_gpus), 1
        else:
            split = tp
        if tensor.stored is not None:
            total += copies * tensor.stored / _stored_share(tensor, arch, split)
            continue
        outputs, inputs = _shard(tensor, arch, split)
        vocabulary = quant.everything and tensor.split == "vocab"
        chosen = quant if vocabulary else quant.pick(tensor.name) if tensor.linear else None
        if chosen is not None:
            if chosen.method == "mxfp4":
                outputs, inputs = _pad_experts(tensor, outputs, inputs)
            matrix = chosen.linear_bytes(outputs, inputs)
        else:
            matrix = outputs * inputs * float(arch.dtype_bytes)
        bias = outputs * arch.dtype_bytes if tensor.bias else 0
        total += copies * (matrix + bias)
    return total


def _stored_share(tensor: Tensor, arch: Architecture, tp: int) -> float:
    """Return by how many a GPU's part of a stored tensor is smaller than the whole."""
    if tensor.split == "none" or tensor.outputs == 1:
        return 1
    return min(tp, max(1, arch.num_kv_heads)) if tensor.split == "kv" else tp


def _shard(tensor: Tensor, arch: Architecture, tp: int) -> tuple[int, int]:
    outputs, inputs = tensor.outputs, tensor.inputs
    if tensor.split == "outputs" and outputs > 1:
        outputs = -(-outputs // tp)
    elif tensor.split == "inputs" and outputs > 1:
        inputs = -(-inputs // tp)
    elif tensor.split == "kv":
        outputs = -(-outputs // min(tp, max(1, arch.num_kv_heads)))
    elif tensor.split == "vocab":
        outputs = -(-outputs // VOCAB_PADDING) * VOCAB_PADDING
        outputs = -(-outputs // tp)
    return outputs, inputs


def _pad_experts(tensor: Tensor, outputs: int, inputs: int) -> tuple[int, int]:
    if tensor.split == "inputs":
        return -(-outputs // MXFP4_PADDING) * MXFP4_PADDING, inputs
    return outputs, -(-inputs // MXFP4_PADDING) * MXFP4_PADDING
