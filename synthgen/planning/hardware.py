"""The machines: data sheets of GPUs, what this machine or a Ray cluster has, and one line that says so."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from synthgen.config import ClusterConfig, GpuConfig
from synthgen.config.resources import project_path
from synthgen.planning.gpu_names import find_sheet, list_gpus

logger = logging.getLogger(__name__)


def list_gpu_kinds(conf_dir: Path | None = None) -> dict[str, GpuConfig]:
    """Return the data sheets of `conf/cluster/gpu/` by file name, smallest memory first."""
    return dict(_read_gpu_kinds(str(conf_dir or project_path("conf"))))


def resolve_cluster(
    cluster: ClusterConfig,
    nodes: Sequence[Mapping[str, float]] | None = None,
    *,
    gpu_memory_gib: float | None = None,
) -> ClusterConfig:
    """Return `cluster` with nodes and GPUs filled in where `cluster.auto` asks for it; else `cluster` as it is.

    Args:
        nodes: the `Resources` of each live node (`ray.nodes()`); None: this machine, asked through its drivers' tools.
        gpu_memory_gib: memory of one GPU, where the caller knows it (Ray's names do not always tell).
    """
    if not cluster.auto:
        return cluster
    return _from_this_machine(cluster) if nodes is None else _from_ray(cluster, nodes, gpu_memory_gib)


def describe_cluster(cluster: ClusterConfig) -> str:
    """Return the machines in words, such as `2 nodes of 8 × H100-80 (79.1 GiB each)`."""
    if not cluster.gpus_per_node:
        return f"{cluster.nodes} nodes without GPUs" if cluster.nodes > 1 else "this machine, without GPUs"
    gpus = f"{cluster.gpus_per_node} × {cluster.gpu.name or 'GPU'} ({cluster.gpu.memory_gib:g} GiB each)"
    return f"{cluster.nodes} nodes of {gpus}" if cluster.nodes > 1 else gpus


def count_cpus(cluster: ClusterConfig) -> int:
    """Return the logical CPUs of one node."""
    return cluster.num_cpus or os.cpu_count() or 1


def read_host_memory_gib() -> float:
    """Return the memory of this machine, GiB; infinite where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    except (ValueError, OSError, AttributeError):
        return float("inf")


@lru_cache(maxsize=1)
def has_bfloat16(cpuinfo: str = "/proc/cpuinfo") -> bool:
    """Return whether this machine's CPU is quick in bfloat16; x86 without AVX-512 is not, others are taken to be.

    PyTorch has no bfloat16 kernels for AVX2 but a slow substitute (docs/engines.md has what was measured).
    """
    try:
        flags = next(line for line in Path(cpuinfo).read_text().splitlines() if line.startswith("flags")).split()
    except (OSError, StopIteration):  # another system, or another architecture: it calls them Features
        return True
    return "avx512f" in flags


@lru_cache(maxsize=4)
def _read_gpu_kinds(conf_dir: str) -> tuple[tuple[str, GpuConfig], ...]:
    from omegaconf import OmegaConf

    kinds: list[tuple[str, GpuConfig]] = []
    for path in (Path(conf_dir) / "cluster" / "gpu").glob("*.yaml"):
        merged = OmegaConf.merge(OmegaConf.structured(GpuConfig), OmegaConf.load(path))
        gpu = OmegaConf.to_object(merged)
        assert isinstance(gpu, GpuConfig)
        kinds.append((path.stem, gpu))
    return tuple(sorted(kinds, key=lambda kind: (kind[1].memory_gib, kind[1].bandwidth_gb_s)))


def _from_this_machine(cluster: ClusterConfig) -> ClusterConfig:
    found = list_gpus()
    if not found:
        return replace(cluster, auto=False, nodes=1, gpus_per_node=0, gpu=GpuConfig())
    (name, memory), count = Counter(found).most_common(1)[0]
    if len(set(found)) > 1:
        logger.warning("this machine has several kinds of GPU; planning with its %d × %s", count, name)
    return replace(cluster, auto=False, nodes=1, gpus_per_node=count, gpu=_find_kind(name, memory, cluster.gpu))


def _from_ray(
    cluster: ClusterConfig, nodes: Sequence[Mapping[str, float]], gpu_memory_gib: float | None
) -> ClusterConfig:
    shapes: Counter[tuple[str, int]] = Counter()
    for resources in nodes:
        gpus = int(resources.get("GPU", 0))
        names = sorted(name.partition(":")[2] for name in resources if name.startswith("accelerator_type:"))
        if gpus:
            shapes[(names[-1] if names else "", gpus)] += 1
    if not shapes:
        cpus = [int(resources.get("CPU", 0)) for resources in nodes]
        most = max(cpus, default=0) or None
        return replace(cluster, auto=False, nodes=max(1, len(nodes)), gpus_per_node=0, gpu=GpuConfig(), num_cpus=most)
    (name, gpus), count = max(shapes.items(), key=lambda item: (item[1] * item[0][1], item[0]))
    if len(shapes) > 1:
        logger.warning("the cluster has several kinds of GPU node; planning with its %d of %d × %s", count, gpus, name)
    kind = _find_kind(name, gpu_memory_gib, cluster.gpu)
    return replace(cluster, auto=False, nodes=count, gpus_per_node=gpus, gpu=kind)


def _find_kind(name: str, memory_gib: float | None, given: GpuConfig) -> GpuConfig:
    """Return the data sheet that fits a name of Ray or of the driver; what the configuration gives goes first."""
    if given.memory_gib:
        return given
    kinds = list_gpu_kinds()
    sheet = find_sheet(name)
    words = name.upper().replace("NVIDIA", "").replace("TESLA", "").strip()
    model = words.split("-")[0].split(" ")[0]
    alike = [gpu for gpu in kinds.values() if gpu.accelerator_type.split("-")[0].upper() == model]
    if memory_gib:
        if sheet is not None and abs(kinds[sheet].memory_gib - memory_gib) < 0.1 * memory_gib:
            return kinds[sheet]
        near = [gpu for gpu in alike if abs(gpu.memory_gib - memory_gib) < 0.1 * memory_gib and "PCI" not in gpu.name]
        if near:
            return near[0]
        logger.warning("no data sheet for GPU %r of %.0f GiB: times are not planned", name, memory_gib)
        return GpuConfig(name=name, memory_gib=memory_gib, accelerator_type=name)
    if sheet is not None:
        return kinds[sheet]
    exact = [gpu for gpu in alike if gpu.accelerator_type.upper() == words]
    chosen = (exact or alike)[:1]  # the smallest of several, so that the plan holds on any of them
    if not chosen:
        logger.warning("no data sheet for GPU %r; set cluster.gpu.memory_gib and cluster.gpu.bandwidth_gb_s", name)
    return chosen[0] if chosen else GpuConfig(name=name, accelerator_type=name)
