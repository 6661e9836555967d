"""Arguments as people type them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from synthgen.cli import run_command
from tests.runtime.test_old_runs import DATA


@pytest.mark.parametrize("given", ["run", "run_dir=run", "run.dir=run", "./run/"])
def test_run_directory_needs_no_key(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(DATA / "run-0.1.0" / "run", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert run_command(["status", given]) == 0
    assert "generate-main" in capsys.readouterr().out
    assert run_command(["report", given]) == 0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["status", "nothing"], "nothing holds no run; give the run.dir of one"),
        (["run", "nothing"], "'nothing' is not an override"),
        (["status", "run_dir=a", "b"], "'b' is not an override"),
        (["status", "--all"], "--all is not an option"),
    ],
)
def test_other_words_are_refused(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(arguments) == 2
    assert line in capsys.readouterr().err
