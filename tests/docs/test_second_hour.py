"""Every command of docs/second_hour.md, in its order, in an empty folder."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import pytest
from docs.test_quickstart import ROOT, read_commands

from synthgen.cli import run_command
from tests.inline_runs import inline_runs


def test_commands_run_in_an_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115  (nobody is there to be asked)
    commands = [one.text for one in read_commands((ROOT / "docs/second_hour.md").read_text(encoding="utf-8"))]
    said: dict[str, str] = {}
    with inline_runs():
        for text in commands:
            words = [word for word in shlex.split(text, comments=True) if not word.startswith("HF_HUB_OFFLINE=")]
            assert words[0] == "synthgen"
            assert run_command(words[1:]) == 0, text
            output = capsys.readouterr()
            said[words[1]] = said.get(words[1], "") + output.out + output.err
    assert set(said) == {"init", "run", "plan", "clean", "compare", "fetch"}
    assert "taken from" in said["run"]
    assert "prompts whose rows are taken from other runs (run.reuse): generate-main 8" in said["plan"]
    assert "disk     about" in said["plan"]
    assert "in common" in said["compare"]
    assert "HF_HUB_OFFLINE=1" in said["fetch"]
