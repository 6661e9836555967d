"""Which GPUs one engine gets: tensor and pipeline parallelism, replicas, and how many sequences run at once.

The rule: the smallest tensor-parallel size (one that divides the heads, on one node) whose KV cache holds WANTED_SEQS
sequences and with which the whole cluster is about as fast as with any other; replicas on the GPUs that are left.
Small sizes with more replicas win as soon as they have room for enough sequences: a larger one adds two all-reduces
per layer. Pipeline stages within a node come where tensor parallelism alone does not fit, and stages across nodes when
a whole node is too small.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from synthgen.config import ClusterConfig, ModelConfig
from synthgen.errors import ConfigError
from synthgen.models.architecture import Architecture
from synthgen.planning.engine_plan import DoesNotFitError, EnginePlan
from synthgen.planning.fit import Fit, Lengths, choose_own_context, explain_data_context, fit_model
from synthgen.planning.hardware import describe_cluster
from synthgen.planning.memory import GIB, weights_bytes
from synthgen.planning.roofline import Speed, estimate_speed
from synthgen.planning.splits import EXPERT_PARALLEL, list_splits, wants_expert_parallel

WANTED_SEQS = 64
"""Sequences that a replica should run at once: below it a decode step reads the weights for too few tokens."""
ABOUT_AS_FAST = 0.85
"""Share of the fastest split's output from which a smaller one is taken: the roofline is no more exact than that."""
GPU_REPLICA_CPUS = 0.1
"""Logical CPUs that Ray books for a replica on GPUs: it is the GPUs that limit how many fit on a node."""

Speeds = dict[tuple[int, int, bool], Speed | None]
"""The speed of one replica by (tp, pp, expert parallelism); of the splits that fit."""


def plan_on_gpus(
    arch: Architecture,
    model: ModelConfig,
    cluster: ClusterConfig,
    *,
    key: str = "model",
    lengths: Lengths | None = None,
    efficiency: float = 0.5,
) -> EnginePlan:
    """Return the plan of a vLLM engine (or of an `echo` engine that rehearses one) on `cluster`'s GPUs.

    Args:
        key: the model's dotted key, for errors.

    Raises:
        DoesNotFitError: no way of splitting it leaves room for one sequence.
        ConfigError: a size that the configuration fixes cannot work.
    """
    lengths = lengths or Lengths()
    if not cluster.gpu.memory_gib:
        raise ConfigError(
            f"cluster.gpu.memory_gib is not known for GPU {cluster.gpu.name!r}; "
            "set it, or choose a data sheet with cluster/gpu=h100-80"
        )
    fits = [fit_model(arch, model, cluster, one, lengths) for one in list_splits(arch, model, cluster, key)]
    speeds = {
        _split_of(fit): estimate_speed(
            arch,
            cluster.gpu,
            tensor_parallel_size=fit.tensor_parallel_size,
            pipeline_parallel_size=fit.pipeline_parallel_size,
            sequences=fit.max_num_seqs,
            context_tokens=lengths.prompt + lengths.output / 2,
            kv_cache_dtype=model.kv_cache_dtype,
            efficiency=efficiency,
        )
        for fit in fits
        if fit.fits
    }
    chosen = _choose(fits, model, lengths, speeds)
    if chosen is None:
        raise _does_not_fit(arch, model, cluster, fits, key)
    replicas = model.replicas or chosen.replicas
    if replicas > chosen.replicas:
        raise ConfigError(
            f"{key}.replicas={replicas}: {describe_cluster(cluster)} holds {chosen.replicas} replicas of "
            f"{chosen.gpus} GPUs; try {key}.replicas={chosen.replicas}"
        )
    speed = speeds[_split_of(chosen)]
    return EnginePlan(
        tensor_parallel_size=chosen.tensor_parallel_size,
        pipeline_parallel_size=chosen.pipeline_parallel_size,
        replicas=replicas,
        num_gpus=chosen.gpus,
        num_cpus=GPU_REPLICA_CPUS,
        nodes=chosen.nodes,
        max_num_seqs=chosen.max_num_seqs,
        max_num_batched_tokens=chosen.max_num_batched_tokens,
        max_model_len=chosen.max_model_len,
        enable_chunked_prefill=True,
        weights_gib=weights_bytes(arch) / GIB,
        kv_cache_gib=chosen.kv_gib * chosen.gpus,
        kv_cache_tokens=chosen.kv_tokens,
        kv_cache_memory_gib=model.kv_cache_memory_gib,
        expert_parallel=chosen.expert_parallel,
        fit=chosen,
        speed=speed,
        reasons=_explain(arch, model, chosen, fits, speeds, lengths),
    )


def _split_of(fit: Fit) -> tuple[int, int, bool]:
    return fit.tensor_parallel_size, fit.pipeline_parallel_size, fit.expert_parallel


def _choose(fits: Sequence[Fit], model: ModelConfig, lengths: Lengths, speeds: Speeds) -> Fit | None:
    wanted = min(model.max_num_seqs or WANTED_SEQS, WANTED_SEQS)
    able = [fit for fit in fits if fit.fits and fit.replicas > 0]
    able = [fit for fit in able if fit.nodes == 1] or able
    if model.pipeline_parallel_size is None:
        able = [fit for fit in able if fit.pipeline_parallel_size == 1] or able
    if not wants_expert_parallel(model):
        able = [fit for fit in able if not fit.expert_parallel] or able
    roomy = [fit for fit in able if fit.concurrent_seqs >= wanted]
    if not able:
        return None
    rate = partial(_cluster_rate, speeds=speeds, lengths=lengths)
    if not roomy:
        return max(able, key=lambda fit: (rate(fit), fit.concurrent_seqs))
    fastest = max(map(rate, roomy))
    return min((fit for fit in roomy if rate(fit) >= ABOUT_AS_FAST * fastest), key=lambda fit: (fit.nodes, fit.gpus))


def _cluster_rate(fit: Fit, speeds: Speeds, lengths: Lengths) -> float:
    """Return the output tokens/s of all replicas together, prefill included; 0 where no speed is known."""
    speed = speeds.get(_split_of(fit))
    prefill = lengths.prompt if lengths.prefill is None else lengths.prefill
    return fit.replicas * speed.output_rate(prefill, lengths.output) if speed else 0.0


def _explain(
    arch: Architecture, model: ModelConfig, chosen: Fit, fits: Sequence[Fit], speeds: Speeds, lengths: Lengths
) -> tuple[str, ...]:
    reasons = []
    if model.tensor_parallel_size is None:
        roomy = chosen.concurrent_seqs >= WANTED_SEQS
        why = f"the smallest fast split with room for {WANTED_SEQS} sequences" if roomy else "the fastest that fits"
        tokens = f"of {lengths.sequence:,.0f} tokens"
        reasons.append(f"{_name(chosen)}: {why}; {_describe_split(chosen, speeds, lengths)} {tokens}")
        others = [fit for fit in fits if fit is not chosen and fit.pipeline_parallel_size == 1 and _tells(fit, model)]
        reasons += [f"{_name(fit)}: {_describe_split(fit, speeds, lengths)}" for fit in others]
    reasons += _explain_steps(chosen, model)
    if chosen.expert_parallel and not wants_expert_parallel(model):
        reasons.append(
            f"expert parallelism (engine_args.{EXPERT_PARALLEL}): whole experts are dealt out, since TP "
            f"{chosen.tensor_parallel_size} cannot split each"
        )
    reasons += explain_context(arch, model, chosen.max_model_len, chosen.kv_gib, lengths)
    return (*reasons, *arch.notes, f"weights counted by {arch.source}; KV cache as vLLM deals out its blocks")


def explain_context(
    arch: Architecture, model: ModelConfig, chosen: int, kv_gib: float, lengths: Lengths
) -> Iterator[str]:
    """Yield why `max_model_len` is not the checkpoint's context."""
    if model.max_model_len is not None or chosen >= arch.context_length:
        return
    wanted = choose_own_context(arch, lengths)
    if chosen >= wanted:
        yield explain_data_context(arch, chosen)
        return
    yield (
        f"max_model_len lowered from {wanted:,} to {chosen:,} tokens: {kv_gib:.1f} GiB of KV cache per GPU hold no "
        "more in one sequence"
    )


def _tells(fit: Fit, model: ModelConfig) -> bool:
    """Whether a splitting that was not chosen is worth a line: expert parallelism only where it was asked for."""
    return not fit.expert_parallel or wants_expert_parallel(model)


def _explain_steps(chosen: Fit, model: ModelConfig) -> Iterator[str]:
    """Yield that a step was made smaller, where it was."""
    if model.max_num_batched_tokens is None and chosen.max_num_batched_tokens < 8192:
        yield (
            f"max_num_batched_tokens lowered to {chosen.max_num_batched_tokens:,}: a larger step needs memory that the "
            "KV cache then lacks"
        )


def _describe_split(fit: Fit, speeds: Speeds, lengths: Lengths) -> str:
    if not fit.fits:
        return f"does not fit, {fit.short_gib:.1f} GiB short per GPU"
    rate = _cluster_rate(fit, speeds, lengths)
    speed = f"about {rate:,.0f} output tokens/s, " if rate else ""
    replicas = f"{fit.replicas} replica{'' if fit.replicas == 1 else 's'}"
    return f"{replicas}, {speed}each with room for {fit.concurrent_seqs:,} sequences"


def _name(fit: Fit) -> str:
    stages = f" × PP {fit.pipeline_parallel_size}" if fit.pipeline_parallel_size > 1 else ""
    engines = f" × DP {fit.data_parallel_size}" if fit.data_parallel_size > 1 else ""
    return f"TP {fit.tensor_parallel_size}{stages}{engines}"


def _does_not_fit(
    arch: Architecture, model: ModelConfig, cluster: ClusterConfig, fits: Sequence[Fit], key: str
) -> DoesNotFitError:
    best = min(fits, key=lambda fit: fit.short_gib)
    usable = cluster.gpu.memory_gib * model.gpu_memory_utilization
    weights = f"{arch.quantization.label}, {weights_bytes(arch) / GIB:.1f} GiB of weights"
    return DoesNotFitError(
        f"{key}={model.name} ({weights}) does not fit on {describe_cluster(cluster)}: with {_name(best)} each GPU is "
        f"{best.short_gib:.1f} GiB short ({best.weights_gib:.1f} weights, {best.reserve_gib:.1f} activations and CUDA, "
        f"the rest KV cache, of {usable:.1f} usable)",
        best.short_gib,
    )
