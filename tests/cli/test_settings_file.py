"""A YAML file of settings in the place of a long command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from synthgen.cli import run_command

SETTINGS = """\
experiment: echo
prompts: {limit: 4}
generators.main.n: 3
judge: ratings_only
publish: {tag: "1.10", language: "no"}
run: {dir: runs/x, seed: 5}
"""


@pytest.mark.parametrize("given", [["mine.yaml"], ["--config", "mine.yaml"], ["--config=mine.yaml"]])
def test_what_stands_on_the_line_wins_over_the_file(
    given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(SETTINGS)
    assert run_command(["config", *given, "run.seed=6", "judge=ultrafeedback_full"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert (config["run"]["seed"], config["run"]["dir"], config["prompts"]["limit"]) == (6, "runs/x", 4)
    assert (config["generators"]["main"]["n"], config["judge"]["rationale"]) == (3, "full")
    assert (config["publish"]["tag"], config["publish"]["language"]) == ("1.10", "no")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "--config=mine.yaml cannot be read: "),
        ("- a\n", "--config=mine.yaml holds no mapping; write keys and values"),
        ("a: [1\n", "--config=mine.yaml cannot be read: while parsing"),
        ("experiment: echo\nrun: {sed: 1}\n", "run.sed is not a configuration key; did you mean run.seed?"),
    ],
)
def test_a_file_that_cannot_work_is_one_line(
    text: str | None,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path("mine.yaml").write_text(text)
    assert run_command(["plan", "mine.yaml"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"synthgen: {message}")
    assert said.count("\n") == 1
