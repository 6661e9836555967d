"""The command line as a user meets it: instant help, one line for every mistake, exit statuses, resume and reuse."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from datasets import load_dataset

from synthgen.cli import run_command
from tests.command_line import synthgen
from tests.inline_runs import inline_runs
from tests.small_runs import write_prompts

BAD_INPUT = [
    ("missing.jsonl", None, "prompts.path="),
    ("empty.jsonl", b"", "empty.jsonl"),
    ("broken.jsonl", b'{"prompt": "a"}\n{"prompt": \n', "line 2"),
    ("column.jsonl", b'{"text_of_it": "a"}\n{"text_of_it": "b"}\n', "text_of_it"),
    ("bytes.jsonl", b'{"prompt": "a"}\n{"prompt": "\xff\xfe"}\n', "UTF-8"),
    ("blank.jsonl", b'{"prompt": "  "}\n', "blank.jsonl"),
]


@pytest.mark.parametrize(("name", "data", "told"), BAD_INPUT)
def test_bad_prompt_file_is_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, data: bytes | None, told: str
) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    status = run_command(["run", "experiment=echo", f"prompts.path={path}", f"run.dir={tmp_path / 'run'}"])
    error = capsys.readouterr().err
    assert status == 2
    assert error.count("\n") == 1
    assert told in error


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["rum"], "did you mean run?"),
        (["run", "experiment=echo", "run.sed=1"], "did you mean run.seed?"),
        (["run", "experiment=echo", "run.dir=/proc/nothing"], "cannot be written"),
        (["run", "--fast"], "--fast is not an option"),
        (["plan", "experiment=echo", "model@generators.main.model=llama-3.1-70b", "cluster=cpu"], "llama-3.1-70b"),
        (["plan", "experiment=echo", "pairs.min_margin=-1"], "pairs.min_margin=-1"),
        (["status", "run_dir=/nowhere/at/all"], "/nowhere/at/all"),
        (["publish", "run_dir=/nowhere/at/all", "publish.repo_id=a/b"], "/nowhere/at/all"),
        (["run", "experiment=echo", "pipeline=nothing"], "pipeline='nothing'"),
    ],
)
def test_mistake_is_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert told in error
    assert list(tmp_path.iterdir()) == []


def test_help_lists_every_command() -> None:
    from synthgen.cli.commands import COMMANDS

    done = synthgen("--help")
    assert done.returncode == 0
    assert all(f"\n  {name}" in done.stdout or f", {name}" in done.stdout for name in COMMANDS)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A finished echo run, and its overrides."""
    root = tmp_path_factory.mktemp("cli")
    prompts = write_prompts(root / "prompts.jsonl", 12)
    overrides = ["experiment=echo", f"prompts.path={prompts}", f"run.dir={root / 'run'}", "run.unit_size=4"]
    done = synthgen("run", *overrides)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "waiting for Ray to start" not in line]  # a slow machine
    assert said == []
    assert "pairs made" in done.stdout
    return root / "run", overrides


def requests(run_dir: Path) -> dict[str, tuple[int, int]]:
    """Return units and reused units by stage."""
    report = json.loads((run_dir / "report.json").read_text())
    return {name: (stage["units"], stage["reused_units"]) for name, stage in report["stages"].items()}


def test_report_adds_up(finished: tuple[Path, list[str]]) -> None:
    report = json.loads((finished[0] / "report.json").read_text())
    pairs = report["pairs"]
    assert report["prompts"]["kept"] == 12
    assert pairs["prompts_with_pairs"] + pairs["ties"] + sum(pairs["dropped_by_reason"].values()) == 12
    assert report["stages"]["generate-main"]["rows"] == 12 * 4
    for key in ("units", "rows", "failed_rows", "input_tokens", "cached_input_tokens", "output_tokens", "busy_s"):
        assert key in report["stages"]["judge"]


def test_dataset_loads_in_every_config(finished: tuple[Path, list[str]]) -> None:
    dataset = str(finished[0] / "dataset")
    pairs = load_dataset(dataset, split="train")
    assert pairs[0]["chosen"][0]["role"] == "assistant"
    assert json.loads(pairs[0]["metadata"])["number"] >= 0
    assert len(load_dataset(dataset, "generations", split="train")) == 48
    assert set(load_dataset(dataset, "kto", split="train").column_names) >= {"prompt", "completion", "label"}


def test_second_run_sends_nothing_and_a_changed_judge_judges_only(finished: tuple[Path, list[str]]) -> None:
    run_dir, overrides = finished
    assert run_command(["run", *overrides]) == 0
    assert requests(run_dir) == {"generate-main": (3, 3), "judge": (3, 3)}
    assert run_command(["run", *overrides, "pairs.policy=all_pairs", "pairs.max_pairs_per_prompt=3"]) == 0
    assert requests(run_dir) == {"generate-main": (3, 3), "judge": (3, 3)}
    assert json.loads((run_dir / "report.json").read_text())["pairs"]["made"] > 12
    with inline_runs():
        assert run_command(["run", *overrides, "judge.aspects=[honesty]"]) == 0
    assert requests(run_dir) == {"generate-main": (3, 3), "judge": (3, 0)}


def test_plan_says_what_is_reused(finished: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["plan", *finished[1], "plan.format=json"]) == 0
    stages = json.loads(capsys.readouterr().out)["stages"]
    assert stages["generate-main"]["units_reused"] == 3
    assert stages["judge"]["units_reused"] == 3


def test_run_grows_with_its_prompts_and_refuses_others(
    finished: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run_dir, overrides = finished
    prompts = Path(next(o for o in overrides if o.startswith("prompts.path=")).partition("=")[2])
    grown = write_prompts(tmp_path / "grown.jsonl", 16)
    more = [o if not o.startswith("prompts.path=") else f"prompts.path={grown}" for o in overrides]
    with inline_runs():
        assert run_command(["run", *more]) == 0
    assert requests(run_dir)["generate-main"] == (4, 3)
    capsys.readouterr()
    assert run_command(["run", *overrides]) == 2
    assert "choose another run.dir" in capsys.readouterr().err
    assert prompts.exists()


def test_multirun_runs_every_combination(tmp_path: Path) -> None:
    prompts = write_prompts(tmp_path / "prompts.jsonl", 3)
    arguments = ["run", "-m", "experiment=echo", f"prompts.path={prompts}", "judge.aspects=[honesty],[overall-rating]"]
    with inline_runs():
        assert run_command([*arguments, f"run.dir='{tmp_path}/${{judge.aspects.0}}'"]) == 0
    assert (tmp_path / "honesty" / "report.json").exists()
    assert (tmp_path / "overall-rating" / "report.json").exists()


def test_user_s_own_pipeline_file_runs(tmp_path: Path) -> None:
    """A stage that exists only in the user's file travels to the replicas."""
    from synthgen.config.resources import project_path

    prompts = write_prompts(tmp_path / "prompts.jsonl", 3)
    source = (project_path("pipelines") / "preference.py").read_text()
    own = source.replace("def build_flow", "class Louder(GenerateStage):\n    pass\n\n\ndef build_flow")
    own = own.replace("GenerateStage(name,", "Louder(name,")
    (tmp_path / "mine.py").write_text(own)
    done = synthgen(
        "run", "experiment=echo", f"pipeline={tmp_path}/mine.py", f"prompts.path={prompts}", f"run.dir={tmp_path}/run"
    )
    assert done.returncode == 0, done.stderr


def test_full_disk_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """/dev/full refuses every byte: the run directory's status cannot be written there."""
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "prompts").symlink_to("/dev/full")
    status = run_command(["run", "experiment=echo", f"run.dir={run_dir}"])
    assert status in (1, 2)
    assert capsys.readouterr().err.count("\n") == 1
