"""Whether a model fits on so many GPUs, and what is left for the KV cache: one `Fit` per way of splitting it.

The choice among the ways is `placement.plan_engine`'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from synthgen.config import ClusterConfig, ModelConfig
from synthgen.models.architecture import Architecture
from synthgen.planning.cache_blocks import ALIGNED_STATES
from synthgen.planning.memory import (
    GIB,
    buffers_bytes,
    kv_cache_tokens,
    reserve_bytes,
    sequence_kv_bytes,
    split_layers,
    weights_bytes,
)
from synthgen.planning.splits import Splitting, read_data_parallel

MAX_SEQS_LARGE = 512
MAX_SEQS_SMALL = 256
"""Most sequences at once: vLLM captures CUDA graphs for up to 512; on small GPUs its own default is 256."""
LARGE_GPU_GIB = 70
SHORTEST_CONTEXT = 1024
"""A context that is lowered to fit stays at least so long, tokens."""
SMALLER_STEPS = ((8192, 256), (4096, 128), (2048, 64), (1024, 32))
"""(max_num_batched_tokens, max_num_seqs) that are tried where vLLM's own leave no room: both take memory."""
CRAMPED_SEQS = 16
"""Room for fewer sequences than that is made larger by a smaller step."""
CONTEXT_STEP = 1024
"""A context that follows from the data is rounded up to a multiple of this, tokens."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Expected lengths in tokens: of the prompt, of one completion, and the longest prompt plus completion to serve.

    `prefill` are the prompt tokens to compute per completion, where several completions share a prompt; None: all.
    `bound` is what no sequence of the data exceeds, by the bytes of its prompts; None: the data are not known.
    """

    prompt: float = 512.0
    output: float = 512.0
    longest: int = 2048
    prefill: float | None = None
    bound: int | None = None

    @property
    def sequence(self) -> float:
        """Tokens that a sequence holds when it is complete."""
        return self.prompt + self.output


@dataclass(frozen=True, slots=True)
class Fit:
    """One way of splitting a model over GPUs. Sizes are per GPU unless they say otherwise.

    Attributes:
        nodes: nodes that one replica spans. replicas: that the cluster holds.
        weights_gib: with the rotary table. reserve_gib: activations, CUDA graphs, CUDA and NCCL.
        kv_gib: left for the KV cache; negative where the weights alone do not fit.
        short_gib: lacking on the fullest GPU for one sequence of the shortest context; 0 where it fits.
        kv_tokens: of the whole replica, as vLLM reports them.
        concurrent_seqs: complete sequences of the expected length that the KV cache holds.
    """

    tensor_parallel_size: int
    pipeline_parallel_size: int
    nodes: int
    replicas: int
    weights_gib: float
    reserve_gib: float
    kv_gib: float
    short_gib: float
    kv_tokens: int
    concurrent_seqs: int
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    expert_parallel: bool = False
    data_parallel_size: int = 1

    @property
    def gpus(self) -> int:
        """GPUs of one replica."""
        return self.tensor_parallel_size * self.pipeline_parallel_size * self.data_parallel_size

    @property
    def fits(self) -> bool:
        """Whether at least one sequence can be served."""
        return self.short_gib <= 0


def fit_model(
    arch: Architecture, model: ModelConfig, cluster: ClusterConfig, splitting: Splitting, lengths: Lengths
) -> Fit:
    """Return how `model` fits when it is split so, and how many sequences it then runs at once.

    Where the steps that vLLM would take leave room for few sequences or none, smaller ones are tried: fewer tokens in a
    batch and fewer sequences at once, as far as the configuration leaves them open.
    """
    large = cluster.gpu.memory_gib >= LARGE_GPU_GIB
    own = (
        16384 if large and "A100" not in cluster.gpu.name else 8192,
        MAX_SEQS_LARGE if large else MAX_SEQS_SMALL,
    )
    best = _fit_step(arch, model, cluster, splitting, lengths, own)
    if best.fits and best.concurrent_seqs >= CRAMPED_SEQS:
        return best
    for step in SMALLER_STEPS:
        if step[0] >= own[0] and step[1] >= own[1]:
            continue
        smaller = _fit_step(arch, model, cluster, splitting, lengths, step)
        if _room(smaller) > 1.2 * _room(best) or (smaller.fits and not best.fits):
            best = smaller
    return best


def _room(fit: Fit) -> int:
    return min(fit.concurrent_seqs, fit.max_num_seqs) if fit.fits else -1


def _fit_step(
    arch: Architecture,
    model: ModelConfig,
    cluster: ClusterConfig,
    splitting: Splitting,
    lengths: Lengths,
    own: tuple[int, int],
) -> Fit:
    """Return the fit with the steps of `own` (tokens of a batch, sequences), where the configuration gives none."""
    tp, pp, dp = splitting.tp, splitting.pp, read_data_parallel(model)
    step, most = model.max_num_batched_tokens or own[0], model.max_num_seqs or own[1]
    layers = max(split_layers(arch.num_layers, pp))
    dealt = tp * dp if splitting.expert_parallel else None
    weights = weights_bytes(arch, tensor_parallel_size=tp, stages=pp, expert_gpus=dealt) + buffers_bytes(arch)
    reserve = reserve_bytes(
        arch,
        max_num_batched_tokens=step,
        max_num_seqs=most,
        gpus=tp * pp * dp,
        tensor_parallel_size=tp,
        layers=layers,
        cuda_graphs=not model.enforce_eager,
        link_gb_s=cluster.gpu.interconnect_gb_s,
        expert_gpus=dealt,
        engines=dp,
    )
    usable = cluster.gpu.memory_gib * model.gpu_memory_utilization * GIB
    pool = usable - weights - reserve
    if model.kv_cache_memory_gib is not None:
        pool = min(pool, model.kv_cache_memory_gib * GIB)
    under_way = step * (
        pp + 1 if pp == 1 else pp
    )  # scheduling a step ahead of the one that runs (`max_in_flight_tokens`)
    states = ALIGNED_STATES if model.enable_prefix_caching else 1

    def sequence(tokens: float, slack: int = 0) -> int:
        return sequence_kv_bytes(
            arch,
            tokens,
            model.kv_cache_dtype,
            tensor_parallel_size=tp,
            layers=layers,
            slack=slack,
            states=states if slack else 1,
        )

    longest = _choose_context(arch, model, pool, lambda tokens: sequence(tokens, under_way), lengths)
    needed = sequence(longest if model.max_model_len else min(longest, _shortest(arch, lengths)), under_way)
    concurrent = int(pool // max(1, sequence(min(lengths.sequence, longest)))) if pool > 0 else 0
    seqs = model.max_num_seqs or max(1, _round_down(min(concurrent, most)))
    return Fit(
        tensor_parallel_size=tp,
        pipeline_parallel_size=pp,
        nodes=_count_nodes(cluster, tp * dp, pp),
        replicas=_count_replicas(cluster, tp * dp, pp),
        weights_gib=weights / GIB,
        reserve_gib=reserve / GIB,
        kv_gib=pool / GIB,
        short_gib=max(0.0, (needed - pool) / GIB),
        kv_tokens=kv_cache_tokens(
            arch,
            max(0.0, pool),
            longest,
            model.kv_cache_dtype,
            tensor_parallel_size=tp,
            layers=layers,
            slack=under_way,
            states=states,
        ),
        concurrent_seqs=concurrent,
        max_model_len=longest,
        max_num_seqs=seqs,
        max_num_batched_tokens=step,
        expert_parallel=splitting.expert_parallel,
        data_parallel_size=dp,
    )


def choose_own_context(arch: Architecture, lengths: Lengths) -> int:
    """Return the context to serve where the configuration names none: what the data need, at most the checkpoint's."""
    if lengths.bound is None:
        return arch.context_length
    return min(arch.context_length, -(-max(lengths.bound, SHORTEST_CONTEXT) // CONTEXT_STEP) * CONTEXT_STEP)


def explain_data_context(arch: Architecture, chosen: int) -> str:
    """Return why a context that follows from the data is what it is."""
    return (
        f"max_model_len {chosen:,} of {arch.context_length:,} tokens: no sequence of the data is longer (bytes of the "
        "longest prompt + max_tokens, rounded up; anew at each start); set max_model_len for another"
    )


def _choose_context(
    arch: Architecture, model: ModelConfig, pool: float, sequence: Callable[[float], int], lengths: Lengths
) -> int:
    """Return max_model_len: what is asked for, else what the data need, lowered to what the cache holds."""
    if model.max_model_len:
        return model.max_model_len
    wanted = choose_own_context(arch, lengths)
    if pool <= 0 or sequence(wanted) <= pool:
        return wanted
    low, high = 1, max(1, wanted // 256)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if sequence(middle * 256) <= pool else (low, middle - 1)
    return max(low * 256, min(wanted, _shortest(arch, lengths)))


def _shortest(arch: Architecture, lengths: Lengths) -> int:
    return min(arch.context_length, max(SHORTEST_CONTEXT, lengths.longest))


def _round_down(count: int) -> int:
    return count // 8 * 8 if count >= 16 else count


def _count_nodes(cluster: ClusterConfig, tp: int, pp: int) -> int:
    return 1 if tp * pp <= cluster.gpus_per_node else math.ceil(pp / max(1, cluster.gpus_per_node // tp))


def _count_replicas(cluster: ClusterConfig, tp: int, pp: int) -> int:
    if tp * pp <= cluster.gpus_per_node:
        return cluster.nodes * (cluster.gpus_per_node // (tp * pp))
    return cluster.nodes // _count_nodes(cluster, tp, pp) if tp <= cluster.gpus_per_node else 0
