"""`run.reuse`: completions and judgements of other run directories, taken per prompt."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from synthgen.config import Config
from synthgen.config.compose import compose_config
from synthgen.config.saved import fingerprint_config
from synthgen.errors import ConfigError
from synthgen.ledger.run_dir import RunDir
from synthgen.ledger.storage import open_storage
from synthgen.planning import format_plan, make_plan
from synthgen.publish.card_config import public_config
from synthgen.runtime.plan_ledger import read_ledger
from synthgen.runtime.run import run
from tests.inline_runs import Life, inline_runs, killed_at

PROMPTS = 24


@pytest.fixture(autouse=True)
def life() -> Iterator[Life]:
    with inline_runs() as life:
        yield life


def write(path: Path, texts: list[str], **columns: str) -> str:
    path.write_text("".join(json.dumps({"prompt": text, **columns}) + "\n" for text in texts))
    return f"prompts.path={path}"


def texts(*edited: int) -> list[str]:
    return [f"Question number {i}{' again' if i in edited else ''}?" for i in range(PROMPTS)]


def configure(tmp_path: Path, name: str, prompts: str, *more: str) -> Config:
    small = ("experiment=echo", "run.unit_size=6", "generators.main.n=2", "judge.canaries=none", "judge.orders=2")
    return compose_config([*small, prompts, f"run.dir={tmp_path / name}", *more])


def start(tmp_path: Path, name: str, prompts: str, *more: str) -> dict[str, Any]:
    return run(configure(tmp_path, name, prompts, *more), quiet=True)["stages"]


def dataset(run_dir: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of a data set, without what depends on the names of files."""
    found = {}
    for config in ("data", "kto", "generations"):
        rows = pq.read_table(run_dir / "dataset" / config).to_pylist()
        found[config] = [{key: value for key, value in row.items() if key != "source"} for row in rows]
    return found


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of all prompts. Never changed."""
    root = tmp_path_factory.mktemp("first")
    with inline_runs():
        start(root, "run", write(root / "prompts.jsonl", texts()))
    return root / "run"


def test_one_edited_prompt_costs_one_prompt(first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = write(tmp_path / "edited.jsonl", texts(8))
    reuse = f"run.reuse=[{first}]"
    config = configure(tmp_path, "second", prompts, reuse)
    plan = make_plan(config, read_ledger(config))
    assert {item.name: (item.taken, item.prompts) for item in plan.work} == {"generate-main": (23, 1), "judge": (23, 1)}
    assert {item.name: item.requests for item in plan.work} == {"generate-main": 1, "judge": 2}
    assert "prompts whose rows are taken from other runs (run.reuse): generate-main 23, judge 23" in format_plan(plan)
    stages = start(tmp_path, "second", prompts, reuse)
    said = capsys.readouterr().err
    assert f"synthgen: taken from {first}: generate-main of 23 prompts, judge of 23 prompts" in said
    assert {name: stage["requests"] for name, stage in stages.items()} == {"generate-main": 1, "judge": 2}
    assert {name: stage["rows"] for name, stage in stages.items()} == {"generate-main": 48, "judge": 48}
    assert stages["generate-main"]["reused_rows"] == {str(first): 46}
    assert stages["judge"]["reused_rows"] == {str(first): 46}
    footers = [RunDir(str(tmp_path / "second")).read_counts(stages["judge"]["directory"], unit) for unit in range(4)]
    assert [counts.reused for counts in footers] == [{str(first): n} for n in (12, 10, 12, 12)]
    start(tmp_path, "alone", prompts)
    assert dataset(tmp_path / "second") == dataset(tmp_path / "alone"), "as if all of it had been made here"
    capsys.readouterr()
    start(tmp_path, "second", prompts, reuse)
    assert "taken from" not in capsys.readouterr().err, "all is there"
    after = make_plan(config, read_ledger(config))
    assert [(item.taken, item.prompts) for item in after.work] == [(0, 0), (0, 0)]


def test_prompts_that_move_to_other_units_are_found(first: Path, tmp_path: Path) -> None:
    moved = [text for text in reversed(texts()) if "number 3?" not in text]
    prompts = write(tmp_path / "moved.jsonl", moved)
    stages = start(tmp_path, "second", prompts, f"run.reuse=[{first}]", "run.unit_size=5")
    assert {name: stage["requests"] for name, stage in stages.items()} == {"generate-main": 0, "judge": 0}
    assert {stage["reused_units"] for stage in stages.values()} == {5}, "no engine is started"
    start(tmp_path, "alone", prompts, "run.unit_size=5")
    assert dataset(tmp_path / "second") == dataset(tmp_path / "alone")


def test_judgement_holds_with_the_completions_that_it_judged_alone(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under one fingerprint two runs have other texts, as engines make that do not repeat themselves."""
    other = tmp_path / "other"
    shutil.copytree(first, other)
    run_dir = RunDir(str(other))
    (directory,) = (path.name for path in (other / "stages").glob("generate-*"))
    (judged,) = (path.name for path in (other / "stages").glob("judge-*"))
    for unit in range(4):
        table = run_dir.read_unit(f"stages/{directory}", unit).replace_schema_metadata(None)
        changed = [f"{text} indeed" for text in table["text"].to_pylist()]
        table = table.set_column(table.schema.get_field_index("text"), table.schema.field("text"), [changed])
        (other / f"stages/{directory}/unit-{unit:06d}.parquet").unlink()
        run_dir.commit_unit(f"stages/{directory}", unit, table)
    prompts = write(tmp_path / "same.jsonl", texts())
    stages = start(tmp_path, "stale", prompts, f"run.reuse=[{other}]")
    assert stages["generate-main"]["requests"] == 0
    assert stages["judge"]["requests"] == 48, "its judgements were made from other completions"
    # Judgements of the first run belong to the first run's completions, which the other's stand in the place of.
    stages = start(tmp_path, "mixed", prompts, f"run.reuse=[{other},{first}]")
    assert stages["judge"]["requests"] == 48
    stages = start(tmp_path, "first again", prompts, f"run.reuse=[{first},{other}]")
    assert stages["judge"]["requests"] == 0
    assert stages["judge"]["reused_rows"] == {str(first): 48}
    assert judged == stages["judge"]["directory"].removeprefix("stages/")


def test_what_the_judge_reads_beside_the_prompt_counts(first: Path, tmp_path: Path) -> None:
    prompts = write(tmp_path / "told.jsonl", texts(), reference="The answer is 42.", topic="x")
    stages = start(tmp_path, "second", prompts, f"run.reuse=[{first}]", "prompts.reference_column=reference")
    assert (stages["generate-main"]["requests"], stages["judge"]["requests"]) == (0, 48)
    stages = start(tmp_path, "third", write(tmp_path / "more.jsonl", texts(), topic="x"), f"run.reuse=[{first}]")
    assert stages["judge"]["requests"] == 0, "no stage reads a topic"


def test_another_configuration_takes_nothing(first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = write(tmp_path / "same.jsonl", texts())
    stages = start(tmp_path, "second", prompts, f"run.reuse=[{first}]", "judge.orders=1")
    assert (stages["generate-main"]["requests"], stages["judge"]["requests"]) == (0, 24)
    said = capsys.readouterr().err
    assert f"taken from {first}: generate-main of 24 prompts; it holds no judge of this configuration" in said


def test_failed_rows_are_asked_again_where_that_can_help(tmp_path: Path) -> None:
    prompts = write(tmp_path / "prompts.jsonl", texts())
    fail = ("generators.main.model.echo.fail_share=0.3", "run.max_failed_fraction=1", "run.retry_failed=never")
    passing = ("generators.main.model.echo.fail_reason=timeout", "generators.main.model.echo.fail_retryable=true")
    failed = start(tmp_path, "fails", prompts, *fail)["generate-main"]["failed_rows"]
    again = start(tmp_path, "passes", prompts, *fail, *passing)["generate-main"]["failed_rows"]
    assert failed == again > 0
    for name, kept in (("fails", failed), ("passes", 0)):
        stages = start(tmp_path, f"after {name}", prompts, f"run.reuse=[{tmp_path / name}]")
        made = stages["generate-main"]
        assert (made["requests"], made["failed_rows"]) == ((failed - kept) // 2, kept)
        lines = [path.read_text() for path in (tmp_path / f"after {name}/failures").rglob("generate-main/*.jsonl")]
        assert sum(text.count("\n") for text in lines) == kept // 2


def test_killed_at_any_change_it_ends_with_the_same_data(first: Path, tmp_path: Path, life: Life) -> None:
    prompts = write(tmp_path / "edited.jsonl", texts(8, 9))
    start(tmp_path, "alone", prompts)
    expected = dataset(tmp_path / "alone")
    before = sorted(path.name for path in first.rglob("*"))
    config = configure(tmp_path, "second", prompts, f"run.reuse=[{first}]")
    for changes in (11, 13, 14, 17, 20, 22):  # from the first row that is taken to the last unit that is made
        shutil.rmtree(tmp_path / "second", ignore_errors=True)
        assert killed_at(life, changes, lambda: run(config, quiet=True), open_storage(config.run.dir))
        stages = run(config, quiet=True)["stages"]
        assert dataset(tmp_path / "second") == expected
        assert (stages["generate-main"]["requests"], stages["judge"]["requests"]) == (2, 4), changes
    assert before == sorted(path.name for path in first.rglob("*")), "another run is only read"


def test_without_its_source_a_run_goes_on(
    first: Path, tmp_path: Path, life: Life, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = write(tmp_path / "edited.jsonl", texts(8, 9))
    config = configure(tmp_path, "second", prompts, f"run.reuse=[{first}]")
    assert killed_at(life, 12, lambda: run(config, quiet=True), open_storage(config.run.dir))
    alone = configure(tmp_path, "second", prompts)
    assert fingerprint_config(config) == fingerprint_config(alone)
    lost = tmp_path / "lost"
    stages = start(tmp_path, "second", prompts, f"run.reuse=[{lost}]")
    assert f"run.reuse={lost} holds no prompts of a run; give the run.dir of one; the run goes on without it" in (
        capsys.readouterr().err
    )
    assert 0 < sum(stages["generate-main"]["reused_rows"].values()) < 44
    assert stages["generate-main"]["rows"] == 48


@pytest.mark.parametrize(
    ("reuse", "line"),
    [
        ("{here}/none", "run.reuse={here}/none holds no prompts of a run; give the run.dir of one"),
        (
            "{here}/second",
            "run.reuse={here}/second is run.dir itself, whose units are reused in any case; leave it out",
        ),
    ],
)
def test_what_is_no_other_run_is_refused(reuse: str, line: str, tmp_path: Path) -> None:
    prompts = write(tmp_path / "prompts.jsonl", texts())
    config = configure(tmp_path, "second", prompts, f"run.reuse=[{reuse.format(here=tmp_path)}]")
    with pytest.raises(ConfigError) as caught:
        run(config, quiet=True)
    assert str(caught.value) == line.format(here=tmp_path)
    assert "reuse" not in public_config(config).get("run", {}), "paths of machines are nobody's business"
