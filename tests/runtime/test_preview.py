"""Preview: whole runs of a few prompts on echo engines, with nothing left behind."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from synthgen.cli import run_command
from synthgen.config.compose import compose_config
from synthgen.errors import RunFailedError
from synthgen.runtime.preview import Preview, make_preview, render_preview, write_preview
from tests.inline_runs import inline_runs

ONE_REPLICA = ["generators.main.model.replicas=1", "judge.model.replicas=1"]
HOSTILE = "[bold]x[/bold] \x1b[2J \u202e </script><script>window.hacked=1</script>"


@pytest.fixture(scope="module", autouse=True)
def inline() -> Iterator[None]:
    """Without Ray: the commands of docs/quickstart.md try it whole."""
    with inline_runs():
        yield


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    texts = ["What is a lighthouse?", HOSTILE, "Third question", "Fourth question"]
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    return path


@pytest.fixture(scope="module")
def preview(prompts: Path, tmp_path_factory: pytest.TempPathFactory) -> Preview:
    """A preview of three prompts; its run directory must stay absent."""
    run_dir = tmp_path_factory.mktemp("runs") / "run"
    temporary = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(temporary))
        config = compose_config(
            ["experiment=echo", f"prompts.path={prompts}", "preview.prompts=3", f"run.dir={run_dir}", *ONE_REPLICA]
        )
        made = make_preview(config, quiet=True)
    assert not run_dir.exists()
    assert list(run_dir.parent.iterdir()) == []
    assert list(temporary.iterdir()) == []
    return made


def show(preview: Preview, width: int) -> str:
    console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(render_preview(preview, width))
    return console.export_text()


def test_preview_takes_the_first_prompts_with_all_their_completions(preview: Preview) -> None:
    assert [prompt["prompt"][-1]["content"] for prompt in preview.prompts] == [
        "What is a lighthouse?", HOSTILE, "Third question",
    ]  # fmt: skip
    for prompt in preview.prompts:
        completions = prompt["completions"]
        assert len(completions) == 4
        assert all(one["judgements"] for one in completions)
        roles = [one["role"] for one in completions if one["role"]]
        assert sorted(roles) in ([], ["chosen", "rejected"])
        if roles:
            scores = {one["role"]: one["score"] for one in completions}
            assert scores["chosen"] == max(one["score"] for one in completions)


@pytest.mark.parametrize(("width", "beside"), [(70, 1), (80, 2), (160, 4)])
def test_render_preview_puts_side_by_side_what_fits(preview: Preview, width: int, beside: int) -> None:
    text = show(preview, width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert max(line.count("╭") for line in lines) == beside
    assert text.count("overall-rating: ") == 12
    assert "3 prompts · " in text
    assert "nothing was kept" in text


def test_render_preview_sends_no_control_characters(preview: Preview) -> None:
    text = show(preview, 120)
    assert "[bold]x[/bold] \\x1b[2J \\x202e" in text
    assert not set(text) & {"\x1b", "\u202e"}


def test_render_preview_clips_what_is_long(preview: Preview) -> None:
    prompt: dict[str, Any] = {**preview.prompts[0], "prompt": [{"role": "user", "content": "y" * 100_000}]}
    text = show(Preview(preview.report, [prompt]), 80)
    assert "… (98,800 more characters)" in text.replace("\n", "")
    assert len(text) < 6000


def test_write_preview_makes_a_page(preview: Preview, tmp_path: Path) -> None:
    write_preview(preview, tmp_path / "preview.html")
    page = (tmp_path / "preview.html").read_text(encoding="utf-8")
    assert "<script>window.hacked" not in page
    assert page.count("What is a lighthouse?") == 1
    with pytest.raises(RunFailedError, match=r"preview\.html="):
        write_preview(preview, tmp_path / "absent" / "preview.html")


def test_preview_command_shows_prompts(prompts: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    overrides = [f"prompts.path={prompts}", "preview.prompts=1", f"run.dir={tmp_path}/run", *ONE_REPLICA]
    assert run_command(["preview", "experiment=echo", *overrides]) == 0
    assert "prompt 1 of 1" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_preview_of_a_task_shows_what_it_read(prompts: Path, tmp_path: Path) -> None:
    overrides = [f"prompts.path={prompts}", "preview.prompts=2", f"run.dir={tmp_path}/run", "task.model.replicas=1"]
    made = make_preview(compose_config(["experiment=task_complexity", *overrides]), quiet=True)
    assert [len(prompt["completions"]) for prompt in made.prompts] == [1, 1]
    text = show(made, 80)
    assert text.count("scores: ") == 2
    assert "2 prompts · " in text


def test_preview_of_no_prompt_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["preview", "experiment=echo", "preview.prompts=0"]) == 2
    assert "preview.prompts=0 must be at least 1" in capsys.readouterr().err
