"""What `plan` says a run takes on the disk, held against the files of the run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from synthgen.config import Config
from synthgen.config.compose import compose_config
from synthgen.planning import RunPlan, format_plan, make_plan, plan_to_json
from synthgen.runtime.plan_ledger import read_ledger
from synthgen.runtime.run import run
from tests.inline_runs import inline_runs


@pytest.fixture(autouse=True)
def inline() -> Iterator[None]:
    with inline_runs():
        yield


def configure(tmp_path: Path, *more: str) -> Config:
    path = tmp_path / "prompts.jsonl"
    rows = [{"prompt": f"Question number {i}? Tell me about the thing called {i * 7}.", "n": i} for i in range(256)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    echo = ("experiment=echo", f"prompts.path={path}", f"run.dir={tmp_path / 'run'}", "plan.output_tokens=24")
    return compose_config([*echo, *more])


def plan_of(config: Config) -> RunPlan:
    return make_plan(config, read_ledger(config))


def size_of(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def test_forecast_holds_before_and_while_the_run_is_there(tmp_path: Path) -> None:
    first = configure(tmp_path, "prompts.limit=128")
    whole = configure(tmp_path)
    before = plan_of(whole).disk
    assert before.measured == ()
    assert before.left == pytest.approx(before.total)
    run(first, quiet=True)
    half = plan_of(whole)
    assert set(half.disk.measured) == {"generate-main", "judge", "prompts", "dataset"}
    run(whole, quiet=True)
    root = tmp_path / "run"
    real = {
        "prompts": size_of(root / "prompts"),
        "dataset": size_of(root / "dataset"),
        **{path.name.rpartition("-")[0]: size_of(path) for path in (root / "stages").iterdir()},
    }
    for name, size in real.items():
        measured = {**half.disk.stages, "prompts": half.disk.prompts, "dataset": half.disk.dataset}[name]
        assert 0.85 < measured / size < 1.25, (name, measured, size)
        assumed = {**before.stages, "prompts": before.prompts, "dataset": before.dataset}[name]
        assert 0.5 < assumed / size < 2.5, (name, assumed, size)  # an echo judge writes a third of what is assumed
    written = sum(size for name, size in real.items() if name in ("generate-main", "judge")) / 2
    assert half.disk.left == pytest.approx(written + real["dataset"], rel=0.25)
    assert plan_of(whole).disk.left == pytest.approx(real["dataset"], rel=0.01), "all else is there"


def test_what_is_said_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(configure(tmp_path))
    text = format_plan(plan)
    assert "KiB dataset), by tokens; finished units replace it by what they take" in text
    assert "make room" not in text
    assert plan_to_json(plan)["disk"]["total"] == plan.disk.total
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 2048}))
    assert "disk     2 KiB are free there, and " in format_plan(plan_of(configure(tmp_path)))
