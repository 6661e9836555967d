"""A YAML file of settings in the place of a long command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from synthgen.cli import run_command
from synthgen.config.compose import compose_config
from synthgen.config.settings import read_settings
from tests.inline_runs import inline_runs

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


def test_a_file_goes_on_with_a_run_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    url = "runs/a (1)"
    with inline_runs():
        assert run_command(["run", "experiment=echo", "prompts.limit=4", "run.unit_size=2", f"run.dir='{url}'"]) == 0
    Path("orders.yaml").write_text("judge: {orders: 2}\n")
    capsys.readouterr()
    assert run_command(["plan", url, "--config", "orders.yaml"]) == 0
    said = capsys.readouterr()
    assert f"going on with {url} as it was started (experiment=echo prompts.limit=4 run.unit_size=2)" in said.err
    assert "with judge.orders=2" in said.err


def test_a_file_is_read_as_the_line_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(
        "experiment: llama31_ultrafeedback\njudge: none\nrun: {dir: x}\n"
        "generators: {small: {model: echo, n: 3}}\nscorers: {short: {kind: exact}}\n"
        "model@generators.llama70b.model: echo\n"
    )
    config = compose_config(read_settings(Path("mine.yaml"))[0])
    assert {name: g.model.name for name, g in config.generators.items()}["small"] == "echo"
    assert config.generators["llama70b"].model.name == "echo"
    assert config.scorers["short"].kind == "exact"
    assert not config.judge.enabled


@pytest.mark.parametrize("key", ["run.dir", "run_dir", "run: {dir: DIR}"])
@pytest.mark.parametrize("command", ["config", "plan"])
def test_the_run_directory_has_two_names_and_one_meaning(
    command: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    where = key.replace("DIR", "runs/file") if "{" in key else f"{key}: runs/file"
    Path("mine.yaml").write_text(f"experiment: echo\n{where}\nprompts: {{limit: 4}}\n")
    for given, found in (([], "runs/file"), (["run_dir=runs/line"], "runs/line"), (["run.dir=runs/line"], "runs/line")):
        assert run_command([command, "mine.yaml", "cluster.gpu_hour_usd=1", *given]) == 0
        said = capsys.readouterr()
        assert "going on" not in said.err
        assert command == "plan" or yaml.safe_load(said.out)["run"]["dir"] == found
