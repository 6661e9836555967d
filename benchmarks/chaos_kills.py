"""Kinds of death for the chaos run: each finds a victim among a run's processes and files, and kills it.

A kind is `kill(scene) -> bool`: whether there was a victim. `KILLS` says how likely each is: what a run survives
without a new start comes more often, so that one start meets several deaths.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil


@dataclass(frozen=True)
class Scene:
    """A running start of a run.

    Attributes:
        driver: its process id.
        directory: the run's directory.
        rng: what is drawn from.
        cluster: the Ray cluster that it runs on (`ray.cluster_utils.Cluster`), None where Ray is embedded.
    """

    driver: int
    directory: Path
    rng: random.Random
    cluster: Any = None

    def find(self, *titles: str) -> list[psutil.Process]:
        """Return the live processes of the run (of its cluster, too) with one of `titles` in their name or command."""
        roots = [self.driver] if self.cluster is None else [self.driver, os.getpid()]
        found: list[psutil.Process] = []
        for root in roots:
            with contextlib.suppress(psutil.Error):
                for child in psutil.Process(root).children(recursive=True):
                    with contextlib.suppress(psutil.Error):
                        text = " ".join(child.cmdline()) + child.name()
                        if not titles or any(title in text for title in titles):
                            found.append(child)
        return found


def draw_kind(rng: random.Random) -> str:
    """Return a kind of death, drawn by weight."""
    (kind,) = rng.choices(list(KILLS), [weight for _, weight in KILLS.values()])
    return kind


def tear_a_unit(scene: Scene) -> bool:
    """Cut the file of a prompt or stage unit, or of a part of one, short, as a disk that lost power would."""
    units = sorted([*scene.directory.glob("stages/**/unit-*.parquet"), *scene.directory.glob("prompts/unit-*.parquet")])
    if not units:
        return False
    path = scene.rng.choice(units)
    os.truncate(path, scene.rng.randrange(path.stat().st_size or 1))
    return True


def _signal(number: int, *titles: str) -> Callable[[Scene], bool]:
    def send(scene: Scene) -> bool:
        victims = scene.find(*titles)
        if not victims:
            return False
        with contextlib.suppress(psutil.Error):
            scene.rng.choice(victims).send_signal(number)
            return True
        return False

    return send


def _signal_driver(number: int) -> Callable[[Scene], bool]:
    def send(scene: Scene) -> bool:
        with contextlib.suppress(ProcessLookupError):
            os.kill(scene.driver, number)
            return True
        return False

    return send


def _kill_raylet(scene: Scene) -> bool:
    return scene.cluster is None and _signal(signal.SIGKILL, "raylet/raylet")(scene)


def _kill_node(scene: Scene) -> bool:
    """Take a worker node away without a word, and bring another in its place."""
    if scene.cluster is None:
        return False
    node = scene.rng.choice(sorted(scene.cluster.worker_nodes, key=lambda node: node.node_id))
    scene.cluster.remove_node(node, allow_graceful=False)
    scene.cluster.add_node(num_cpus=2)
    return True


KILLS: dict[str, tuple[Callable[[Scene], bool], float]] = {
    "replica": (_signal(signal.SIGKILL, "ray::Replica"), 6),
    "replica_hangs": (_signal(signal.SIGSTOP, "ray::Replica"), 1),
    "engine_core": (_signal(signal.SIGKILL, "VLLM::EngineCore"), 4),
    "tensor_parallel_worker": (_signal(signal.SIGKILL, "VLLM::Worker"), 3),
    "driver_sigkill": (_signal_driver(signal.SIGKILL), 2),
    "driver_sigterm": (_signal_driver(signal.SIGTERM), 1),
    "raylet": (_kill_raylet, 1),
    "node": (_kill_node, 3),
    "torn_unit_file": (tear_a_unit, 1),
}
"""What is killed, and how likely each kind is beside the others."""
