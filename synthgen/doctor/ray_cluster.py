"""The Ray cluster that a run would join: whether it answers, and what its nodes have."""

from __future__ import annotations

import re
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Any

from synthgen.config import ClusterConfig, Config
from synthgen.doctor.check import Check
from synthgen.errors import SynthgenError
from synthgen.runtime.cluster import connect_ray, find_address

TIMEOUT_S = 5.0


def check_ray(config: Config) -> Iterator[Check]:
    """Yield the checks of the cluster; a run without an address starts Ray inside its own process."""
    address = find_address(config.cluster)
    if address is None:
        yield Check("ray", "ok", "no address is set: a run starts Ray inside its own process")
        return
    why = find_refusal(address)
    if why:
        mend = "start Ray there (ray start --head), or unset RAY_ADDRESS and cluster.address"
        yield Check("ray", "missing", f"{address} does not answer: {why}", mend)
        return
    import ray

    try:
        with connect_ray(config.cluster, cpus_needed=0):
            nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    except SynthgenError as error:
        mend = (
            "use the same Python and Ray versions there and here; with tokens set RAY_AUTH_MODE and RAY_AUTH_TOKEN_PATH"
        )
        yield Check("ray", "missing", f"{address}: {error}", mend)
        return
    yield from describe_nodes([node for node in nodes if node["Alive"]], config.cluster)


def find_refusal(address: str) -> str | None:
    """Return why nothing listens at `host:port` (Ray itself would try for a minute); None for other addresses."""
    match = re.fullmatch(r"(?:ray://)?(\[.+\]|[^:/\[]+):(\d+)", address)
    if match is None:
        return None
    try:
        with socket.create_connection((match[1].strip("[]"), int(match[2])), timeout=TIMEOUT_S):
            return None
    except OSError as error:
        return error.strerror or str(error)


def describe_nodes(nodes: list[dict[str, Any]], cluster: ClusterConfig) -> Iterator[Check]:
    """Yield what `ray.nodes()` shows: nodes, processors and GPUs, against what the configuration plans with."""
    resources = [node["Resources"] for node in nodes]
    gpus = [int(one.get("GPU", 0)) for one in resources]
    cpus = int(sum(one.get("CPU", 0) for one in resources))
    kinds: Counter[str] = Counter()
    for one, count in zip(resources, gpus, strict=True):
        kind = next(
            (key.partition(":")[2] for key in one if key.startswith("accelerator_type:")), "GPU of unknown kind"
        )
        kinds[kind] += count
    shown = ", ".join(f"{count} × {kind}" for kind, count in kinds.items() if count) or "no GPU"
    yield Check("ray", "ok", f"{len(nodes)} node{'' if len(nodes) == 1 else 's'}, {cpus} CPUs, {shown}")
    wanted = 0 if cluster.auto else cluster.nodes * cluster.gpus_per_node
    if wanted > sum(gpus):
        mend = "wait for the nodes to join, or choose the cluster preset that fits (cluster=auto reads it from Ray)"
        yield Check("ray", "warning", f"the configuration plans with {wanted} GPUs; Ray has {sum(gpus)}", mend)
