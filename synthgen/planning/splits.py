"""The ways of splitting a model over GPUs that vLLM serves: tensor parallelism on a node, pipeline stages beyond."""

from __future__ import annotations

from collections.abc import Sequence

from synthgen.config import ClusterConfig, ModelConfig
from synthgen.errors import ConfigError
from synthgen.models.architecture import Architecture
from synthgen.models.tensors import VOCAB_PADDING
from synthgen.planning.hardware import describe_cluster


def list_tensor_parallel_sizes(arch: Architecture, most: int) -> list[int]:
    """Return the tensor-parallel sizes up to `most` that vLLM can split the model by, ascending."""
    return [size for size in range(1, most + 1) if _explain_bad_size(arch, size) is None]


def check_tensor_parallel_size(arch: Architecture, size: int, most: int, key: str) -> None:
    """Raise ConfigError if the model cannot be split over `size` GPUs (or, on a CPU, processes)."""
    problem = _explain_bad_size(arch, size)
    if problem is not None:
        sizes = [str(good) for good in list_tensor_parallel_sizes(arch, max(most, size))]
        near = f"{', '.join(sizes[:-1])} or {sizes[-1]}" if len(sizes) > 1 else sizes[0]
        raise ConfigError(f"{key}.tensor_parallel_size={size} {problem}; try {near}")


def _explain_bad_size(arch: Architecture, size: int) -> str | None:
    if arch.num_heads % size:
        return f"must divide num_attention_heads={arch.num_heads}"
    heads = arch.num_kv_heads
    if arch.latent is None and heads % size and size % heads:
        return f"must divide num_key_value_heads={heads} or be a multiple of it"
    if -(-arch.vocab_size // VOCAB_PADDING) * VOCAB_PADDING % size:
        return f"must divide vocab_size={arch.vocab_size}, rounded up to {VOCAB_PADDING}"
    tile = 1 if arch.quantization.method == "mxfp4" else arch.quantization.tile()
    experts = arch.experts
    widths = [experts.intermediate_size] if experts else []
    if experts is None or len(experts.layers) < arch.num_layers:
        widths.append(arch.intermediate_size)
    for width in widths:
        if width % (size * tile) and size > 1:
            tiles = f" in groups of {tile}, the checkpoint's quantization" if tile > 1 else ""
            return f"must divide intermediate_size={width}{tiles}"
    return None


def list_splits(arch: Architecture, model: ModelConfig, cluster: ClusterConfig, key: str) -> Sequence[tuple[int, int]]:
    """Return the (tp, pp) to consider, in order of preference."""
    per_node = cluster.gpus_per_node
    if model.tensor_parallel_size is not None:
        check_tensor_parallel_size(arch, model.tensor_parallel_size, per_node, key)
        if model.tensor_parallel_size > per_node:
            raise ConfigError(
                f"{key}.tensor_parallel_size={model.tensor_parallel_size} is more than the {per_node} GPUs of a node; "
                f"across nodes use {key}.pipeline_parallel_size"
            )
        sizes = [model.tensor_parallel_size]
    else:
        sizes = list_tensor_parallel_sizes(arch, per_node)
    if model.pipeline_parallel_size is not None:
        stages = model.pipeline_parallel_size
        if stages > arch.num_layers:
            raise ConfigError(f"{key}.pipeline_parallel_size={stages} is more than the {arch.num_layers} layers")
        splits = [(tp, stages) for tp in sizes]
        if all(tp * stages > per_node and stages > (per_node // tp) * cluster.nodes for tp in sizes):
            raise ConfigError(
                f"{key}.pipeline_parallel_size={stages} needs more GPUs than {describe_cluster(cluster)} has"
            )
        return [(tp, pp) for tp, pp in splits if pp <= (per_node // tp) * cluster.nodes]
    across = [(sizes[-1], nodes) for nodes in range(2, min(cluster.nodes, arch.num_layers) + 1)]
    return [(tp, 1) for tp in sizes] + across
