"""`pairs.target=N`: exactly N pairs, the same at every rerun and after every kill, and no more units than it takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from synthgen.api import open_run
from synthgen.config import PairsConfig
from synthgen.config.compose import compose_config
from synthgen.ledger.storage import open_storage
from synthgen.runtime.plan_ledger import read_ledger
from synthgen.runtime.run import run
from synthgen.runtime.scheduler import Scheduler, StageNode
from synthgen.runtime.target import Yield, assume_yield, count_units
from tests.inline_runs import Life, inline_runs, killed_at
from tests.small_runs import write_prompts

PROMPTS = 60


@pytest.fixture(scope="module")
def life() -> Iterator[Life]:
    with inline_runs() as life:
        yield life


@pytest.fixture
def base(tmp_path: Path) -> list[str]:
    prompts = write_prompts(tmp_path / "prompts.jsonl", PROMPTS)
    return [
        "experiment=echo",
        f"prompts.path={prompts}",
        "run.unit_size=4",
        "generators.main.n=2",
        "judge.rationale=none",
        "pairs.min_margin=1.5",
    ]


def make(*overrides: str) -> dict[str, Any]:
    return run(compose_config(overrides), quiet=True)


def read_pairs(run_dir: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(run_dir.glob("dataset/data/*.parquet")) for row in pq.read_table(path).to_pylist()]


def count_judged(run_dir: Path) -> int:
    return len(list(run_dir.glob("stages/judge-*/unit-*.parquet")))


def test_a_target_ends_the_run_at_the_first_units_that_hold_it(
    tmp_path: Path, base: list[str], life: Life, capsys: pytest.CaptureFixture[str]
) -> None:
    here = [*base, f"run.dir={tmp_path / 'run'}"]
    ledger = read_ledger(compose_config([*here, "pairs.target=8"]))
    assert ledger["judge"].units_total == 3  # 8 pairs at 0.8 of 10 prompts
    assert "pairs.target=8 takes about 12 of 60 prompts at 0.80 pairs each, which is assumed" in capsys.readouterr().err
    report = make(*here, "pairs.target=8")
    opened = open_run(tmp_path / "run")
    assert len(opened.pair().pairs) == 8 <= len(opened.pair(min_margin=1.5).pairs)
    pairs = report["pairs"]
    assert (pairs["made"], pairs["target"]) == (8, 8)
    assert pairs["prompts"] == pairs["prompts_with_pairs"] + pairs["ties"] + sum(pairs["dropped_by_reason"].values())
    rows = read_pairs(tmp_path / "run")
    assert len(rows) == 8
    units = report["stages"]["judge"]["units"]
    assert pairs["prompts"] == 4 * units
    assert units <= count_judged(tmp_path / "run") < PROMPTS // 4
    generations = pq.read_table(next((tmp_path / "run").glob("dataset/generations/*.parquet")))
    assert len(generations) == 2 * 4 * units

    capsys.readouterr()
    read_ledger(compose_config([*here, "pairs.target=8"]))
    assert f"pairs.target=8 is held by the first {4 * units} prompts, which are there" in capsys.readouterr().err
    read_ledger(compose_config([*here, "pairs.target=30"]))
    assert "prompts gave so far" in capsys.readouterr().err

    short = make(*here, "pairs.target=1000")  # grown, to all that there is
    assert short["stages"]["judge"]["reused_units"] >= units
    assert f"all 60 prompts give {short['pairs']['made']} pairs" in capsys.readouterr().err
    assert 8 < short["pairs"]["made"] == len(read_pairs(tmp_path / "run")) < PROMPTS
    again = make(*here, "pairs.target=8")  # and back: nothing is made
    assert read_pairs(tmp_path / "run") == rows
    assert again["stages"]["judge"]["units"] == units


def test_a_kill_at_any_change_leaves_the_same_pairs(tmp_path: Path, base: list[str], life: Life) -> None:
    base = [*base, "pairs.target=7", "export.test_fraction=0.2", "generators.main.n=3"]
    make(*base, f"run.dir={tmp_path / 'never'}")

    def read(run_dir: Path) -> dict[str, Any]:
        files = (run_dir / "dataset").rglob("*.parquet")
        return {str(path.relative_to(run_dir)): pq.read_table(path).to_pylist() for path in files}

    expected = read(tmp_path / "never")
    assert sum(len(rows) for name, rows in expected.items() if "data/" in name) == 7
    for changes in (9, 21, 33):
        where = tmp_path / f"killed-{changes}"
        overrides = [*base, f"run.dir={where}"]
        storage = open_storage(str(where))
        assert killed_at(life, changes, lambda overrides=overrides: make(*overrides), storage)
        make(*overrides)
        assert read(where) == expected
    assert json.loads((where / "report.json").read_text())["pairs"]["made"] == 7


def test_units_beyond_the_limit_wait_until_they_are_wanted() -> None:
    stages = [StageNode("a", "p"), StageNode("b", "p", ("a",))]
    scheduler = Scheduler(stages, [2] * 6, limit=2)
    whole: list[int] = []
    scheduler.on_whole = lambda: whole.append(sum(map(scheduler.is_whole, range(6))))

    def drain() -> list[tuple[str, int]]:
        seen = []
        while (task := scheduler.next_task("p", idle=True)) is not None:
            seen.append((task.stage, task.unit))
            scheduler.complete(task)
        return sorted(seen)

    assert drain() == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert (scheduler.finished, scheduler.remaining("p"), whole) == (True, 0, [1, 2])
    scheduler.extend(4)
    assert (scheduler.finished, scheduler.remaining("p"), scheduler.ready("p")) == (False, 4, 2)
    task = scheduler.next_task("p", idle=True)
    assert task is not None
    scheduler.complete(task)
    scheduler.end_at(2)
    assert (scheduler.finished, scheduler.next_task("p", idle=True), scheduler.ready("p")) == (True, None, 0)
    scheduler.extend(6)
    assert drain() == [("a", 3), ("a", 4), ("a", 5), ("b", 2), ("b", 3), ("b", 4), ("b", 5)]


def test_a_yield_is_believed_once_enough_prompts_have_told() -> None:
    config = PairsConfig(max_pairs_per_prompt=2)
    assert assume_yield(config, 3, 8) == Yield(1.6)
    rate = assume_yield(config, 10, 20)
    assert count_units(20, rate, [10] * 9) == 4
    assert count_units(20, rate, [10] * 3) == 3
    assert "that would be 15 pairs: more prompts are needed" in rate.describe(20, 30, 30)
    assert assume_yield(config, 0, 20).per_prompt > 0
