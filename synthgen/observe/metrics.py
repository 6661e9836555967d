"""A run's numbers for Prometheus, through Ray: in are the driver's snapshots, out are `ray_synthgen_…` series.

Ray exports them on every node at the port that `ray start --metrics-export-port` names; jobs/grafana.json shows them.
Rows and input tokens of a stage move when a unit is committed, output tokens as they are made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synthgen.observe.snapshot import Snapshot

# Name → (help, labels). Ray puts `ray_` before the names, and `_total` behind those of counters.
GAUGES = {
    "synthgen_units": ("Units of a stage.", ("run", "stage")),
    "synthgen_units_done": ("Committed units of a stage.", ("run", "stage")),
    "synthgen_gpu_hours": ("GPU hours that the run's session has held.", ("run",)),
    "synthgen_replica_ready": ("Whether a replica has loaded its model: 1 or 0.", ("run", "replica")),
    "synthgen_replica_open_units": ("Units that a replica works on.", ("run", "replica")),
    "synthgen_replica_running": ("Sequences that a replica's engine works on.", ("run", "replica")),
    "synthgen_replica_waiting": ("Sequences that wait for their first token.", ("run", "replica")),
    "synthgen_replica_kv_cache_share": ("Share of the KV cache that is held, 0 to 1.", ("run", "replica")),
}
COUNTERS = {
    "synthgen_rows": ("Rows committed by a stage.", ("run", "stage")),
    "synthgen_failed_rows": ("Rows that failed, by reason.", ("run", "stage", "reason")),
    "synthgen_input_tokens": ("Prompt tokens of a stage.", ("run", "stage")),
    "synthgen_output_tokens": ("Completion tokens of a stage.", ("run", "stage")),
    "synthgen_replica_completions": ("Completions of a replica.", ("run", "replica")),
    "synthgen_replica_output_tokens": ("Completion tokens of a replica.", ("run", "replica")),
}


class RunMetrics:
    """Exports the snapshots of one run; Ray must be connected.

    Args:
        run: the value of the label `run`, the run directory's URL.
    """

    def __init__(self, run: str) -> None:
        from ray.util.metrics import Counter, Gauge

        self._run = run
        self._gauges = {name: Gauge(name, text, labels) for name, (text, labels) in GAUGES.items()}
        self._counters = {name: Counter(name, text, labels) for name, (text, labels) in COUNTERS.items()}
        self._counted: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self._replicas: set[str] = set()

    def observe(self, snapshot: Snapshot) -> None:
        """Export a snapshot."""
        self._set("synthgen_gpu_hours", snapshot.gpu_hours)
        for name, totals in snapshot.stages.items():
            self._set("synthgen_units", totals.units, stage=name)
            self._set("synthgen_units_done", totals.done, stage=name)
            self._count("synthgen_rows", totals.counts.rows, stage=name)
            self._count("synthgen_input_tokens", totals.counts.input_tokens, stage=name)
            self._count("synthgen_output_tokens", snapshot.output_tokens(name), stage=name)
            for reason, rows in totals.counts.failures.items():
                self._count("synthgen_failed_rows", rows, stage=name, reason=reason)
        replicas: dict[str, Mapping[str, Any]] = {replica["name"]: replica for replica in snapshot.replicas}
        for name, replica in replicas.items():
            self._set("synthgen_replica_ready", float(replica["state"] == "ready"), replica=name)
            self._set("synthgen_replica_open_units", replica["open_units"], replica=name)
            for key in ("running", "waiting", "kv_cache_share"):
                self._set(f"synthgen_replica_{key}", replica.get(key) or 0.0, replica=name)
            self._count("synthgen_replica_completions", replica["completions"], replica=name)
            self._count("synthgen_replica_output_tokens", replica["output_tokens"], replica=name)
        for name in self._replicas - replicas.keys():  # ended since: a gauge would keep its last value for ever
            for key in ("ready", "open_units", "running", "waiting", "kv_cache_share"):
                self._set(f"synthgen_replica_{key}", 0.0, replica=name)
        self._replicas = set(replicas)

    def _set(self, name: str, value: float, **labels: str) -> None:
        self._gauges[name].set(value, {"run": self._run, **labels})

    def _count(self, name: str, total: float, **labels: str) -> None:
        """Raise a counter to `total`: Ray's counters take increments."""
        key = (name, tuple(labels.items()))
        gained = total - self._counted.get(key, 0.0)
        if gained > 0:
            self._counters[name].inc(gained, {"run": self._run, **labels})
            self._counted[key] = total
