"""Ray: embedded in this process by default, a cluster through RAY_ADDRESS, `cluster.address` or `ray job submit`."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from synthgen.config import ClusterConfig
from synthgen.errors import ConfigError, RunFailedError, SynthgenError, first_line
from synthgen.ledger.lease import Lease
from synthgen.planning import resolve_cluster
from synthgen.runtime.pools import QUIET
from synthgen.runtime.ray_start import RayThread, watch_start

logger = logging.getLogger(__name__)


def find_address(cluster: ClusterConfig) -> str | None:
    """Return the address of the cluster that a run is for, None for Ray inside this process."""
    address = cluster.address or os.environ.get("RAY_ADDRESS")
    return None if address in (None, "", "local") else address


@contextlib.contextmanager
def live_cluster(cluster: ClusterConfig) -> Iterator[None]:
    """Connect to Ray already while planning, where `cluster.auto` is to be read from a cluster that runs."""
    if not cluster.auto or find_address(cluster) is None:
        yield
        return
    with connect_ray(cluster, cpus_needed=1):
        yield


def read_cluster(cluster: ClusterConfig) -> ClusterConfig:
    """Return `cluster` with its nodes and GPUs as the connected Ray cluster reports them, where `auto` asks for it."""
    if not cluster.auto or find_address(cluster) is None:
        return cluster
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return resolve_cluster(cluster, [node["Resources"] for node in nodes if node["Alive"]])


@contextlib.contextmanager
def connect_ray(
    cluster: ClusterConfig,
    *,
    cpus_needed: float,
    check: Callable[[], None] = lambda: None,
    lease: Lease | None = None,
) -> Iterator[None]:
    """Connect to Ray for the length of a run, and leave nothing behind.

    Args:
        cluster: where; an embedded Ray gets `cluster.num_cpus` logical CPUs.
        cpus_needed: logical CPUs without which no replica could be placed; an embedded Ray gets at least so many.
        check: asked while Ray starts; what it raises ends the waiting.
        lease: kept alive while Ray starts.

    Raises:
        ConfigError: the address does not answer. RunFailedError: Ray did not start.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():  # the caller's own (tests, notebooks): it stays
        yield
        return
    address = find_address(cluster)
    thread = RayThread(address, cluster.num_cpus or max(os.cpu_count() or 1, int(-(-cpus_needed // 1))))
    try:
        with watch_start(address, cluster.ray_start_timeout_s, lease):
            thread.start(cluster.ray_start_timeout_s, check)
    except TimeoutError as error:
        where = f"to answer at {address}" if address else "to start on this machine"
        raise RunFailedError(
            f"Ray was waited for {where} for cluster.ray_start_timeout_s={cluster.ray_start_timeout_s:g} s, in vain; "
            "look for another Ray or a full /tmp here (ray status, df /tmp), or raise the limit"
        ) from error
    except SynthgenError:
        raise
    except (ConnectionError, ValueError) as error:
        raise ConfigError(
            f"cluster.address={address}: Ray does not answer there ({first_line(error)}); "
            "unset RAY_ADDRESS to run on this machine, or start Ray with: ray start --head"
        ) from error
    except Exception as error:  # Ray raises plain Exception, too
        raise RunFailedError(f"Ray did not start: {first_line(error)}") from error
    _log_what_ray_prints()
    try:
        yield
    finally:
        thread.stop()


def _log_what_ray_prints() -> None:
    """Send Ray's own messages to the log: of a lost node it prints the last lines of a raylet's state dump.

    `log_to_driver=False` does not cover them (ray/_private/worker.py, listen_error_messages, as of Ray 2.60).
    """
    from ray._private import worker

    def log(data: Mapping[str, Any], *_: Any, **__: Any) -> None:
        for line in data.get("lines", ()):
            logger.info("Ray says: %s", line)

    worker.print_to_stdstream = log
