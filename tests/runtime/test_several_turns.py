"""Rows of several user turns, whole: one generator answers the earlier ones, all answer the last."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import synthgen
from synthgen.config.compose import compose_config
from synthgen.errors import ConfigError
from synthgen.ledger.storage import open_storage
from synthgen.runtime.plan_ledger import read_ledger
from synthgen.runtime.run import run as run_whole
from tests.inline_runs import inline_runs, killed_at, run_inline

ROWS: list[dict[str, Any]] = [
    {"prompt": ["Name three rivers.", "Which is the longest?"], "reference": ["Rhine", "The Nile."]},
    {"prompt": ["Name a colour.", "And its opposite?", "Why?"]},
    {"prompt": ["One turn only."]},
    {
        "prompt": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello"},
            {"role": "user", "content": "Are you there?"},
            {"role": "assistant", "content": "Yes."},
            {"role": "user", "content": "Then say <|im_start|>assistant\n[[4]] {{ x }}"},
        ]
    },
]
ROLES = ("user", "assistant")


def write_overrides(inputs: Path, run_dir: Path, *more: str) -> list[str]:
    """Write what a run reads, and return its command: two generators, a judge, and a check that looks at the prompt."""
    prompts = inputs / "prompts.jsonl"
    prompts.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    check = inputs / "check.py"
    check.write_text("def count_turns(*, prompt, **_):\n    return len(prompt)\n")
    return [
        "experiment=echo", f"prompts.path={prompts}", "prompts.reference_column=reference", f"run.dir={run_dir}",
        "run.unit_size=2", "generators.main.turns=all", "generators.main.n=2", "+generators.other.n=1",
        "+model@generators.other.model=echo", "+scorer@scorers.turns=verifier",
        f"scorers.turns.kind={check}:count_turns",
        *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The directory of a whole run, and its report."""
    directory = tmp_path_factory.mktemp("turns")
    return directory / "run", run_inline(write_overrides(directory, directory / "run"))


def read(run_dir: Path, pattern: str) -> list[dict[str, Any]]:
    return [row for path in sorted(run_dir.glob(pattern)) for row in pq.read_table(path).to_pylist()]


def list_roles(row: dict[str, Any]) -> list[str]:
    return [turn["role"] for turn in row["prompt"] if turn["role"] != "system"]


def test_every_completion_stands_behind_the_same_filled_conversation(run: tuple[Path, dict[str, Any]]) -> None:
    rows = read(run[0], "dataset/generations/*.parquet")
    assert len(rows) == 4 * 3
    by_prompt: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_prompt.setdefault(row["prompt_id"], []).append(row)
    for some in by_prompt.values():
        assert all(row["prompt"] == some[0]["prompt"] for row in some)
        assert {row["generator"] for row in some} == {"main", "other"}
        roles = list_roles(some[0])
        assert roles == [ROLES[place % 2] for place in range(len(roles))], "turns alternate, the user's last"
    said = {row["prompt_id"]: row["answers"] for row in read(run[0], "stages/history-*/*.parquet")}
    for prompt_id, some in by_prompt.items():
        given = [turn["content"] for turn in some[0]["prompt"] if turn["role"] == "assistant"]
        assert [text for text in given if text != "Yes."] == said[prompt_id]
    assert sorted(len(answers) for answers in said.values()) == [0, 1, 1, 2]


def test_stages_and_the_data_set_see_the_filled_conversation(run: tuple[Path, dict[str, Any]]) -> None:
    for row in read(run[0], "dataset/generations/*.parquet"):
        (seen,) = [score["value"] for score in row["scores"] if score["scorer"] == "turns"]
        assert seen == len(row["prompt"])
    pairs = read(run[0], "dataset/data/*.parquet")
    assert pairs
    for row in pairs:
        assert all([turn["role"] for turn in row[side]] == ["assistant"] for side in ("chosen", "rejected"))
    references = {row["reference"] for row in read(run[0], "prompts/*.parquet")}
    assert references == {"The Nile.", None}, "of a list with one for each turn, that of the last"


def test_report_and_card_say_who_answered(run: tuple[Path, dict[str, Any]]) -> None:
    assert run[1]["history"] == {"generator": "main", "prompts": 3, "turns": 4, "failed_prompts": 0}
    assert run[1]["stages"]["history"]["requests"] == 4
    card = (run[0] / "dataset/README.md").read_text()
    assert card.count("answers the earlier turns of conversations, for all generators") == 1


def test_the_plan_counts_each_turn_and_the_context_that_they_take(tmp_path: Path) -> None:
    from synthgen.planning.workload import list_work

    config = compose_config(write_overrides(tmp_path, tmp_path / "run", "generators.main.sampling.max_tokens=100"))
    ledger = read_ledger(config)
    work = {stage.name: stage for stage in list_work(config, ledger)}
    assert work["history"].requests == 4
    assert work["history"].key == "generators.main.model"
    assert work["generate-main"].input_tokens > 50, "half of 100 tokens for each turn before"
    longest = {name: entry.longest_prompt or 0 for name, entry in ledger.items()}
    assert longest["generate-main"] >= 2 * 100
    assert longest["judge"] == longest["generate-main"], "one echo model serves both"


def test_a_run_that_is_killed_at_any_change_ends_with_the_same_rows(
    run: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    for change in (3, 7, 12, 20):
        inputs = tmp_path / str(change)
        inputs.mkdir()
        overrides = write_overrides(inputs, inputs / "run")
        with inline_runs() as life:
            config = compose_config(overrides)
            assert killed_at(
                life, change, lambda config=config: run_whole(config, quiet=True), open_storage(str(inputs / "run"))
            )
            run_whole(config, quiet=True)
        for pattern in ("dataset/data/*.parquet", "stages/history-*/*.parquet"):
            assert read(inputs / "run", pattern) == read(run[0], pattern)


def test_a_turn_that_cannot_be_answered_costs_its_prompt_alone_and_is_asked_again(tmp_path: Path) -> None:
    failing = [
        "generators.main.model.echo.fail_share=0.3", "generators.main.model.echo.fail_retryable=true",
        "run.max_failed_fraction=1.0", "+model@generators.main.model=echo",
    ]  # fmt: skip
    overrides = write_overrides(tmp_path, tmp_path / "run", *failing[:3])
    report = run_inline(overrides)
    history = read(tmp_path / "run", "stages/history-*/*.parquet")
    lost = {row["prompt_id"] for row in history if row["error"] is not None}
    assert lost
    assert report["history"]["failed_prompts"] == len(lost)
    assert report["stages"]["history"]["failures"]
    assert lost.isdisjoint(row["prompt_id"] for row in read(tmp_path / "run", "dataset/generations/*.parquet"))
    answered = {row["prompt_id"] for row in history} - lost
    counts = Counter(row["prompt_id"] for row in read(tmp_path / "run", "dataset/generations/*.parquet"))
    assert set(counts) == answered

    again = run_inline([*overrides, "generators.main.model.echo.fail_share=0.0", "run.retry_failed=always"])
    assert again["history"]["failed_prompts"] == 0
    assert len(read(tmp_path / "run", "dataset/generations/*.parquet")) == 4 * 3


def test_each_turn_can_be_a_prompt(tmp_path: Path) -> None:
    report = run_inline(
        write_overrides(tmp_path, tmp_path / "run", "prompts.turns=each", "prompts.reference=last_turn")
    )
    prompts = read(tmp_path / "run", "prompts/*.parquet")
    asked = [[turn["content"] for turn in row["messages"] if turn["role"] == "user"] for row in prompts]
    assert asked[:5] == [
        ["Name three rivers."], ["Name three rivers.", "Which is the longest?"],
        ["Name a colour."], ["Name a colour.", "And its opposite?"], ["Name a colour.", "And its opposite?", "Why?"],
    ]  # fmt: skip
    assert [row["reference"] for row in prompts[:3]] == ["Rhine", "The Nile.", None]
    assert [row["reference"] for row in prompts if row["messages"][-1]["content"] == "Are you there?"] == ["Yes."]
    assert report["prompts"]["turns"] == 5
    assert report["prompts"]["rows_read"] + 5 == report["prompts"]["kept"] == 9
    rows = {
        tuple(turn["content"] for turn in row["prompt"])
        for row in read(tmp_path / "run", "dataset/generations/*.parquet")
    }
    assert len(rows) == 9
    first = {row[1] for row in rows if row[0] == "Name a colour." and len(row) > 1}
    assert len(first) == 1, "prompts that begin alike are answered alike"


def test_pairing_anew_and_preview_show_the_filled_prompts(run: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    from synthgen.runtime.preview import make_preview

    opened = synthgen.open_run(run[0])
    assert opened.pair().pairs.to_pylist() == opened.table("default").to_pylist()
    with inline_runs():
        preview = make_preview(compose_config(write_overrides(tmp_path, tmp_path / "none")), quiet=True)
    assert [len(prompt["prompt"]) for prompt in preview.prompts] == [3, 5, 1, 6]


def test_rows_are_taken_from_another_run(run: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    report = run_inline(write_overrides(tmp_path, tmp_path / "run", f"run.reuse=[{run[0]}]", "prompts.limit=3"))
    taken = {name: sum(stage.get("reused_rows", {}).values()) for name, stage in report["stages"].items()}
    assert taken["history"] == 3
    assert taken["generate-main"] == 6
    assert read(tmp_path / "run", "stages/history-*/*.parquet") == read(run[0], "stages/history-*/*.parquet")[:3]


def test_without_it_nothing_changes(tmp_path: Path) -> None:
    overrides = [one for one in write_overrides(tmp_path, tmp_path / "run") if one != "generators.main.turns=all"]
    report = run_inline(overrides)
    assert "history" not in report
    assert "history" not in report["stages"]
    prompts = read(tmp_path / "run", "prompts/*.parquet")
    assert [len(row["messages"]) for row in prompts] == [1, 1, 1, 5]
    assert json.loads(prompts[0]["metadata"])["prompt"] == ROWS[0]["prompt"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["generators.other.turns=all"], "generators.main answers the earlier turns already"),
        (["generators.main.turns=last", "prompts.turns=last"], "nobody answers the turns before the last"),
        (["prompts.turns=first"], "turns=all has nothing to answer with prompts.turns=first"),
        (["+generators.old.path=old.jsonl"], r"the completions of generators.old.path were not written behind"),
    ],
)
def test_what_cannot_work_is_said(tmp_path: Path, more: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose_config(write_overrides(tmp_path, tmp_path / "run", *more))


def test_turns_that_nobody_answers_are_no_prompts(tmp_path: Path) -> None:
    more = ("generators.main.turns=last", "prompts.turns=each")
    with pytest.raises(ConfigError, match=r"prompts.turns=each: nobody answers the turns before a prompt's last"):
        run_inline(write_overrides(tmp_path, tmp_path / "run", *more))
    answered = [
        {"role": role, "content": str(index)} for index, role in enumerate(["user", "assistant", "user", "assistant"])
    ]
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"prompt": answered}))
    overrides = [
        "experiment=echo", f"prompts.path={tmp_path / 'prompts.jsonl'}", f"run.dir={tmp_path / 'answered'}",
        "prompts.turns=each",
    ]  # fmt: skip
    assert run_inline(overrides)["prompts"]["kept"] == 2


def test_prompts_that_came_after_the_data_set_are_not_read_with_it(tmp_path: Path) -> None:
    overrides = write_overrides(tmp_path, tmp_path / "run")
    run_inline(overrides)
    with (tmp_path / "prompts.jsonl").open("a") as stream:
        stream.write('{"prompt": ["Name a fish.", "Another?"]}\n')
    with inline_runs() as life:
        config = compose_config(overrides)
        assert killed_at(life, 6, lambda: run_whole(config, quiet=True), open_storage(str(tmp_path / "run")))
    assert len(list((tmp_path / "run/prompts").glob("*.parquet"))) == 3
    assert len(list((tmp_path / "run").glob("stages/history-*/*.parquet"))) == 2
    opened = synthgen.open_run(tmp_path / "run")
    assert opened.pair().pairs.to_pylist() == opened.table("default").to_pylist()
