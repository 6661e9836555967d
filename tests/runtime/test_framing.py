"""Judgements of the old framing are kept until somebody wants new ones; judge prompts that are too long are split."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from synthgen.cli import run_command
from synthgen.config.compose import compose_config
from synthgen.judge.frame import frame_question
from synthgen.ledger.run_dir import RunDir
from synthgen.runtime.clean import find_unused
from synthgen.runtime.framing import settle_framing
from synthgen.runtime.goes_on import compose_started
from synthgen.runtime.plan_ledger import read_ledger
from synthgen.runtime.preview import make_preview
from synthgen.runtime.run import run
from tests.inline_runs import inline_runs
from tests.small_runs import write_prompts


@pytest.fixture(autouse=True)
def inline() -> Iterator[None]:
    with inline_runs():
        yield


@pytest.fixture
def overrides(tmp_path: Path) -> list[str]:
    prompts = write_prompts(tmp_path / "prompts.jsonl", 8)
    return ["experiment=echo", f"prompts.path={prompts}", "run.unit_size=4", f"run.dir={tmp_path / 'run'}"]


def list_judged(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "run/stages").glob("judge-*"))


def test_a_run_keeps_the_framing_of_the_judgements_that_it_holds(
    tmp_path: Path, overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run(compose_config([*overrides, "prompts.limit=4", "judge.framing=brackets"]), quiet=True)
    old = list_judged(tmp_path)
    typed = compose_config(overrides)
    capsys.readouterr()
    ledger = read_ledger(typed)["judge"]
    assert (ledger.units_done, ledger.units_total) == (1, 2)
    kept = (
        "synthgen: the judgements that are there were made with judge.framing=brackets, and are kept; "
        "judge.framing=boundary would judge again"
    )
    assert kept in capsys.readouterr().err
    report = run(typed, quiet=True)  # grown, and not judged again
    assert report["stages"]["judge"]["reused_units"] == 1
    assert list_judged(tmp_path) == old
    assert "judge.framing=boundary would judge again" in capsys.readouterr().err
    run(compose_started([f"run_dir={tmp_path / 'run'}", "pairs=all_pairs"]).config, quiet=True)
    assert list_judged(tmp_path) == old

    # A configuration of before there was a choice uses them too, finished or not.
    shutil.copytree(tmp_path / "run", tmp_path / "before", ignore=shutil.ignore_patterns("dataset", "sessions"))
    saved = tmp_path / "before/config.yaml"
    saved.write_text(saved.read_text().replace("  framing: brackets\n", ""))
    assert not [piece for piece in find_unused(RunDir(str(tmp_path / "before"))) if "judge" in piece.path]

    again = compose_config([*overrides, "judge.framing=boundary"])
    assert read_ledger(again)["judge"].units_done == 0
    assert "judging is done again, because the judgements that are there" in capsys.readouterr().err
    run(again, quiet=True)
    assert len(list_judged(tmp_path)) == 2
    capsys.readouterr()
    assert read_ledger(typed)["judge"].units_done == 2  # both are there: the default's
    assert "framing" not in capsys.readouterr().err
    other = settle_framing(compose_config([*overrides, "judge.orders=3"]))  # nothing of it is there to be kept
    assert (other[0].judge.framing, other[1]) == (None, "")


def test_preview_and_judge_eval_ask_as_the_run_does(
    tmp_path: Path, overrides: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    framed: list[int] = []
    monkeypatch.setattr(
        "synthgen.stages.judge_requests.frame_question",
        lambda *args, **named: framed.append(1) or frame_question(*args, **named),
    )
    run(compose_config([*overrides, "judge.framing=brackets"]), quiet=True)
    config = compose_config(overrides)
    make_preview(dataclasses.replace(config, preview=dataclasses.replace(config.preview, prompts=2)), quiet=True)
    assert framed == []
    data = tmp_path / "labelled.jsonl"
    data.write_text('{"prompt": "Why?", "chosen": "Because it is so.", "rejected": "No."}\n')
    where = [*overrides[2:3], f"run.dir={tmp_path / 'eval'}", "model@judge.model=echo", f"data={data}"]
    assert run_command(["judge-eval", *where, "judge.framing=brackets"]) == 0
    old = len(list((tmp_path / "eval/stages").glob("judge-*")))
    capsys.readouterr()
    assert run_command(["judge-eval", *where]) == 0
    assert "judge.framing=brackets, and are kept" in capsys.readouterr().err
    assert len(list((tmp_path / "eval/stages").glob("judge-*"))) == old == 1


def test_a_judge_whose_context_is_short_judges_smaller_groups(tmp_path: Path, overrides: list[str]) -> None:
    """The echo engine counts words: four texts do not fit, two do."""
    short = ["judge.model.max_model_len=430", "judge.canaries=none", "generators.main.model.echo.output_tokens=30"]
    report = run(compose_config([*overrides, *short]), quiet=True)
    assert report["stages"]["judge"]["failed_rows"] == 0
    assert report["trust"]["split"]["prompts"] > 0
    assert any("smaller groups" in warning for warning in report["trust"]["warnings"])
    assert report["pairs"]["made"] > 0
