"""Progress that is true at every moment: tokens in flight count, loading is told, rates are of their own time."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from synthgen.engines.vllm_loading import LoadingWatch
from synthgen.ledger.run_dir import RunDir
from synthgen.observe import progress as module
from synthgen.observe.progress import ProgressView
from synthgen.observe.snapshot import InFlight, Snapshot, StageTotals
from synthgen.records import UnitCounts

READY = {"name": "main-0", "state": "ready", "open_units": 1, "completions": 0, "output_tokens": 0}
LOADS = READY | {"state": "loading", "phase": "weights 40%", "phase_s": 12.0}


class Clock:
    """Stands in for `time.monotonic` of the view."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def take(elapsed_s: float, flying: int, committed: int = 0, done: int = 0, **replica: Any) -> Snapshot:
    totals = StageTotals(units=4, done=done, counts=UnitCounts(rows=8 * done, output_tokens=committed))
    in_flight = {"generate-main": InFlight(flying, ended=2, requests=8, units=1)}
    return Snapshot({"generate-main": totals}, [READY | replica], elapsed_s, 0.0, in_flight=in_flight)


def test_tokens_in_flight_count_before_any_row_is_there(tmp_path: Path, clock: Clock) -> None:
    view = ProgressView(RunDir(str(tmp_path)), 10.0, quiet=True)
    seen = []
    for second in range(1, 6):
        clock.now += 1
        view.observe(take(float(second), 100 * second))
        stage = RunDir(str(tmp_path)).read_json("status.json")["stages"]["generate-main"]  # type: ignore[index]
        seen.append((stage["rows"], stage["output_tokens"]))
    assert seen == [(0, 100), (0, 200), (0, 300), (0, 400), (0, 500)]
    assert stage["tokens_per_s"] == pytest.approx(100)


def test_eta_is_known_before_the_first_unit_is_committed(tmp_path: Path, clock: Clock) -> None:
    view = ProgressView(RunDir(str(tmp_path)), 10.0, quiet=True)
    for second in range(1, 4):
        clock.now += 1
        view.observe(take(float(second), 100 * second))
    status = RunDir(str(tmp_path)).read_json("status.json")
    # 300 tokens for 2 of 8 requests: 1,200 a unit, 4,800 in all, 4,500 to come at 100 a second
    assert status is not None
    assert status["eta_s"] == pytest.approx(45)


def test_series_is_the_rate_over_its_own_time_and_says_what_was_loading(tmp_path: Path, clock: Clock) -> None:
    view = ProgressView(RunDir(str(tmp_path)), 10.0, quiet=True)
    for second in (3, 6, 9):
        clock.now += 3
        view.observe(take(float(second), 0, state="loading"))
    for second, tokens in ((12, 900), (15, 1800), (18, 1800), (21, 1800)):
        clock.now += 3
        view.observe(take(float(second), tokens))
    assert [point["tokens_per_s"]["generate-main"] for point in view.series] == [0, 0, 0, 300, 300, 0, 0]
    assert [point.get("loading") for point in view.series] == [["main-0"]] * 3 + [None] * 4


def test_thinned_series_loses_no_token(tmp_path: Path, clock: Clock) -> None:
    view = ProgressView(RunDir(str(tmp_path)), 10.0, quiet=True)
    for second in range(3, 3000, 3):
        clock.now += 3
        view.observe(take(float(second), second * 10 + second % 7))
    assert len(view.series) <= module.MOST_POINTS
    before, made = 0.0, 0.0
    for point in view.series:
        made += point["tokens_per_s"]["generate-main"] * (point["elapsed_s"] - before)
        before = point["elapsed_s"]
    assert made == pytest.approx(2997 * 10 + 2997 % 7, rel=0.01)


@pytest.mark.parametrize("width", [80, 120])
def test_panel_tells_what_is_loading_and_fits(tmp_path: Path, clock: Clock, width: int) -> None:
    view = ProgressView(RunDir(str(tmp_path)), 10.0)
    console = Console(width=width, file=io.StringIO(), record=True)
    view._live = type("Live", (), {"console": console, "update": lambda *_: None})()
    clock.now += 1
    snapshot = take(5.0, 12_345, **{key: LOADS[key] for key in ("state", "phase", "phase_s")})
    view.observe(snapshot)
    console.print(view._panel(snapshot))
    shown = console.export_text()
    assert "main-0: weights 40% for 12s" in shown
    assert "12,345" in shown
    assert max(map(len, shown.splitlines())) <= width


def test_line_without_a_terminal_tells_tokens_and_what_is_in_the_engines(
    tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    view = ProgressView(RunDir(str(tmp_path)), 0.0)
    clock.now += 1
    view.observe(take(1.0, 50, running=64, waiting=12, kv_cache_share=0.31))
    [line] = capsys.readouterr().out.splitlines()
    assert "generate-main 0/4 units, 0 rows, 50 tokens" in line
    assert "64 sequences running, 12 waiting, KV cache up to 31% full" in line


def test_loading_watch_reads_phases_from_the_log(tmp_path: Path) -> None:
    log = tmp_path / "replica.log"
    log.write_text("of an earlier engine: Loading weights took 3 seconds\n")
    watch = LoadingWatch(str(log), "builtin:tiny")
    assert watch.look().phase == "starting vLLM"
    said = {
        "INFO [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: torch.compile": "starting the engine",
        "INFO [cpu_model_runner.py:68] Starting to load model /m...": "weights",
        "Loading safetensors checkpoint shards:  50% Completed | 1/2": "weights 50%",
        "INFO [default_loader.py:501] Loading weights took 0.24 seconds": "preparing the weights",
        "WARNING Enforce eager set, disabling torch.compile, CUDAGraphs": "preparing the weights",
        "INFO [backends.py:1] Compiling a graph for compile range (1, 8192) takes 4 s": "compilation",
        "INFO [cpu_model_runner.py:87] Warming up model for the compilation...": "compilation",
        "INFO [kv_cache_utils.py:2327] CPU KV cache size: 46,592 tokens": "warm-up",
    }
    for line, phase in said.items():
        with log.open("a") as file:
            file.write(line + "\n")
        assert watch.look().phase == phase


def test_loading_watch_counts_the_bytes_of_a_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    watch = LoadingWatch(None, "org/name")
    blobs = tmp_path / "models--org--name" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "x.incomplete").write_bytes(b"0" * 3_000_000)
    loading = watch.look()
    assert (loading.phase, loading.bytes) == ("download 3 MB", 3_000_000)
