"""What would fit, when a model does not: other settings, another split, another format of it, or other machines.

Every suggestion is planned before it is made: what is said here works. Another format is one of the same checkpoint
family (its names differ by their format only), never another model of the same shape.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from synthgen.config import ClusterConfig, ModelConfig
from synthgen.errors import ConfigError
from synthgen.models.architecture import Architecture
from synthgen.models.checkpoint import resolve_architecture
from synthgen.planning.catalog import base_name, find_smallest_cluster, load_models, name_setup
from synthgen.planning.fit import Fit, Lengths, fit_model
from synthgen.planning.hardware import describe_cluster
from synthgen.planning.memory import GIB, weights_bytes
from synthgen.planning.splits import list_splits

MOST_NODES = 8
SHORTER = (32_768, 16_384, 8192, 4096, 2048)
"""Contexts that are tried where the one that is asked for does not fit, tokens."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Something that fits.

    Attributes:
        text: as the error says it. model, cluster: what it means; both plan.
    """

    text: str
    model: ModelConfig
    cluster: ClusterConfig


def suggest_fit(arch: Architecture, model: ModelConfig, cluster: ClusterConfig, key: str) -> str:
    """Return the nearest things that fit, ready to be appended to an error: `try …, or …`."""
    options = [one.text for one in list_suggestions(arch, model, cluster, key)]
    return f"try {', or '.join(options)}" if options else "no set-up of one or two nodes that is known here serves it"


def list_suggestions(arch: Architecture, model: ModelConfig, cluster: ClusterConfig, key: str) -> list[Suggestion]:
    """Return what fits, the smallest change first."""
    settings = list(_suggest_settings(arch, model, cluster, key))[:1]
    return [*settings, *_suggest_format(arch, model, cluster, key), *_suggest_machines(arch, model, cluster)]


def _find_fit(arch: Architecture, model: ModelConfig, cluster: ClusterConfig) -> Fit | None:
    try:
        splits = list_splits(arch, model, cluster, "model")
    except ConfigError:
        return None
    fits = (fit_model(arch, model, cluster, one, Lengths()) for one in splits)
    return next((fit for fit in fits if fit.fits and fit.replicas), None)


def _suggest_settings(arch: Architecture, model: ModelConfig, cluster: ClusterConfig, key: str) -> Iterator[Suggestion]:
    """Yield settings with which this very model fits on these machines, one change at a time."""
    for length in SHORTER:
        if model.max_model_len is not None and length < model.max_model_len:
            shorter = replace(model, max_model_len=length)
            if _find_fit(arch, shorter, cluster):
                yield Suggestion(f"{key}.max_model_len={length}", shorter, cluster)
                break
    if model.max_num_batched_tokens is not None or model.max_num_seqs is not None:
        free = replace(model, max_num_batched_tokens=None, max_num_seqs=None)
        fit = _find_fit(arch, free, cluster)
        if fit is not None:
            given = replace(model, max_num_batched_tokens=fit.max_num_batched_tokens, max_num_seqs=fit.max_num_seqs)
            text = f"{key}.max_num_batched_tokens={fit.max_num_batched_tokens} {key}.max_num_seqs={fit.max_num_seqs}"
            yield Suggestion(text, given, cluster)
    if model.tensor_parallel_size is not None or model.pipeline_parallel_size is not None:
        free = replace(model, tensor_parallel_size=None, pipeline_parallel_size=None)
        fit = _find_fit(arch, free, cluster)
        if fit is not None:
            tp, pp = fit.tensor_parallel_size, fit.pipeline_parallel_size
            stages = f" {key}.pipeline_parallel_size={pp}" if pp > 1 or model.pipeline_parallel_size else ""
            given = replace(model, tensor_parallel_size=tp, pipeline_parallel_size=pp)
            yield Suggestion(f"{key}.tensor_parallel_size={tp}{stages}", given, cluster)
    if model.gpu_memory_utilization < 0.9:
        more = replace(model, gpu_memory_utilization=0.92)
        if _find_fit(arch, more, cluster):
            yield Suggestion(f"{key}.gpu_memory_utilization=0.92", more, cluster)


def _suggest_format(arch: Architecture, model: ModelConfig, cluster: ClusterConfig, key: str) -> Iterator[Suggestion]:
    """Yield the catalog's largest smaller format of the same model that fits, the nearest to what was asked for."""
    best: tuple[tuple[int, bool, str], ModelConfig, str] | None = None
    own = weights_bytes(arch) / GIB
    for other in load_models():
        if not other.architecture or other.unservable or other.requires_package or other.name == model.name:
            continue
        if base_name(other.name) != base_name(model.name):
            continue
        other_arch = resolve_architecture(other)
        size = weights_bytes(other_arch) / GIB
        if size >= own or _find_fit(other_arch, other, cluster) is None:
            continue
        # Of two of one size FP8, which costs no quality that was found, where the GPU multiplies in it.
        native = other_arch.quantization.compute == "fp8" and cluster.gpu.tops_fp8 > 0
        rank = (round(size), native, other.name)
        if best is None or rank > best[0]:
            best = (rank, other, f"{other_arch.quantization.label}, {size:.1f} GiB")
    if best is not None:
        chosen = "model" if key == "model" else f"model@{key}"
        yield Suggestion(f"{chosen}={best[1].name} ({best[2]})", best[1], cluster)


def _suggest_machines(arch: Architecture, model: ModelConfig, cluster: ClusterConfig) -> Iterator[Suggestion]:
    free = replace(model, tensor_parallel_size=None, pipeline_parallel_size=None, replicas=None)
    if free.max_model_len is not None and free.max_model_len > arch.context_length:
        free = replace(free, max_model_len=None)
    for nodes in range(cluster.nodes + 1, MOST_NODES + 1):
        wider = replace(cluster, nodes=nodes)
        if _find_fit(arch, free, wider):
            yield Suggestion(f"cluster.nodes={nodes} ({describe_cluster(wider)})", free, wider)
            break
    smallest = find_smallest_cluster(arch, free)
    if smallest is not None:
        yield Suggestion(name_setup(smallest), free, smallest)
