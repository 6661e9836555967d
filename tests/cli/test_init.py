"""`synthgen init` writes a project that runs, from inside and from outside."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from synthgen.cli import run_command
from tests.inline_runs import inline_runs


def test_what_init_wrote_runs_from_outside_and_from_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(["init", "my project"]) == 0
    said = capsys.readouterr().out
    written = sorted(path.name for path in (tmp_path / "my project").iterdir())
    assert written == ["Makefile", "README.md", "conf", "config.yaml", "filter.py", "prompts.jsonl"]
    assert all(f"my project/{name}" in said for name in written), "each piece has its line"
    with inline_runs():
        assert run_command(["run", "my project/config.yaml"]) == 0
        run = tmp_path / "my project" / "runs/first"
        report = json.loads((run / "report.json").read_text())
        assert report["stages"]["score-whole"]["rows"] == 8 * 4
        aspects = pq.read_table(next(run.glob("stages/judge-*/unit-000000.parquet")))["aspect"]
        assert set(aspects.to_pylist()) == {"helpfulness", "directness"}
        monkeypatch.chdir(tmp_path / "my project")
        assert run_command(["run", "config.yaml"]) == 0
    again = json.loads((run / "report.json").read_text())["stages"]
    assert {name: stage["reused_units"] for name, stage in again.items()} == dict.fromkeys(again, 1)


def test_makefile_names_commands_that_exist(tmp_path: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    assert run_command(["init", str(tmp_path / "p")]) == 0
    made = subprocess.run(["make", "-n", "-C", tmp_path / "p", "preview", "plan", "run", "report", "publish"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    lines = [line for line in made.stdout.splitlines() if line.startswith("synthgen ")]
    assert [line.split()[1] for line in lines] == ["preview", "plan", "run", "report", "publish"]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["there"], "there holds filter.py already, and nothing is written over; give another name"),
        (["a", "b=c"], "init takes the name of a new directory, but got 'b=c'"),
        ([], "init takes the name of a new directory: synthgen init my-project"),
    ],
)
def test_nothing_is_written_over(
    given: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    Path("there/filter.py").write_text("mine")
    assert run_command(["init", *given]) == 2
    assert line in capsys.readouterr().err
    assert [path.name for path in Path("there").iterdir()] == ["filter.py"]
