"""Ray starts where it is slow and where there is no home; what it says of a lost node goes to the log."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest
import ray

from synthgen.config import ClusterConfig
from synthgen.errors import RunFailedError
from synthgen.runtime.cluster import connect_ray
from synthgen.runtime.ray_start import _give_token

DEADLINE_S = 60.0
SAID = "The node is dead. Last lines: [state-dump] NodeManager"


def test_a_slow_start_is_tried_again_and_messages_of_ray_go_to_the_log(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray._private.utils import publish_error_to_driver
    from ray._private.worker import global_worker

    caplog.set_level(logging.INFO)
    if ray.is_initialized():
        ray.shutdown()
    init, tries = ray.init, []

    def init_slowly(**settings: Any) -> Any:
        tries.append(settings)
        if len(tries) == 1:
            raise Exception("The current node timed out during startup. This could happen because …")
        return init(**settings)

    monkeypatch.setattr(ray, "init", init_slowly)
    too_slow = ClusterConfig(num_cpus=1, ray_start_timeout_s=5)
    with (
        pytest.raises(RunFailedError, match="did not start: The current node timed out"),
        connect_ray(too_slow, cpus_needed=1),
    ):
        pass
    assert len(tries) == 1, "no time was left"
    tries.clear()
    with connect_ray(ClusterConfig(num_cpus=1), cpus_needed=1):
        until = time.monotonic() + DEADLINE_S
        while "state-dump" not in caplog.text and time.monotonic() < until:  # the listener subscribes a little later
            publish_error_to_driver(
                "node_died",
                "The node is dead. Last lines: [state-dump] NodeManager",
                gcs_client=global_worker.gcs_client,
            )
            time.sleep(0.1)
    assert len(tries) >= 2, "once by this test, and as often as the machine is too busy"
    assert "it is started again" in caplog.text
    assert f"Ray says: {SAID}" in caplog.text
    printed = capfd.readouterr()
    assert "state-dump" not in printed.out + printed.err


def test_ray_gets_a_token_where_there_is_no_home_to_keep_one_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Ray: its client keeps the first token that it reads for as long as the process lives."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    _give_token()
    assert not os.environ["RAY_AUTH_TOKEN"], "Ray makes its own"
    monkeypatch.setenv("HOME", "/proc")  # where not even root makes a directory
    _give_token()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    monkeypatch.setenv("RAY_AUTH_TOKEN", "mine")
    _give_token()
    assert os.environ["RAY_AUTH_TOKEN"] == "mine"
