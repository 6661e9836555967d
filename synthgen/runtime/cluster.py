"""Ray: embedded in this process by default, a cluster through RAY_ADDRESS, `cluster.address` or `ray job submit`."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from synthgen.config import ClusterConfig
from synthgen.errors import ConfigError, RunFailedError, SynthgenError, first_line
from synthgen.ledger.lease import Lease
from synthgen.planning import resolve_cluster
from synthgen.runtime.pools import QUIET
from synthgen.runtime.ray_start import RayThread, watch_start

logger = logging.getLogger(__name__)

TOO_SLOW = "timed out during startup"
"""What `ray.init` says of a node that is not there in 30 s, which nothing sets (ray/_private/node.py, Ray 2.60)."""
RAY_NEEDS_S = 10.0
"""With less than that left of `cluster.ray_start_timeout_s` Ray is not started again."""


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
    num_cpus = cluster.num_cpus or max(os.cpu_count() or 1, int(-(-cpus_needed // 1)))
    try:
        thread = _start_ray(address, num_cpus, cluster.ray_start_timeout_s, check, lease)
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
        raise RunFailedError(
            f"Ray did not start: {first_line(error)}; start the same command again, a busy machine when it is less so"
        ) from error
    _log_what_ray_prints()
    try:
        yield
    finally:
        thread.stop()


def _start_ray(
    address: str | None, num_cpus: int, timeout_s: float, check: Callable[[], None], lease: Lease | None
) -> RayThread:
    """Return Ray's thread when Ray is up; too slow for its own 30 s, it is started again while time is left."""
    deadline = time.monotonic() + timeout_s
    with watch_start(address, timeout_s, lease):
        while True:
            thread = RayThread(address, num_cpus)
            try:
                thread.start(deadline - time.monotonic(), check)
                return thread
            except Exception as error:
                if address is not None or TOO_SLOW not in str(error) or time.monotonic() > deadline - RAY_NEEDS_S:
                    raise
                logger.warning("this machine is too busy for the 30 s that Ray gives its start; it is started again")


def _log_what_ray_prints() -> None:
    """Send Ray's own messages to the log: of a lost node it prints the last lines of a raylet's state dump.

    `log_to_driver=False` does not cover them (ray/_private/worker.py, listen_error_messages, as of Ray 2.60).
    """
    from ray._private import worker

    def log(data: Mapping[str, Any], *_: Any, **__: Any) -> None:
        for line in data.get("lines", ()):
            logger.info("Ray says: %s", line)

    worker.print_to_stdstream = log
