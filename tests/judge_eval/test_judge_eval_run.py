"""`judge-eval` from a labelled file to its verdict, over the echo engine."""

from __future__ import annotations

import json
from pathlib import Path

from synthgen.config.compose import compose_config
from synthgen.judge_eval import format_eval
from synthgen.runtime.judge_eval import run_judge_eval
from tests.inline_runs import inline_runs


def test_judge_eval_ends_with_a_verdict_and_where_the_figures_are(tmp_path: Path) -> None:
    rows = [{"prompt": f"Question {i}?", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(6)]
    (tmp_path / "labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    overrides = ["experiment=judge_eval", "model@judge.model=echo", f"run.dir={tmp_path / 'run'}", "run.unit_size=4"]
    with inline_runs():
        result = run_judge_eval(compose_config(overrides, judge_only=True), str(tmp_path / "labelled.jsonl"))
    assert result["all"]["judged"] == 6
    *_, verdict, where = format_eval(result, "run/judge_eval.json").splitlines()
    assert where == "All figures: run/judge_eval.json"
    assert verdict.startswith("echo: ")
    assert "than chance" in verdict
