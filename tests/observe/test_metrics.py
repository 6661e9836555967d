"""Metrics as Prometheus gets them from Ray, and the dashboard that shows them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import ray

from synthgen.observe.metrics import COUNTERS, GAUGES, RunMetrics
from synthgen.observe.snapshot import Snapshot, StageTotals
from synthgen.records import UnitCounts
from tests.local_ray import free_port

DASHBOARD = Path(__file__).parents[2] / "jobs" / "grafana.json"
LIMIT_S = 60.0


@pytest.fixture(scope="module")
def scrape() -> Iterator[Callable[[], dict[str, float]]]:
    """Return a function that reads synthgen's series from a fresh Ray's metrics port."""
    port = free_port()
    ray.init(
        address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False,
        _metrics_export_port=port, _system_config={"metrics_report_interval_ms": 100},
    )  # fmt: skip

    def read() -> dict[str, float]:
        try:
            with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        except URLError:
            return {}
        found = {}
        for name, labels, value in re.findall(r"^ray_(synthgen_\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
            own = dict(re.findall(r'(run|stage|replica|reason)="([^"]*)"', labels))
            found[" ".join([name, *(own[key] for key in sorted(own))])] = float(value)
        return found

    yield read
    ray.shutdown()


def wait_for(scrape: Callable[[], dict[str, float]], expected: dict[str, float]) -> dict[str, float]:
    """Read until the series have the expected values."""
    deadline = time.monotonic() + LIMIT_S
    found: dict[str, float] = {}
    while expected.items() - found.items():
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
        found = scrape()
    return found


def snapshot(done: int, rows: int, failures: dict[str, int], replicas: list[dict[str, object]]) -> Snapshot:
    counts = UnitCounts(rows=rows, input_tokens=10 * rows, output_tokens=100 * rows, failures=failures)
    stages = {"judge": StageTotals(units=9, done=done, counts=counts)}
    return Snapshot(stages, replicas, elapsed_s=1.0, gpu_hours=0.25)


def test_metrics_reach_prometheus(scrape: Callable[[], dict[str, float]]) -> None:
    metrics = RunMetrics("runs/a")
    replica = {"name": "judge-0", "state": "loading", "open_units": 0, "completions": 0, "output_tokens": 0}
    metrics.observe(snapshot(0, 0, {}, [dict(replica)]))
    metrics.observe(
        snapshot(1, 40, {"invalid": 2}, [replica | {"state": "ready", "open_units": 3, "output_tokens": 700}])
    )
    metrics.observe(snapshot(2, 90, {"invalid": 2, "truncated": 1}, []))
    found = wait_for(
        scrape,
        {
            "synthgen_units runs/a judge": 9,
            "synthgen_units_done runs/a judge": 2,
            "synthgen_gpu_hours runs/a": 0.25,
            "synthgen_rows_total runs/a judge": 90,
            "synthgen_input_tokens_total runs/a judge": 900,
            "synthgen_output_tokens_total runs/a judge": 9000,
            "synthgen_failed_rows_total invalid runs/a judge": 2,
            "synthgen_failed_rows_total truncated runs/a judge": 1,
            "synthgen_replica_output_tokens_total judge-0 runs/a": 700,
            "synthgen_replica_ready judge-0 runs/a": 0,
            "synthgen_replica_open_units judge-0 runs/a": 0,
        },
    )
    assert "synthgen_replica_completions_total judge-0 runs/a" not in found  # a counter begins with its first increment


def test_dashboard_asks_for_series_that_exist() -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    series = {f"ray_{name}" for name in GAUGES} | {f"ray_{name}_total" for name in COUNTERS}
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    queries += [variable["query"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"]
    used = {name for query in queries for name in re.findall(r"\bray_synthgen_\w+", str(query))}
    assert used == series


def test_dashboard_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
