"""How a run ends: what was found of the judge, then the pairs, then the next command."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from inline_runs import run_inline
from rich.console import Console

from synthgen.api import open_run
from synthgen.observe.summary import summarise
from synthgen.trust import format_trust

NOISE = "this judge's scores are mostly noise: "


def _run(tmp_path: Path, judge: str, *overrides: str, prompts: int = 12) -> tuple[dict[str, Any], list[str]]:
    """Return the report of an echo run, and the lines that it ends with."""
    source = tmp_path / "prompts.jsonl"
    source.write_text("".join(json.dumps({"prompt": f"Question {tmp_path.name} {i}?"}) + "\n" for i in range(prompts)))
    report = run_inline(
        [
            "experiment=echo", f"prompts.path={source}", f"run.dir={tmp_path / 'run'}", "judge.orders=2",
            f"judge.model.echo.judge={judge}", "judge.model.id=echo/judge", *overrides,
        ]
    )  # fmt: skip
    shown = io.StringIO()
    Console(file=shown, width=200).print(summarise(report, [("dataset", "here")]))
    return report, shown.getvalue().rstrip().splitlines()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_judge_that_draws_lots_is_called_noise_first_of_all(tmp_path: Path, seed: int) -> None:
    report, lines = _run(tmp_path, "random", f"run.seed={seed}")
    assert lines[0].startswith(NOISE)
    assert format_trust(report["trust"]).startswith(NOISE)
    pairs = next(line for line in lines if line.startswith(f"{report['pairs']['made']} pairs of 12 prompts; about "))
    assert report["labels"]["turn_round_share"] > 0.3
    assert lines.index(pairs) < lines.index("rows" + lines[[line.strip() for line in lines].index("rows")][4:])
    assert lines[-1] == f"next: synthgen report run_dir={tmp_path / 'run'}"


def test_a_good_judge_is_never_called_noise(tmp_path: Path) -> None:
    report, lines = _run(tmp_path, "quality")
    assert NOISE not in "\n".join(lines) + format_trust(report["trust"])
    assert lines[0].startswith("nothing speaks against this judge.")
    assert report["labels"]["turn_round_share"] < 0.01
    assert lines[-1].startswith(f"next: synthgen publish run_dir={tmp_path / 'run'} publish.dry_run=true")


def test_what_could_not_be_obeyed_and_an_empty_side_are_said(tmp_path: Path) -> None:
    report, lines = _run(
        tmp_path, "quality", "judge.orders=1", "pairs.max_flip_probability=0.1", "pairs.kto.high=9", "pairs.kto.low=2"
    )
    said = "\n".join(lines)
    assert "warning: pairs.max_flip_probability=0.1 left no pair out: too little was judged twice" in said
    assert "warning: the config kto has no desirable row (from 9.00 up, to 2.00 down)" in said
    assert lines[0].startswith("nothing speaks against this judge, but too little was judged twice")
    assert report["labels"]["turn_round_share"] is None


def test_pairs_that_may_turn_round_are_left_out_of_a_run(tmp_path: Path) -> None:
    overrides = ("pairs.max_flip_probability=0.05", "judge.model.echo.judge=slot1")
    report, lines = _run(tmp_path, "quality", *overrides, prompts=20)
    assert report["labels"]["min_margin"] > 0.1
    assert report["pairs"]["dropped_by_reason"]["below_min_margin"] > 0
    assert lines[0].startswith("look at this judge before you train: ") or lines[0].startswith("nothing speaks")
    run = open_run(tmp_path / "run")
    made = run.table()
    assert run.pair().pairs["chosen_completion_id"].to_pylist() == made["chosen_completion_id"].to_pylist()
    assert run.pair().kto["score"].to_pylist() == run.table("kto")["score"].to_pylist()
    wider, every = run.pair(max_flip_probability=0.01), run.pair(max_flip_probability=0.5)
    assert len(wider.pairs) < len(made) < len(every.pairs)
