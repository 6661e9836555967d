"""Clusters of several nodes with fictitious GPUs, on one machine: placement, rolling swap, and the death of a node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from synthgen.config import ClusterConfig, EchoConfig
from synthgen.config.compose import compose_config
from synthgen.observe.snapshot import Snapshot
from synthgen.runtime.executor import Executor
from synthgen.runtime.run import run
from tests.small_runs import SmallRun


@pytest.fixture(autouse=True)
def _swap_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synthgen.runtime.pool_sizes.STARVED_AFTER_S", 1.0)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    if ray.is_initialized():
        ray.shutdown()
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    ray.init(address=nodes.address, log_to_driver=False, configure_logging=False)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def test_death_of_a_node_gives_its_tasks_to_another(cluster: Cluster, tmp_path: Path) -> None:
    workers = [cluster.add_node(num_cpus=2, num_gpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    run = SmallRun(
        tmp_path,
        prompts=32,
        echo=EchoConfig(output_tokens=20, tokens_per_s=40),
        max_num_seqs=4,
        num_gpus=1,
        cluster=ClusterConfig(max_load_attempts=5),
    ).prepare()
    removed: list[Any] = []

    def remove_busy_node(snapshot: Snapshot, executor: Executor) -> None:
        busy = [h for pool in executor._pools for h in pool.handles if h.info is not None and h.open]
        if not removed and len(busy) == 2:
            node = next(worker for worker in workers if busy[0].place and worker.node_id == busy[0].place.node_id)
            removed.append(node)
            cluster.remove_node(node, allow_graceful=False)

    executor = run.execute(remove_busy_node)
    assert removed
    run.check_complete()
    assert sum(pool.deaths for pool in executor._pools) == 0, "a lost node is nobody's fault"


POOLS = [
    "experiment=echo",
    "run.unit_size=4",
    "prompts.limit=48",
    "judge.canary_fraction=0",
    "cluster=8xh100-80",
    "generators.main.model.name=writer",
    "generators.main.model.tensor_parallel_size=2",
    "generators.main.model.max_num_seqs=4",
    "generators.main.model.echo.tokens_per_s=60",
    "judge.model.max_num_seqs=4",
    "judge.model.echo.tokens_per_s=200",
]


def run_pools(tmp_path: Path, *overrides: str, rows: int = 48) -> tuple[dict[str, Any], list[str]]:
    """Run the preference pipeline; return the report and what the driver logged."""
    run_dir = tmp_path / "run"
    report = run(compose_config([*POOLS, f"run.dir={run_dir}", *overrides]), quiet=True)
    assert report["stages"]["judge"]["rows"] == rows
    lines = (run_dir / "logs" / "driver.log").read_text().splitlines()
    return report, [line.split(": ", 1)[-1] if "synthgen" not in line else line for line in lines]


def position(lines: list[str], text: str, *, last: bool = False) -> int:
    """Return the number of the first (or last) line that holds `text`."""
    found = [index for index, line in enumerate(lines) if text in line]
    assert found, f"{text!r} is not in the log"
    return found[-1] if last else found[0]


def test_pools_that_fit_run_together_and_judging_overlaps_generation(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add_node(num_cpus=4, num_gpus=8)
    cluster.wait_for_nodes()
    report, lines = run_pools(
        tmp_path,
        "cluster.gpus_per_node=8",
        "judge.model.tensor_parallel_size=4",
        "generators.main.model.replicas=2",
        "generators.main.model.echo.tokens_per_s=25",  # a judge's first unit takes seconds of imports
    )
    assert report["plan"]["mode"] == "together"
    assert position(lines, "judge unit") < position(lines, "generate-main unit", last=True)


def test_pools_that_do_not_fit_take_turns(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add_node(num_cpus=4, num_gpus=4)
    cluster.wait_for_nodes()
    report, lines = run_pools(tmp_path, "cluster.gpus_per_node=4", "judge.model.tensor_parallel_size=4")
    assert report["plan"]["mode"] == "in_turn"
    assert len([r for r in report["replicas"] if r["name"].startswith("writer")]) == 2
    given_back = position(lines, "writer-1: no work left for it")
    assert given_back < position(lines, "echo-0: ready on")
    assert position(lines, "generate-main unit", last=True) < position(lines, "judge unit")


def test_pools_swap_replica_by_replica(cluster: Cluster, tmp_path: Path) -> None:
    """The first idle replica's GPUs go to the judge while the other replica still generates."""
    cluster.add_node(num_cpus=4, num_gpus=4)
    cluster.wait_for_nodes()
    report, lines = run_pools(
        tmp_path,
        "run.unit_size=2",
        "prompts.limit=6",  # three units for two replicas: one of them is idle while the other works on its second
        "cluster.gpus_per_node=4",
        "judge.model.tensor_parallel_size=2",
        "judge.model.replicas=2",
        "generators.main.model.replicas=2",
        "generators.main.model.max_num_seqs=1",
        "generators.main.model.echo.tokens_per_s=16",
        rows=6,
    )
    assert report["plan"]["mode"] == "in_turn"
    first_freed = position(lines, "no work left for it")
    # Two judges wait for room; Ray places whichever it likes first.
    judge_ready = next(index for index, line in enumerate(lines) if "echo-" in line and ": ready on" in line)
    assert first_freed < judge_ready < position(lines, "generate-main unit", last=True)


def test_pools_of_one_model_are_one_pool_and_judge_first(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add_node(num_cpus=4, num_gpus=2)
    cluster.wait_for_nodes()
    shared = [
        override.replace("generators.main.model.", "judge.model.") for override in POOLS if "main.model" in override
    ]
    report, lines = run_pools(
        tmp_path, "cluster.gpus_per_node=2", *shared, "judge.model.echo.tokens_per_s=60", "judge.model.name=writer"
    )
    assert report["plan"]["mode"] == "shared"
    assert {replica["name"] for replica in report["replicas"]} == {"writer-0"}
    assert position(lines, "judge unit") < position(lines, "generate-main unit", last=True)


def test_replicas_land_where_the_plan_says(cluster: Cluster, tmp_path: Path) -> None:
    """A rehearsal with echo engines: TP 4 × PP 2 spans two nodes of four fictitious GPUs by a placement group."""
    for _ in range(2):
        cluster.add_node(num_cpus=8, num_gpus=4)
    cluster.wait_for_nodes()
    report, lines = run_pools(
        tmp_path,
        "cluster.nodes=2",
        "cluster.gpus_per_node=4",
        "generators.main.model.tensor_parallel_size=4",
        "generators.main.model.pipeline_parallel_size=2",
        "judge.model.tensor_parallel_size=4",
    )
    writer = next(pool for pool in report["plan"]["pools"] if pool["name"] == "writer")
    assert writer["engine"]["num_gpus"] == 8
    assert writer["engine"]["nodes"] == 2
    assert position(lines, "writer-0: asked Ray for a replica (8 GPUs") < position(lines, "writer-0: ready on")
    groups = ray.util.placement_group_table()
    assert all(group["state"] == "REMOVED" for group in groups.values()), "a placement group was left behind"
    assert groups
