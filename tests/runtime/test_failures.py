"""What fails for all ends the run and is not committed; what may pass is asked again, and nothing else is."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from rich.console import Console

from synthgen.config import Config, RetryFailed
from synthgen.config.compose import compose_config
from synthgen.errors import ConfigError, RunFailedError
from synthgen.ledger.run_dir import RunDir
from synthgen.observe.summary import describe_failures, summarise
from synthgen.records import UnitCounts
from synthgen.runtime import retries
from synthgen.runtime.failures import FailureWatch, hold_back
from synthgen.runtime.plan_ledger import read_ledger
from synthgen.runtime.run import run
from synthgen.runtime.scheduler import Scheduler, StageNode, Task
from tests.inline_runs import inline_runs
from tests.small_runs import write_prompts

MAIN = "generators.main.model.echo"
FLAKY = (
    f"{MAIN}.fail_share=0.32",
    f"{MAIN}.fail_reason=rate_limited",
    f"{MAIN}.fail_retryable=true",
    "run.max_failed_fraction=0.6",
)
"""Five of the 24 prompts fail, in the first three of the six units."""


@pytest.fixture(scope="module")
def ray_session() -> Iterator[None]:
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()


@pytest.fixture
def inline() -> Iterator[None]:
    """What is taken back and asked again is decided before any replica starts: these runs need no Ray."""
    with inline_runs():
        yield


def make_config(directory: Path, *overrides: str, prompts: int = 24) -> Config:
    path = directory / "prompts.jsonl"
    if not path.exists():
        write_prompts(path, prompts)
    return compose_config(
        [
            "experiment=echo",
            f"prompts.path={path}",
            f"run.dir={directory / 'run'}",
            "run.unit_size=4",
            "run.grace_s=5",
            "judge.canary_fraction=0",
            "generators.main.model.replicas=1",
            "judge.model.replicas=1",
            *overrides,
        ]
    )


def start(config: Config) -> dict[str, Any]:
    return run(config, quiet=True)


def read_pairs(directory: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(directory / "run" / "dataset" / "data").to_pylist()
    return rows


def units_of(directory: Path, stage: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (directory / "run" / "stages").glob(f"{stage}-*/unit-*.parquet")}


def texts_of(generations: pa.Table) -> dict[tuple[str, str], str]:
    """Return the text of every good row by prompt and completion."""
    rows = generations.to_pylist()
    return {(row["prompt_id"], row["completion_id"]): row["text"] for row in rows if row["error"] is None}


# The decision, as pure state


def watch_of(units: int, rows: int = 4, limit: float = 0.2) -> tuple[Scheduler, FailureWatch]:
    scheduler = Scheduler([StageNode("judge", "pool")], [rows] * units)
    return scheduler, FailureWatch(scheduler, limit)


def counts_of(rows: int, **failures: int) -> UnitCounts:
    return UnitCounts(rows=rows, failed_rows=sum(failures.values()), failures=failures)


def held_of(watch: FailureWatch, unit: int, counts: UnitCounts) -> None:
    held = hold_back(counts, [{"reason": reason, "message": f"{reason}!"} for reason in counts.failures], 0.2)
    assert held is not None
    watch.hold("replica", Task("judge", unit), held)


def test_hold_back_counts_what_failed_here_alone() -> None:
    assert hold_back(counts_of(10, timeout=2), [], 0.2) is None
    assert hold_back(counts_of(10, timeout=3), [], 0.2) is not None
    assert hold_back(counts_of(10, no_completions=10), [], 0.2) is None
    assert hold_back(counts_of(10, timeout=10), [], 1.0) is None


def test_one_cause_for_all_is_seen_at_the_first_unit() -> None:
    _, watch = watch_of(100)
    held_of(watch, 0, counts_of(4, refused=4))
    with pytest.raises(RunFailedError, match=r"stage judge: 4 of 4 rows failed, 4 of them with refused \(refused!\)"):
        watch.settle(lambda _: True)


def test_a_reason_of_the_text_needs_fifty_rows() -> None:
    _, watch = watch_of(100)
    for unit in range(12):
        held_of(watch, unit, counts_of(4, prompt_too_long=4))
        assert watch.settle(lambda _: True) == []
    held_of(watch, 12, counts_of(4, prompt_too_long=4))
    with pytest.raises(RunFailedError, match="52 of 52 rows failed, 52 of them with prompt_too_long"):
        watch.settle(lambda _: True)


def test_a_bad_unit_among_good_ones_is_committed_once_fifty_rows_are_seen() -> None:
    scheduler, watch = watch_of(100)
    for unit in range(12):
        watch.committed(Task("judge", unit), counts_of(4))
        scheduler.complete(Task("judge", unit))
    held_of(watch, 12, counts_of(4, refused=4))
    assert watch.settle(lambda _: True) == [("replica", Task("judge", 12))]
    assert list(watch.held) == []


def test_a_stage_that_is_over_commits_what_it_held_unless_all_of_it_failed() -> None:
    scheduler, watch = watch_of(2)
    held_of(watch, 0, counts_of(4, prompt_too_long=4))
    assert watch.settle(lambda _: True) == []
    watch.committed(Task("judge", 1), counts_of(4))
    scheduler.complete(Task("judge", 1))
    assert watch.settle(lambda _: True) == [("replica", Task("judge", 0))]
    _, bad = watch_of(2)
    for unit in range(2):
        held_of(bad, unit, counts_of(4, prompt_too_long=4))
    with pytest.raises(RunFailedError, match="8 of 8 rows failed"):
        bad.settle(lambda _: True)


def test_what_a_lost_replica_held_is_handed_out_again() -> None:
    scheduler, watch = watch_of(3)
    task = scheduler.next_task("pool", idle=True)
    assert task == Task("judge", 0)
    held_of(watch, 0, counts_of(4, prompt_too_long=4))
    assert watch.settle(lambda _: False) == []
    assert scheduler.next_task("pool", idle=True) == task


def test_describe_failures_names_the_commonest_first_and_where() -> None:
    told = describe_failures({"timeout": 2, "refused": 1200}, "judge", "stages/judge-1")
    assert told == "failed: 1,200 refused, 2 timeout (see failures/judge/)"
    assert describe_failures({"unparsable": 2}, "judge", "stages/judge-1").endswith("(see stages/judge-1)")


# Whole runs


def test_greedy_with_several_completions_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"generators\.main\.sampling\.temperature=0 with generators\.main\.n=4"):
        make_config(tmp_path, "generators.main.sampling.temperature=0")


def test_stage_that_fails_for_all_commits_nothing_and_goes_on_when_mended(tmp_path: Path, ray_session: None) -> None:
    with pytest.raises(RunFailedError, match=r"stage judge: .* with refused .*echo\.fail_share=1"):
        start(make_config(tmp_path, "judge.model.echo.fail_share=1", "judge.model.echo.fail_reason=refused"))
    assert len(units_of(tmp_path, "generate")) == 6, "what is good is kept"
    assert units_of(tmp_path, "judge") == {}
    report = start(make_config(tmp_path))
    assert report["stages"]["generate-main"]["reused_units"] == 6
    assert report["stages"]["judge"]["failed_rows"] == 0
    assert len(read_pairs(tmp_path)) == 24


def test_stage_in_which_too_many_fail_keeps_the_good_rows(tmp_path: Path, ray_session: None) -> None:
    bad = make_config(tmp_path, f"{MAIN}.fail_share=0.5", f"{MAIN}.fail_reason=refused")
    with pytest.raises(RunFailedError, match=r"rows failed, \d+ of them with refused"):
        start(bad)
    run_dir = RunDir(bad.run.dir)
    good: dict[tuple[str, str], str] = {}
    for path in (tmp_path / "run/retries").rglob("unit-*.parquet"):
        directory = path.parent.relative_to(tmp_path / "run/retries").as_posix()
        kept = retries.read_kept(run_dir, directory, int(path.stem.removeprefix("unit-")))
        assert kept is not None
        good |= texts_of(kept.table)
    assert good
    report = start(make_config(tmp_path))
    stage = report["stages"]["generate-main"]
    assert (stage["failed_rows"], stage["rows"]) == (0, 96)
    assert stage["requests"] == 24, "no prompt that had its answers was asked again"
    tables = [pq.read_table(path) for path in sorted((tmp_path / "run/stages").glob("generate-*/*.parquet"))]
    texts = texts_of(pa.concat_tables(tables))
    assert {key: texts[key] for key in good} == good
    calm = tmp_path / "calm"
    calm.mkdir()
    start(make_config(calm))
    assert read_pairs(tmp_path) == read_pairs(calm)


def test_failures_that_may_pass_are_asked_again_alone(tmp_path: Path, inline: None) -> None:
    first = start(make_config(tmp_path, *FLAKY))
    failed = first["stages"]["generate-main"]["failed_rows"]
    assert failed == 20
    shown = io.StringIO()
    Console(file=shown, width=120).print(summarise(first, []))
    assert "failed: 20 rate_limited (see failures/generate-main/)" in shown.getvalue()
    before = units_of(tmp_path, "generate") | {f"judge-{k}": v for k, v in units_of(tmp_path, "judge").items()}
    never = start(make_config(tmp_path, "run.retry_failed=never"))
    assert never["stages"]["generate-main"]["failed_rows"] == failed
    ledger = read_ledger(make_config(tmp_path))
    assert ledger["generate-main"].asked_again == failed // 4
    again = start(make_config(tmp_path))
    assert again["stages"]["generate-main"]["failed_rows"] == 0
    assert again["stages"]["generate-main"]["requests"] == 24
    assert again["stages"]["judge"]["requests"] == 24
    after = units_of(tmp_path, "generate") | {f"judge-{k}": v for k, v in units_of(tmp_path, "judge").items()}
    changed = {name for name, data in after.items() if before[name] != data}
    assert changed == {f"{stage}unit-00000{unit}.parquet" for stage in ("", "judge-") for unit in range(3)}
    assert list((tmp_path / "run/retries").rglob("*.parquet")) == []
    assert list((tmp_path / "run/failures").rglob("*.jsonl")) == []
    calm = tmp_path / "calm"
    calm.mkdir()
    start(make_config(calm))
    assert read_pairs(tmp_path) == read_pairs(calm)


def test_failures_that_never_pass_are_asked_three_times_more(tmp_path: Path, inline: None) -> None:
    config = make_config(tmp_path, *FLAKY)
    first = start(config)["stages"]["generate-main"]
    asked = [start(config)["stages"]["generate-main"]["reused_units"] for _ in range(4)]
    assert asked == [3, 3, 3, 6]
    assert start(config)["stages"]["generate-main"]["failed_rows"] == first["failed_rows"]
    lines = [line for path in (tmp_path / "run/failures").rglob("*.jsonl") for line in path.read_text().splitlines()]
    assert len(lines) == first["failed_rows"] // 4
    assert all(json.loads(line)["retryable"] for line in lines)


def test_failures_that_cannot_pass_are_left_alone(tmp_path: Path, inline: None) -> None:
    config = make_config(tmp_path, f"{MAIN}.fail_share=0.13", f"{MAIN}.fail_reason=prompt_too_long")
    assert start(config)["stages"]["generate-main"]["failed_rows"]
    assert start(make_config(tmp_path))["stages"]["generate-main"]["reused_units"] == 6
    assert start(make_config(tmp_path, "run.retry_failed=always"))["stages"]["generate-main"]["failed_rows"] == 0


@pytest.mark.parametrize("taken", [1, 3, 5])
def test_kill_while_units_are_taken_back_loses_nothing(
    tmp_path: Path, inline: None, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    assert start(make_config(tmp_path, *FLAKY))["stages"]["generate-main"]["failed_rows"]
    steps: list[str] = []
    write = retries.write_kept

    def write_until(run_dir: RunDir, directory: str, unit: int, kept: retries.Kept) -> None:
        if len(steps) == taken:
            raise RunFailedError("killed")
        steps.append(directory)
        write(run_dir, directory, unit, kept)

    monkeypatch.setattr(retries, "write_kept", write_until)
    with pytest.raises(RunFailedError, match="killed"):
        start(make_config(tmp_path))
    monkeypatch.undo()
    report = start(make_config(tmp_path))
    assert report["stages"]["generate-main"]["failed_rows"] == 0
    assert (report["stages"]["generate-main"]["rows"], report["stages"]["judge"]["rows"]) == (96, 24)
    assert report["stages"]["generate-main"]["requests"] == 24


def test_a_damaged_unit_with_failures_is_made_again_by_the_same_start(tmp_path: Path, inline: None) -> None:
    """It is read before anything runs, to ask its failed rows again: the damage must not end the start."""
    report = start(make_config(tmp_path, *FLAKY))
    assert report["stages"]["generate-main"]["failed_rows"]
    run_dir = RunDir(str(tmp_path / "run"))
    unit = run_dir.failed_units("generate-main")[0]
    path = next((tmp_path / "run" / "stages").glob(f"generate-main-*/unit-{unit:06d}.parquet"))
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + bytes(200) + whole[300:])
    report = start(make_config(tmp_path))
    assert report["stages"]["generate-main"]["failed_rows"] == 0
    assert (report["stages"]["generate-main"]["rows"], report["stages"]["judge"]["rows"]) == (96, 24)
    (torn,) = (tmp_path / "run" / "failures" / "torn").glob(f"stages-generate-main-*-unit-{unit:06d}.parquet")
    assert torn.stat().st_size == len(whole)


def test_nothing_is_taken_back_with_never(tmp_path: Path) -> None:
    assert retries.list_retries(RunDir(str(tmp_path)), [], {}, RetryFailed.never) == {}
