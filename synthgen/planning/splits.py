"""The ways of splitting a model over GPUs that vLLM serves.

Tensor parallelism on a node; pipeline stages in a node or across nodes; whole experts dealt out to the GPUs of a
tensor-parallel group (expert parallelism), where their width cannot be split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from synthgen.config import ClusterConfig, ModelConfig
from synthgen.errors import ConfigError
from synthgen.models.architecture import Architecture
from synthgen.models.tensors import VOCAB_PADDING
from synthgen.planning.hardware import describe_cluster

EXPERT_PARALLEL = "enable_expert_parallel"
DATA_PARALLEL = "data_parallel_size"
"""vLLM's own arguments, in `model.engine_args`."""


@dataclass(frozen=True, slots=True)
class Splitting:
    """One way of splitting: tensor parallelism, pipeline stages, and whether experts are dealt out whole."""

    tp: int
    pp: int = 1
    expert_parallel: bool = False


def list_tensor_parallel_sizes(arch: Architecture, most: int, *, expert_parallel: bool = False) -> list[int]:
    """Return the tensor-parallel sizes up to `most` that vLLM can split the model by, ascending."""
    return [size for size in range(1, most + 1) if _explain_bad_size(arch, size, expert_parallel) is None]


def wants_expert_parallel(model: ModelConfig) -> bool:
    """Whether the configuration asks vLLM to deal whole experts out."""
    return bool(model.engine_args.get(EXPERT_PARALLEL))


def read_data_parallel(model: ModelConfig) -> int:
    """Return the engines of one replica that share its experts (`engine_args.data_parallel_size`)."""
    value = model.engine_args.get(DATA_PARALLEL) or 1
    return int(value) if isinstance(value, int) and value > 0 else 1


def check_tensor_parallel_size(arch: Architecture, size: int, most: int, key: str) -> None:
    """Raise ConfigError if the model cannot be split over `size` GPUs (or, on a CPU, processes)."""
    problem = _explain_bad_size(arch, size, arch.experts is not None)
    if problem is not None:
        sizes = [str(good) for good in list_tensor_parallel_sizes(arch, max(most, size))]
        near = f"{', '.join(sizes[:-1])} or {sizes[-1]}" if len(sizes) > 1 else sizes[0]
        raise ConfigError(f"{key}.tensor_parallel_size={size} {problem}; try {near}")


def _explain_bad_size(arch: Architecture, size: int, expert_parallel: bool = False) -> str | None:
    if arch.num_heads % size:
        return f"must divide num_attention_heads={arch.num_heads}"
    heads = arch.num_kv_heads
    if arch.latent is None and heads % size and size % heads:
        return f"must divide num_key_value_heads={heads} or be a multiple of it"
    if -(-arch.vocab_size // VOCAB_PADDING) * VOCAB_PADDING % size:
        return f"must divide vocab_size={arch.vocab_size}, rounded up to {VOCAB_PADDING}"
    experts = arch.experts
    widths = [(experts.intermediate_size, ".mlp.experts.down_proj")] if experts and not expert_parallel else []
    if experts is None or (len(experts.layers) < arch.num_layers and arch.table is None):
        widths.append((arch.intermediate_size, ".mlp.down_proj"))
    for width, name in widths:
        chosen = arch.quantization.pick(f"model.layers.{arch.num_layers // 2}{name}")
        # vLLM pads four-bit floats itself.
        tile = 1 if chosen is None or chosen.method == "mxfp4" or chosen.kind.endswith("FP4") else chosen.tile()
        if width % (size * tile) and size > 1:
            tiles = f" in groups of {tile}, the checkpoint's quantization" if tile > 1 else ""
            return f"must divide intermediate_size={width}{tiles}"
    return None


def list_splits(arch: Architecture, model: ModelConfig, cluster: ClusterConfig, key: str) -> Sequence[Splitting]:
    """Return the splittings to consider, in order of preference.

    Raises:
        ConfigError: a size that the configuration fixes cannot work.
    """
    per_node = cluster.gpus_per_node // read_data_parallel(model)
    if per_node < 1:
        raise ConfigError(
            f"{key}.engine_args.{DATA_PARALLEL}={read_data_parallel(model)} is more than the {cluster.gpus_per_node} "
            f"GPUs of a node; try {cluster.gpus_per_node} or less, or more {key}.replicas"
        )
    dealt = wants_expert_parallel(model)
    if model.tensor_parallel_size is not None:
        check_tensor_parallel_size(arch, model.tensor_parallel_size, per_node, key)
        if model.tensor_parallel_size > per_node:
            raise ConfigError(
                f"{key}.tensor_parallel_size={model.tensor_parallel_size} is more than the {per_node} GPUs of a node; "
                f"across nodes use {key}.pipeline_parallel_size"
            )
        sizes = [model.tensor_parallel_size]
    else:
        sizes = list_tensor_parallel_sizes(arch, per_node, expert_parallel=arch.experts is not None)
    plain = set(list_tensor_parallel_sizes(arch, per_node))
    stages = model.pipeline_parallel_size
    if stages is not None:
        if stages > arch.num_layers:
            raise ConfigError(f"{key}.pipeline_parallel_size={stages} is more than the {arch.num_layers} layers")
        if all(tp * stages > per_node and stages > (per_node // tp) * cluster.nodes for tp in sizes):
            raise ConfigError(
                f"{key}.pipeline_parallel_size={stages} needs more GPUs than {describe_cluster(cluster)} has"
            )
        pairs = [(tp, stages) for tp in sizes if stages <= (per_node // tp) * cluster.nodes]
    else:
        pairs = [(tp, 1) for tp in sizes]
        # Within a node: what tensor parallelism cannot use of its GPUs.
        pairs += [
            (tp, pp) for tp in sizes for pp in range(2, min(per_node // tp, arch.num_layers) + 1) if tp * pp <= per_node
        ]
        pairs += [(sizes[-1], nodes) for nodes in range(2, min(cluster.nodes, arch.num_layers) + 1)]
    return list(dict.fromkeys(Splitting(tp, pp, dealt or tp not in plain) for tp, pp in pairs))
