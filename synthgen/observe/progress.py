"""What a user sees of a run in progress: a live panel on a terminal, one line per interval elsewhere, `status.json`.

One file because its three forms show the same state.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from synthgen.errors import StorageError
from synthgen.ledger.run_dir import RunDir, describe_os_error
from synthgen.observe.snapshot import InFlight, Snapshot, StageTotals

logger = logging.getLogger(__name__)

STATUS_EVERY_S = 3.0
LOCAL_STATUS_EVERY_S = 1.0
"""`status.json` on a disk is cheap; in an object store each is a request that costs."""
PATIENCE_S = 5.0
"""For a store that stumbles while the run goes on, s: the next look says the same and more."""
RATE_WINDOW_S = 60.0
LIVE_WINDOW_S = 15.0
PANEL_WIDTH = 120
MIN_POINT_S = 3.0
"""Replicas are asked every second or so: over less, the rate would say when that was."""
MOST_POINTS = 400
MOST_LOADING = 4
"""Replicas whose loading is told one by one; the rest are counted."""


class ProgressView:
    """Shows snapshots of a run.

    Args:
        run_dir: `status.json` is written here, whole, every few seconds.
        interval_s: time between lines where the output is not a terminal, s.
        quiet: show nothing (`status.json` is written all the same).
        told: called with what `status.json` holds, each time; what it raises ends the run, and it is not called again.
    """

    def __init__(
        self,
        run_dir: RunDir,
        interval_s: float,
        *,
        quiet: bool = False,
        told: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        self._told = told
        self._run_dir = run_dir
        self._interval_s = interval_s
        self._quiet = quiet
        self._live: Any = None
        self._shown_at = time.monotonic()
        self._written_at = 0.0
        self._status_every_s = STATUS_EVERY_S if run_dir.storage.root is None else LOCAL_STATUS_EVERY_S
        self._history: deque[tuple[float, dict[str, tuple[int, int, int]]]] = deque()
        self._live_tokens: deque[tuple[float, int]] = deque()
        self._series: list[dict[str, Any]] = []
        self._counted: tuple[float, dict[str, int]] = (0.0, {})
        self._last: Snapshot | None = None

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Keep the panel on the terminal for the length of the block."""
        self._shown_at = time.monotonic()
        if self._quiet or not sys.stdout.isatty():
            yield
            return
        from rich.console import Console
        from rich.live import Live

        with Live(console=Console(), refresh_per_second=4, transient=True) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    @property
    def series(self) -> list[dict[str, Any]]:
        """Throughput over time: at most a few hundred points of elapsed_s, tokens/s per stage since the point before,
        and the replicas that were loading."""
        return self._series

    def observe(self, snapshot: Snapshot) -> None:
        """Take in a snapshot, and show it if it is time to."""
        now = time.monotonic()
        self._last = snapshot
        self._history.append((now, {name: _numbers(snapshot, name) for name in snapshot.stages}))
        while len(self._history) > 2 and now - self._history[0][0] > RATE_WINDOW_S:
            self._history.popleft()
        self._live_tokens.append((now, sum(replica["output_tokens"] for replica in snapshot.replicas)))
        while len(self._live_tokens) > 2 and now - self._live_tokens[0][0] > LIVE_WINDOW_S:
            self._live_tokens.popleft()
        if self._live is not None:
            self._live.update(self._panel(snapshot))
        elif not self._quiet and now - self._shown_at >= self._interval_s:
            self._shown_at = now
            print(self._line(snapshot), flush=True)
        if now - self._written_at >= self._status_every_s:
            self._written_at = now
            self._extend_series(snapshot)
            self.write_status("running")

    def write_status(self, state: str, message: str = "") -> None:
        """Write `status.json`: state is ingesting, running, exporting, complete, stopped or failed."""
        snapshot = self._last
        if snapshot is not None and state == "exporting":  # the last units came after the last point
            self._extend_series(snapshot, least_s=0.2)
        status: dict[str, Any] = {
            "state": state,
            "message": message,
            "updated_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        if snapshot is not None:
            status |= {
                "elapsed_s": round(snapshot.elapsed_s, 1),
                "gpu_hours": round(snapshot.gpu_hours, 4),
                "api_usd": round(snapshot.api_usd, 4),
                "tokens_per_s": round(self._live_rate(), 1),
                "stages": {name: self._stage_status(name, totals) for name, totals in snapshot.stages.items()},
                "replicas": snapshot.replicas,
                "eta_s": self._eta_s(snapshot),
            }
        try:
            patience_s = PATIENCE_S if state == "running" else None  # the executor waits meanwhile
            self._run_dir.write_json("status.json", status, patience_s=patience_s)
        except (OSError, StorageError) as error:  # a full disk, a store that is away: no reason to end a run
            logger.warning("status.json was not written: %s", describe_os_error(error))
        self._tell(status)

    def _tell(self, status: Mapping[str, Any]) -> None:
        told, self._told = self._told, None  # while it raises: how the run ended is written after that, and not told
        if told is not None:
            told(status)
        self._told = told

    def _stage_status(self, name: str, totals: StageTotals) -> dict[str, Any]:
        return {
            "directory": totals.directory,
            "units": totals.units,
            "done": totals.done,
            "reused": totals.reused,
            "rows": totals.counts.rows,
            "failed_rows": totals.counts.failed_rows,
            "failures": totals.counts.failures,
            "input_tokens": totals.counts.input_tokens,
            "output_tokens": self._output_tokens(name),
            "tokens_per_s": round(self._rate(name, 2, LIVE_WINDOW_S), 1),
            "units_per_s": round(self._rate(name, 0), 4),
        }

    def _output_tokens(self, name: str) -> int:
        """Return a stage's output tokens, in flight and committed. What a dead replica had in flight is lost."""
        return self._last.output_tokens(name) if self._last is not None else 0

    def _rate(self, name: str, field: int, window_s: float = RATE_WINDOW_S) -> float:
        """Return units (0), rows (1) or output tokens (2) per second over the last `window_s`."""
        if len(self._history) < 2:
            return 0.0
        t1, last = self._history[-1]
        begun = (point for point in self._history if t1 - point[0] <= window_s and name in point[1])
        t0, first = next(begun, self._history[-1])
        return max(0.0, (last[name][field] - first[name][field]) / (t1 - t0)) if t1 > t0 else 0.0

    def _eta_s(self, snapshot: Snapshot) -> float | None:
        """Return the expected time to the last commit, None before the tokens of a unit and their rate are known."""
        waits = []
        for name, totals in snapshot.stages.items():
            left = totals.units - totals.done
            if not left:
                continue
            per_unit = _tokens_per_unit(snapshot, name)
            rate = self._rate(name, 2)
            if per_unit and rate > 0:
                waits.append(max(0.0, left * per_unit - snapshot.in_flight.get(name, InFlight()).tokens) / rate)
                continue
            units_rate = self._rate(name, 0) or (totals.done - totals.reused) / max(snapshot.elapsed_s, 1e-9)
            if units_rate <= 0:
                return None
            waits.append(left / units_rate)
        return round(max(waits, default=0.0), 1)

    def _line(self, snapshot: Snapshot) -> str:
        parts = []
        for name, totals in snapshot.stages.items():
            tokens, failed = self._output_tokens(name), totals.counts.failed_rows
            text = f"{name} {totals.done}/{totals.units} units, {totals.counts.rows} rows"
            if tokens:
                text += f", {tokens:,} tokens"
                text += f", {rate:,.0f} tok/s" if (rate := self._rate(name, 2, LIVE_WINDOW_S)) else ""
            parts.append(text + (f", {failed} failed" if failed else ""))
        parts += [", ".join(_replica_states(snapshot)), *_loading(snapshot), *_in_engines(snapshot)]
        return f"[{format_duration(snapshot.elapsed_s)}] {' | '.join(parts)} | ETA {self._eta_text(snapshot)}"

    def _eta_text(self, snapshot: Snapshot) -> str:
        eta = self._eta_s(snapshot)
        return "-" if eta is None else format_duration(eta)

    def _panel(self, snapshot: Snapshot) -> Any:
        from rich.console import Group
        from rich.panel import Panel
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, expand=True, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
        table.add_column("stage", overflow="fold", max_width=28)
        table.add_column("", ratio=1, min_width=8)
        for title in ("units", "rows", "tokens", "tokens/s", "failed"):
            table.add_column(title, justify="right", no_wrap=True)
        for name, totals in snapshot.stages.items():
            failed = totals.counts.failed_rows
            table.add_row(
                Text(name),
                ProgressBar(total=max(1, totals.units), completed=totals.done),
                f"{totals.done:,}/{totals.units:,}",
                f"{totals.counts.rows:,}",
                f"{self._output_tokens(name):,}",
                f"{rate:,.0f}" if (rate := self._rate(name, 2, LIVE_WINDOW_S)) else "–",  # 0 is no speed: it loads
                Text(f"{failed:,}", style="red" if failed else ""),
            )
        footer = [f"{format_duration(snapshot.elapsed_s)} elapsed", f"ETA {self._eta_text(snapshot)}"]
        footer += _replica_states(snapshot)
        told = [Text(line, style="dim", overflow="ellipsis", no_wrap=True) for line in _told(snapshot)]
        return Panel(
            Group(table, *told),
            title=Text(f"synthgen · {_shorten(self._run_dir.url)}"),
            subtitle=Text(" · ".join(footer)),
            width=min(PANEL_WIDTH, self._console_width()),
        )

    def _console_width(self) -> int:
        width: int = self._live.console.width
        return width

    def _live_rate(self) -> float:
        """Return the replicas' output tokens per second, units that are not committed yet included."""
        points = self._live_tokens
        begun = next((index for index, (_, tokens) in enumerate(points) if tokens), 0)
        (t0, n0), (t1, n1) = points[max(0, begun - 1)], points[-1]
        return max(0.0, (n1 - n0) / (t1 - t0)) if t1 > t0 else 0.0

    def _extend_series(self, snapshot: Snapshot, least_s: float = MIN_POINT_S) -> None:
        """Add a point: the rate since the point before. Of too many, neighbours are put together."""
        tokens = {name: snapshot.output_tokens(name) for name in snapshot.stages}
        before_s, before = self._counted
        took = snapshot.elapsed_s - before_s
        if took < least_s:
            return
        rates = {name: round(max(0, made - before.get(name, 0)) / took, 1) for name, made in tokens.items()}
        self._counted = (snapshot.elapsed_s, tokens)
        loading = sorted(replica["name"] for replica in snapshot.replicas if replica["state"] != "ready")
        self._series.append(
            {
                "elapsed_s": round(snapshot.elapsed_s, 1),
                "tokens_per_s": rates,
                **({"loading": loading} if loading else {}),
            }
        )
        if len(self._series) > MOST_POINTS:
            self._series = list(_thin(self._series))


def format_duration(seconds: float) -> str:
    """Return a duration as `1h02m`, `3m04s` or `5s`."""
    total = int(seconds)
    if total >= 3600:
        return f"{total // 3600}h{total % 3600 // 60:02d}m"
    return f"{total // 60}m{total % 60:02d}s" if total >= 60 else f"{total}s"


def _replica_states(snapshot: Snapshot) -> list[str]:
    """Return such as `["2/4 replicas ready", "1 loading", "1 waiting for resources"]`."""
    states = Counter(replica["state"] for replica in snapshot.replicas)
    ready = states.pop("ready", 0)
    notices = dict.fromkeys(replica["notice"] for replica in snapshot.replicas if replica.get("notice"))
    return [
        f"{ready}/{len(snapshot.replicas)} replicas ready",
        *(f"{n} {state}" for state, n in sorted(states.items())),
        *([f"${snapshot.api_usd:,.2f} for tokens"] if snapshot.api_usd else []),
        *notices,
    ]


def _shorten(url: str, width: int = 56) -> str:
    return url if len(url) <= width else f"…{url[1 - width :]}"


def _numbers(snapshot: Snapshot, name: str) -> tuple[int, int, int]:
    totals = snapshot.stages[name]
    return totals.done, totals.counts.rows, snapshot.output_tokens(name)


def _tokens_per_unit(snapshot: Snapshot, name: str) -> float:
    """Return the output tokens that a unit takes: of those committed, else by the requests that ended; 0: unknown."""
    totals, flying = snapshot.stages[name], snapshot.in_flight.get(name, InFlight())
    committed = totals.done - totals.reused
    if committed and totals.counts.output_tokens:
        return totals.counts.output_tokens / committed
    if flying.ended and flying.units:
        return flying.tokens / flying.ended * flying.requests / flying.units
    return 0.0


def _loading(snapshot: Snapshot) -> list[str]:
    """Return what the replicas that load are at, such as `main-0: weights 40% for 12s`."""
    found = [
        f"{replica['name']}: {replica['phase']} for {format_duration(replica['phase_s'])}"
        for replica in snapshot.replicas
        if replica.get("phase")
    ]
    more = len(found) - MOST_LOADING
    return [*found[:MOST_LOADING], *([f"{more} more are loading"] if more > 0 else [])]


def _in_engines(snapshot: Snapshot) -> list[str]:
    """Return what the engines have in hand, such as `["64 sequences running, 12 waiting, KV cache 31% full"]`."""
    running = sum(replica.get("running") or 0 for replica in snapshot.replicas)
    waiting = sum(replica.get("waiting") or 0 for replica in snapshot.replicas)
    shares = [share for replica in snapshot.replicas if (share := replica.get("kv_cache_share")) is not None]
    if not running and not waiting:
        return []
    full = f", KV cache up to {max(shares):.0%} full" if shares else ""
    return [f"{running:,} sequences running, {waiting:,} waiting{full}"]


def _told(snapshot: Snapshot) -> list[str]:
    return [*_loading(snapshot), *_in_engines(snapshot)]


def _thin(points: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield every second point with the rate over both times: nothing that was made is lost between points."""
    previous_s = 0.0
    for index in range(0, len(points) - 1, 2):
        first, second = points[index], points[index + 1]
        spans = (first["elapsed_s"] - previous_s, second["elapsed_s"] - first["elapsed_s"])
        names = second["tokens_per_s"]
        made = {name: first["tokens_per_s"].get(name, 0.0) * spans[0] + rate * spans[1] for name, rate in names.items()}
        whole = sum(spans)
        yield {**second, "tokens_per_s": {name: round(tokens / whole, 1) for name, tokens in made.items()}}
        previous_s = second["elapsed_s"]
    if len(points) % 2:
        yield points[-1]
