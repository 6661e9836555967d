"""docs/extending.md: every example is a file, and every command runs with it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from synthgen.config.compose import compose_config
from synthgen.planning import format_plan, make_plan
from synthgen.runtime.plan_ledger import read_ledger
from synthgen.runtime.run import run
from tests.inline_runs import inline_runs

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```(?:python|yaml)\n# (\S+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = [line for block in re.findall(r"^```bash\n(.*?)^```", PAGE, re.M | re.S) for line in block.splitlines()]
PROMPTS = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the page's files, which is where commands run, and no Ray."""
    root = tmp_path_factory.mktemp("extending")
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch, inline_runs():
        patch.chdir(root)
        yield root


def start(command: str, *more: str) -> tuple[str, Any]:
    """Do what a command of the page says, on few prompts; return its run directory and what came of it."""
    program, name, *rest = shlex.split(command)
    assert program == "synthgen"
    config_dir = None
    if "--config-dir" in rest:
        place = rest.index("--config-dir")
        config_dir = rest[place + 1]
        del rest[place : place + 2]
    overrides = [*rest, f"prompts.limit={PROMPTS}", "run.unit_size=4", *more]
    config = compose_config(overrides, config_dir)
    if name == "plan":
        return config.run.dir, format_plan(make_plan(config, read_ledger(config)))
    return config.run.dir, run(config, quiet=True)


def read(directory: str, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(f"{directory}/dataset/{name}").to_pylist()
    return rows


def test_every_example_has_a_command() -> None:
    used = {word for command in COMMANDS for word in re.findall(r"\w+\.py|brevity", command)}
    assert used == {Path(name).name.removesuffix(".yaml") for name in FILES}
    assert len(FILES) == 7


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: re.sub(r".*runs/", "", command)[:24])
def test_commands_run(command: str, folder: Path) -> None:
    directory, made = start(command)
    if isinstance(made, str):
        assert "generate-revised" in made
        return
    assert made["complete"]
    pairs, rows = read(directory, "data"), read(directory, "generations")
    assert pairs
    published = (Path(directory) / "dataset" / "README.md").read_text()
    assert str(folder) not in published
    match Path(directory).name:
        case "policy":
            assert {row["pair_policy"] for row in pairs} == {"policy.py:propose"}
            assert "policy.py:propose" in published
        case "filter":
            assert all(len(row["chosen"][0]["content"].split()) <= 30 for row in pairs)
            assert made["scorers"]["short"]["failed"] > 0
        case "scorer":
            assert {one["scorer"] for row in rows for one in row["scores"]} == {"judge", "lonely"}
            assert made["scorers"]["lonely"]["values"] == len(rows)
        case "rubric":
            assert {one["aspect"] for row in rows for one in row["judgements"]} == {"overall-rating", "brevity"}
        case "format":
            assert all(re.fullmatch(r"\d=\d(;\d=\d)*", j["raw_text"]) for row in rows for j in row["judgements"])
        case "engine":
            assert all(row["text"].removeprefix("Certainly. " * 3).endswith("?") or row["text"] for row in rows)
            assert all("You asked: " in row["text"] for row in rows)
        case "revise":
            assert {row["generator"] for row in rows} == {"main", "revised"}
            assert list(made["stages"]) == ["generate-main", "generate-revised", "judge"]
            assert made["trust"]["generator_models"].keys() == {"main", "revised"}
            assert "generate-revised (echo)" in published
        case other:
            raise AssertionError(other)


def test_the_revisions_are_chosen_over_the_answers(folder: Path) -> None:
    start(COMMANDS[-1])
    directory, made = start(
        COMMANDS[-1],
        *("pairs=by_generator", "pairs.chosen_generator=revised", "pairs.rejected_generator=main"),
    )
    assert all(stage["reused_units"] == stage["units"] for stage in made["stages"].values())
    assert {(row["chosen_generator"], row["rejected_generator"]) for row in read(directory, "data")} == {
        ("revised", "main")
    }


def test_a_changed_prompt_asks_again_and_a_comment_does_not(folder: Path) -> None:
    def reused() -> dict[str, int]:
        _, made = start(COMMANDS[-1], "run.dir=runs/changed")
        return {name: stage["reused_units"] for name, stage in made["stages"].items()}

    text = FILES["revise.py"]
    try:
        assert reused() == {"generate-main": 0, "generate-revised": 0, "judge": 0}
        (folder / "revise.py").write_text(text + "\n\n# a word\ndef unrelated():\n    pass\n")
        assert reused() == {"generate-main": 2, "generate-revised": 2, "judge": 2}
        (folder / "revise.py").write_text(text.replace("shorter", "longer"))
        assert reused() == {"generate-main": 2, "generate-revised": 0, "judge": 0}
    finally:
        (folder / "revise.py").write_text(text)


def test_the_judge_rates_what_the_plan_says(folder: Path) -> None:
    config = compose_config([*shlex.split(COMMANDS[-1])[2:], f"prompts.limit={PROMPTS}", "run.dir=runs/planned"])
    plan = {item.name: item for item in make_plan(config, read_ledger(config)).work}
    report = json.loads(json.dumps(start(COMMANDS[-1])[1]))
    assert list(plan) == list(report["stages"])
    assert plan["generate-revised"].requests == PROMPTS == report["stages"]["generate-revised"]["requests"]
