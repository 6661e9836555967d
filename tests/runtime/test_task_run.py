"""`pipeline=task` from the command's overrides to a data set that `datasets` loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from synthgen.config.compose import compose_config
from synthgen.errors import ConfigError, RunFailedError
from synthgen.runtime.run import run
from tests.inline_runs import inline_runs

ECHO = ["pipeline=task", "model@task.model=echo", "run.unit_size=2"]


def write_answers(path: Path) -> str:
    rows: list[dict[str, Any]] = [
        {"prompt": "What is 2+2?", "answer": "four"},
        {"prompt": "Say hi.", "answer": "hi"},
        {"prompt": "No answer to this one."},
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return f"prompts.path={path}"


def run_task(tmp_path: Path, *overrides: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run a task on echo, and return the report and the rows of the data set."""
    from datasets import load_dataset

    directory = tmp_path / "run"
    source = write_answers(tmp_path / "prompts.jsonl")
    report = run(compose_config([*ECHO, source, f"run.dir={directory}", *overrides]), quiet=True)
    loaded = load_dataset(str(directory / "dataset"), split="train", cache_dir=str(tmp_path / "cache"))
    return report, loaded.to_list()


def test_task_runs_to_a_data_set_and_goes_on_where_it_ended(tmp_path: Path) -> None:
    with inline_runs():
        report, rows = run_task(tmp_path, "task.path=distilabel.steps.tasks.TextGeneration", "task.n=2")
    assert report["stages"]["task"]["rows"] == 6
    assert report["stages"]["task"]["failed_rows"] == 0
    assert [row["sample_index"] for row in rows] == [0, 1] * 3
    assert all(row["generation"] == row["raw_text"] and row["error"] is None for row in rows)
    assert [row["prompt"][0]["content"] for row in rows[::2]] == ["What is 2+2?", "Say hi.", "No answer to this one."]
    card = (tmp_path / "run" / "dataset" / "README.md").read_text()
    assert "distilabel's TextGeneration" in card
    assert "- dpo" not in card
    with inline_runs():
        again, same = run_task(tmp_path, "task.path=distilabel.steps.tasks.TextGeneration", "task.n=2")
    assert again["stages"]["task"]["reused_units"] == 2
    assert same == rows


def test_task_that_reads_nothing_gives_rows_with_errors(tmp_path: Path) -> None:
    overrides = ["task.path=distilabel.steps.tasks.QualityScorer", "+task.inputs.responses=[answer]"]
    with pytest.raises(RunFailedError, match="3 of 3 rows failed"):
        run_task(tmp_path, *overrides)
    with inline_runs():
        report, rows = run_task(tmp_path, *overrides, "run.max_failed_fraction=1")
    assert [row["error"] for row in rows] == ["unparsable", "unparsable", "missing_input"]
    assert report["stages"]["task"]["failures"] == {"unparsable": 2, "missing_input": 1}


def test_task_without_its_input_ends_before_an_engine_starts(tmp_path: Path) -> None:
    overrides = ["task.path=distilabel.steps.tasks.QualityScorer", "task.model.echo.fail_start=true"]
    with pytest.raises(ConfigError, match=r"\+task\.inputs\.responses=<column>"):
        run_task(tmp_path, *overrides)


def test_plan_of_a_task_counts_its_stage() -> None:
    from synthgen.planning import make_plan
    from synthgen.runtime.plan_ledger import read_ledger

    config = compose_config([*ECHO, "task.path=distilabel.steps.tasks.ComplexityScorer", "task.n=3"])
    plan = make_plan(config, read_ledger(config))
    (work,) = plan.work
    assert (work.name, work.key, work.completions) == ("task", "task.model", 3)
