"""What Ray has to say of a lost node goes to the log, not to the terminal."""

from __future__ import annotations

import logging
import time

import pytest
import ray

from synthgen.config import ClusterConfig
from synthgen.runtime.cluster import connect_ray

DEADLINE_S = 60.0
SAID = "The node is dead. Last lines: [state-dump] NodeManager"


def test_messages_of_ray_go_to_the_log(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    from ray._private.utils import publish_error_to_driver
    from ray._private.worker import global_worker

    caplog.set_level(logging.INFO)
    if ray.is_initialized():
        ray.shutdown()
    with connect_ray(ClusterConfig(num_cpus=1), cpus_needed=1):
        until = time.monotonic() + DEADLINE_S
        while "state-dump" not in caplog.text and time.monotonic() < until:  # the listener subscribes a little later
            publish_error_to_driver(
                "node_died",
                "The node is dead. Last lines: [state-dump] NodeManager",
                gcs_client=global_worker.gcs_client,
            )
            time.sleep(0.1)
    assert f"Ray says: {SAID}" in caplog.text
    printed = capfd.readouterr()
    assert "state-dump" not in printed.out + printed.err
