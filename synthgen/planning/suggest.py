"""What would fit, when a model does not: another way of splitting it, another format, or other machines."""

from __future__ import annotations

from dataclasses import replace

from synthgen.config import ClusterConfig, ModelConfig
from synthgen.errors import ConfigError
from synthgen.models.architecture import Architecture
from synthgen.models.checkpoint import resolve_architecture
from synthgen.models.quantization import NOT_QUANTIZED
from synthgen.planning.catalog import find_smallest_setup, load_models
from synthgen.planning.fit import Fit, Lengths, fit_model
from synthgen.planning.hardware import describe_cluster
from synthgen.planning.memory import GIB, weights_bytes
from synthgen.planning.splits import list_splits

MOST_NODES = 8


def suggest_fit(arch: Architecture, model: ModelConfig, cluster: ClusterConfig, key: str) -> str:
    """Return the nearest things that fit, ready to be appended to an error: `try …, or …`."""
    found = [
        _suggest_split(arch, model, cluster, key),
        _suggest_format(arch, model, cluster, key),
        _suggest_machines(arch, model, cluster),
    ]
    options = [option for option in found if option]
    return f"try {', or '.join(options)}" if options else "no set-up of one or two nodes that is known here serves it"


def _find_fit(arch: Architecture, model: ModelConfig, cluster: ClusterConfig) -> Fit | None:
    try:
        splits = list_splits(arch, model, cluster, "model")
    except ConfigError:
        return None
    fits = (fit_model(arch, model, cluster, tp, pp, Lengths()) for tp, pp in splits)
    return next((fit for fit in fits if fit.fits and fit.replicas), None)


def _suggest_split(arch: Architecture, model: ModelConfig, cluster: ClusterConfig, key: str) -> str:
    if model.tensor_parallel_size is None and model.pipeline_parallel_size is None:
        return ""
    free = replace(model, tensor_parallel_size=None, pipeline_parallel_size=None)
    fit = _find_fit(arch, free, cluster)
    if fit is None:
        return ""
    stages = f" {key}.pipeline_parallel_size={fit.pipeline_parallel_size}" if fit.pipeline_parallel_size > 1 else ""
    return f"{key}.tensor_parallel_size={fit.tensor_parallel_size}{stages}"


def _suggest_format(arch: Architecture, model: ModelConfig, cluster: ClusterConfig, key: str) -> str:
    """Name the catalog's largest entry of the same shape that fits, and so the nearest to what was asked for."""
    best: tuple[float, str, str] | None = None
    shape = replace(arch, quantization=NOT_QUANTIZED)
    for other in load_models():
        if not other.architecture or other.unservable or other.requires_package or other.name == model.name:
            continue
        other_arch = resolve_architecture(other)
        if replace(other_arch, quantization=NOT_QUANTIZED) != shape or _find_fit(other_arch, other, cluster) is None:
            continue
        size = weights_bytes(other_arch) / GIB
        if best is None or (size, other.name) > best[:2]:
            best = (size, other.name, other_arch.quantization.label)
    chosen = "model" if key == "model" else f"model@{key}"
    return f"{chosen}={best[1]} ({best[2]}, {best[0]:.1f} GiB)" if best else ""


def _suggest_machines(arch: Architecture, model: ModelConfig, cluster: ClusterConfig) -> str:
    free = replace(model, tensor_parallel_size=None, pipeline_parallel_size=None)
    for nodes in range(cluster.nodes + 1, MOST_NODES + 1):
        wider = replace(cluster, nodes=nodes)
        if _find_fit(arch, free, wider):
            smallest = find_smallest_setup(arch, free)
            return f"cluster.nodes={nodes} ({describe_cluster(wider)})" + (f", or {smallest}" if smallest else "")
    return find_smallest_setup(arch, free)
