"""`synthgen compare` sets two runs side by side."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from synthgen.cli import run_command
from synthgen.config.compose import compose_config
from synthgen.runtime.run import run
from tests.inline_runs import inline_runs
from tests.small_runs import write_prompts


def test_two_runs_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = write_prompts(tmp_path / "prompts.jsonl", 12)
    common = ["experiment=echo", f"prompts.path={prompts}", "generators.main.n=3"]
    a, b = tmp_path / "a", tmp_path / "b (1)"
    with inline_runs():
        run(compose_config([*common, f"run.dir={a}"]), quiet=True)
        other = ["prompts.limit=8", "judge.model.echo.judge=longer", "pairs=all_pairs", f"run.dir='{b}'"]
        run(compose_config([*common, *other]), quiet=True)
    assert run_command(["compare", str(a), f"run.dir={b}", "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    assert compared["runs"] == [str(a), str(b)]
    assert compared["configuration"]["judge.model.echo.judge"] == ["quality", "longer"]
    assert compared["configuration"]["prompts.limit"] == [None, 8]
    assert not any(key.startswith(("run.dir", "run.overrides", "cluster")) for key in compared["configuration"])
    assert compared["figures"]["prompts"] == [12, 8]
    assert compared["figures"]["completions"] == [36, 24]
    reports = [json.loads((one / "report.json").read_text()) for one in (a, b)]
    assert compared["figures"]["pairs"] == [report["pairs"]["made"] for report in reports]
    both = compared["common"]
    assert (both["prompts"], both["completions_with_the_same_text"], both["of_them_scored_in_both"]) == (8, 24, 24)
    assert -1 <= both["rank_correlation_of_scores"] < 0.99, "one judge goes by quality, the other by length"
    assert 0 <= both["prompts_with_the_same_best_completion"] <= 1
    low, high = both["interval_of_these"]
    assert both["preferences_compared"] > 0
    assert 0 <= low < both["preferences_that_turn_round"] < high <= 1
    assert {len(verdicts) for verdicts in compared["trust"].values()} == {2}
    assert run_command(["compare", f"run_dir={a}", f"run_dir={a}"]) == 0
    said = capsys.readouterr().out
    assert "the same settings" in said
    assert "rank correlation of scores" in said
    assert "1.000" in said
    assert re.search(r"preferences that turn round +0", said), "a run agrees with itself"


def test_what_is_no_finished_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["compare", str(tmp_path)]) == 2
    assert "compare takes two run directories, but got 1 of them" in capsys.readouterr().err
    assert run_command(["compare", str(tmp_path), str(tmp_path)]) == 2
    assert "holds no report.json (there is no run in it)" in capsys.readouterr().err
