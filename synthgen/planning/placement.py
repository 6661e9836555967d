"""One engine on one cluster: `plan_engine` asks the GPU or the CPU placement, by engine and machine."""

from __future__ import annotations

from dataclasses import replace

from synthgen.config import ClusterConfig, ModelConfig
from synthgen.errors import ConfigError
from synthgen.models.architecture import UnknownShapeError
from synthgen.models.checkpoint import resolve_architecture
from synthgen.models.gguf import describe_serving
from synthgen.planning.classifier_placement import plan_classifier
from synthgen.planning.cpu_placement import plan_on_cpu
from synthgen.planning.engine_plan import DoesNotFitError, EnginePlan
from synthgen.planning.fit import Lengths
from synthgen.planning.gpu_placement import GPU_REPLICA_CPUS, plan_on_gpus
from synthgen.planning.hardware import count_cpus
from synthgen.planning.limits import check_context, check_values
from synthgen.planning.splits import read_data_parallel
from synthgen.planning.suggest import suggest_fit

ECHO_REPLICAS = 4
ECHO_SEQS = 64
SAFE_SEQS = 64
SAFE_STEP = 8192
"""Sequences at once and tokens of a batch where nothing is known of a model."""


def plan_engine(
    model: ModelConfig,
    cluster: ClusterConfig,
    *,
    key: str = "model",
    lengths: Lengths | None = None,
    efficiency: float = 0.5,
) -> EnginePlan:
    """Return how `model` is served on `cluster`.

    An `echo` engine that has an architecture or a tensor_parallel_size rehearses a vLLM engine: on a cluster with GPUs
    it is placed as that one would be.

    Args:
        key: the model's dotted key (`generators.main.model`), for errors.
        lengths: expected prompt and completion lengths, tokens.
        efficiency: achieved share of the roofline.

    Raises:
        ConfigError: it cannot be served here; the message says what is short and what would fit.
    """
    check_servable(model, key)
    if model.served_by.is_service:
        replicas = model.replicas or 1
        return EnginePlan(replicas=replicas, max_num_seqs=model.max_num_seqs or model.endpoint.max_concurrency)
    if model.served_by.runs_code:  # processes that give way to others (nice): no CPU is booked for them
        return EnginePlan(replicas=model.replicas or cluster.nodes, max_num_seqs=count_cpus(cluster))
    if not model.served_by.loads_checkpoint:
        return _plan_echo(model, cluster, key, lengths)
    if model.served_by.without_vllm:
        return plan_classifier(model, cluster, key)
    check_values(model, key)
    try:
        arch = resolve_architecture(model)
    except UnknownShapeError as error:
        return _plan_blind(model, cluster, str(error))
    check_context(arch, model, key)
    if not cluster.gpus_per_node:
        return _tell_serving(plan_on_cpu(model, cluster, key=key, lengths=lengths), model)
    try:
        plan = plan_on_gpus(arch, model, cluster, key=key, lengths=lengths, efficiency=efficiency)
        return _tell_serving(plan, model)
    except DoesNotFitError as error:
        raise DoesNotFitError(f"{error}; {suggest_fit(arch, model, cluster, key)}", error.short_gib) from error


def _tell_serving(plan: EnginePlan, model: ModelConfig) -> EnginePlan:
    """Add to the plan how a GGUF file is served; one with numbers in the catalog is not looked into."""
    said = None if model.architecture else describe_serving(model)
    return plan if said is None else replace(plan, reasons=(*plan.reasons, said))


def _plan_blind(model: ModelConfig, cluster: ClusterConfig, why: str) -> EnginePlan:
    """Return a plan for a model whose shape nobody here knows: the sizes that are given, else all GPUs of a node.

    vLLM measures what fits, and refuses what does not: a planner that cannot count must not be in its way.
    """
    tp, pp = model.tensor_parallel_size, model.pipeline_parallel_size or 1
    per_node = cluster.gpus_per_node
    if tp is None:
        tp = 2 ** ((max(1, per_node) // pp or 1).bit_length() - 1) if per_node else 1
    gpus = tp * pp * read_data_parallel(model) if per_node else 0
    room = max(1, cluster.nodes * per_node // gpus) if gpus else cluster.nodes
    taken = (
        f"takes TP {tp}" + (f" × PP {pp}" if pp > 1 else "") + ", as given" * (model.tensor_parallel_size is not None)
    )
    return EnginePlan(
        tensor_parallel_size=tp,
        pipeline_parallel_size=pp,
        replicas=model.replicas or room,
        num_gpus=gpus,
        num_cpus=GPU_REPLICA_CPUS if gpus else float(max(tp, count_cpus(cluster))),
        nodes=-(-gpus // per_node) if per_node else 1,
        max_num_seqs=model.max_num_seqs or SAFE_SEQS,
        max_num_batched_tokens=model.max_num_batched_tokens or (SAFE_STEP if gpus else None),
        max_model_len=model.max_model_len,
        kv_cache_memory_gib=model.kv_cache_memory_gib,
        reasons=(
            f"not planned, since the planner does not know this model's shape ({why}): it {taken}; vLLM will measure",
        ),
    )


def check_servable(model: ModelConfig, key: str) -> None:
    """Raise ConfigError for a model that vLLM cannot serve at all, or whose plugin is not installed."""
    if not model.served_by.loads_checkpoint:
        return
    if model.unservable:
        raise ConfigError(f"{key}={model.name} cannot be served: {model.unservable}")
    if model.requires_package and not _is_installed(model.requires_package):
        raise ConfigError(
            f"{key}={model.name} needs the package {model.requires_package}; "
            f"install it with: pip install {model.requires_package}"
        )


def _is_installed(package: str) -> bool:
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def _plan_echo(model: ModelConfig, cluster: ClusterConfig, key: str, lengths: Lengths | None) -> EnginePlan:
    if cluster.gpus_per_node and model.architecture:
        return plan_on_gpus(resolve_architecture(model), model, cluster, key=key, lengths=lengths)
    tp, pp = model.tensor_parallel_size or 1, model.pipeline_parallel_size or 1
    seqs = model.max_num_seqs or ECHO_SEQS
    if cluster.gpus_per_node and tp * pp > 1:
        plan = EnginePlan(tp, pp, num_gpus=tp * pp, num_cpus=GPU_REPLICA_CPUS, max_num_seqs=seqs)
        room = cluster.nodes * cluster.gpus_per_node // (tp * pp)
        if tp > cluster.gpus_per_node or room == 0 or (model.replicas or 1) > room:
            raise ConfigError(
                f"{key}: {model.replicas or 1} replicas of {tp} × {pp} GPUs do not fit on "
                f"{cluster.nodes} × {cluster.gpus_per_node} GPUs"
            )
        nodes = 1 if tp * pp <= cluster.gpus_per_node else -(-pp // (cluster.gpus_per_node // tp))
        return replace(plan, replicas=model.replicas or room, nodes=nodes)
    replicas = model.replicas or min(ECHO_REPLICAS, count_cpus(cluster) * cluster.nodes)
    return EnginePlan(tp, pp, replicas=replicas, max_num_seqs=seqs, max_model_len=model.max_model_len)
