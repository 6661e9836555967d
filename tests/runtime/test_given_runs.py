"""Completions that exist already, judged, scored and paired beside fresh ones; whole runs without Ray."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from synthgen.config.compose import compose_config
from synthgen.errors import ConfigError
from synthgen.ledger.storage import open_storage
from synthgen.planning import make_plan
from synthgen.runtime.run import run
from tests.inline_runs import Life, inline_runs, killed_at, run_inline

PROMPTS = 10
JUDGED = ("experiment=echo", "~generators.main", "run.unit_size=4")
RECORDED = ("scorers.human.type=recorded", "scorers.human.generator=mine")


@pytest.fixture(scope="module")
def life() -> Iterator[Life]:
    with inline_runs() as life:
        yield life


def write_pairs(path: Path, *, better: str = "It is {}.", prompts: int = PROMPTS) -> Path:
    rows = [
        {
            "prompt": f"What is {i} + {i}?",
            "chosen": better.format(2 * i),
            "rejected": f"It might be {i}, or perhaps some other number.",
            "chosen_model": "org/large",
        }
        for i in range(prompts)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def make(*overrides: str) -> dict[str, Any]:
    return run(compose_config(overrides), quiet=True)


def read(directory: Path, name: str = "data") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(directory / "dataset" / name).to_pylist()
    return rows


def test_given_choices_are_kept_turned_round_or_dropped_by_name(tmp_path: Path, life: Life) -> None:
    mine = f"generators.mine.path={write_pairs(tmp_path / 'mine.jsonl')}"
    recorded = ("scorers.given.type=recorded", "scorers.given.generator=mine")
    overrides = [*JUDGED, mine, *recorded, f"run.dir={tmp_path / 'run'}"]
    made: dict[str, dict[str, str]] = {}
    for name in ("keep", "flip", "drop"):
        report = make(*overrides, f"pairs={name}_given")
        made[name] = {row["prompt_id"]: row["chosen_completion_id"] for row in read(tmp_path / "run")}
    judge, keep = made["flip"], made["keep"]
    assert len(keep) == len(judge) == PROMPTS
    assert 0 < len(made["drop"]) < PROMPTS
    assert made["drop"] == {prompt: choice for prompt, choice in keep.items() if judge[prompt] == choice}
    assert report["flips"][0]["flip_rate"] == 1 - len(made["drop"]) / PROMPTS


def test_own_pairs_are_judged_again_and_say_how_often_the_judge_disagrees(tmp_path: Path, life: Life) -> None:
    mine = f"generators.mine.path={write_pairs(tmp_path / 'mine.jsonl')}"
    overrides = [*JUDGED, mine, *RECORDED, f"run.dir={tmp_path / 'run'}", "generators.mine.model.license=mit"]
    plan = make_plan(compose_config(overrides))
    assert {item.name: item.requests > 0 for item in plan.work} == {
        "generate-mine": False, "score-human": False, "judge": True,
    }  # fmt: skip
    report = make(*overrides)
    assert {name: stage["requests"] > 0 for name, stage in report["stages"].items()} == {
        "generate-mine": False, "score-human": False, "judge": True,
    }  # fmt: skip
    rows = read(tmp_path / "run", "generations")
    assert {row["model"] for row in rows} == {"org/large", "mine"}
    recorded = {(row["prompt_id"], row["completion_id"]): row["scores"][1]["value"] for row in rows}
    assert sorted(recorded.values()) == [0.0] * PROMPTS + [1.0] * PROMPTS
    flipped = sum(recorded[row["prompt_id"], row["chosen_completion_id"]] == 0 for row in read(tmp_path / "run"))
    (agreement,) = report["scorer_agreement"]
    assert agreement["comparisons"] == PROMPTS
    assert agreement["flip_rate"] == flipped / PROMPTS > 0
    (flips,) = report["flips"]
    assert (flips["recorded"], flips["scorer"], flips["flip_rate"]) == ("human", "judge", flipped / PROMPTS)
    assert sum(part["comparisons"] for part in flips["by_margin"]) == PROMPTS
    assert sum(part["comparisons"] * (part["flip_rate"] or 0) for part in flips["by_margin"]) == pytest.approx(flipped)
    assert flips["by_length"]["chosen_longer"]["comparisons"] == 0
    page = (tmp_path / "run/report.html").read_text()
    assert "Given choices that judge would turn round (human and judge)" in page
    assert all(one["prompt_id"] in page for one in flips["examples"])
    by_judge = {(row["prompt_id"], row["completion_id"]): row["score"] for row in rows}
    assert len(flips["examples"]) == flipped
    for one in flips["examples"]:
        sides = [(one["prompt_id"], one[f"recorded_{side}"]) for side in ("chosen", "rejected")]
        assert [recorded[side] for side in sides] == [1.0, 0.0]
        assert one["margin"] == pytest.approx(by_judge[sides[1]] - by_judge[sides[0]], abs=1e-5)
    card = (tmp_path / "run/dataset/README.md").read_text()
    assert "license: mit" in card

    kept = make(*overrides, "pairs.score=human")
    assert all(stage["reused_units"] == stage["units"] for stage in kept["stages"].values())
    assert [row["chosen"][0]["content"][:6] for row in read(tmp_path / "run")] == ["It is "] * PROMPTS
    dropped = make(*overrides, "pairs.chosen_must_pass=[human]", "pairs.rejected_must_fail=[human]")
    assert dropped["pairs"]["made"] == PROMPTS - flipped


def test_own_completions_stand_beside_fresh_ones(tmp_path: Path, life: Life) -> None:
    questions = [f"What is {i} + {i}?" for i in range(PROMPTS)]
    lines = [{"instruction": q, "response": f"{m} says {q}", "model": m} for q in questions for m in ("a", "b", "b")]
    (tmp_path / "long.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "prompts.txt").write_text("\n".join([*questions, "And now something else?"]))
    report = make(
        "experiment=echo",
        f"generators.mine.path={tmp_path / 'long.jsonl'}",
        f"prompts.path={tmp_path / 'prompts.txt'}",
        f"run.dir={tmp_path / 'run'}",
        "pairs=by_generator",
        "pairs.chosen_generator=mine",
        "pairs.rejected_generator=main",
    )
    assert report["stages"]["generate-mine"]["rows"] == 2 * PROMPTS  # equal texts once
    assert report["stages"]["generate-main"]["rows"] == 4 * (PROMPTS + 1)
    assert report["pairs"]["dropped_by_reason"] == {"generator_absent": 1}
    assert {row["chosen_model"] for row in read(tmp_path / "run")} <= {"a", "b"}
    assert report["trust"]["generator_models"] == {"main": "echo", "mine": "mine"}


def test_only_what_has_changed_in_the_file_is_judged_again(tmp_path: Path, life: Life) -> None:
    path = write_pairs(tmp_path / "mine.jsonl")
    overrides = [*JUDGED, f"generators.mine.path={path}", *RECORDED, f"run.dir={tmp_path / 'run'}"]
    make(*overrides)
    lines = path.read_text().splitlines()
    lines[-1] = lines[-1].replace("It is 18.", "Eighteen.")
    path.write_text("\n".join([*lines, json.dumps({"prompt": "New?", "chosen": "Yes.", "rejected": "No, or maybe."})]))
    report = make(*overrides)
    assert (report["stages"]["judge"]["units"], report["stages"]["judge"]["reused_units"]) == (4, 2)
    texts = {row["text"] for row in read(tmp_path / "run", "generations")}
    assert {"Eighteen.", "Yes."} <= texts
    assert "It is 18." not in texts


def test_another_column_in_the_file_makes_nothing_anew(tmp_path: Path, life: Life) -> None:
    path = write_pairs(tmp_path / "mine.jsonl")
    overrides = [*JUDGED, f"generators.mine.path={path}", *RECORDED, f"run.dir={tmp_path / 'run'}"]
    make(*overrides)
    rows = [json.loads(line) | {"topic": "sums"} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = make(*overrides)
    assert {stage["reused_units"] for stage in report["stages"].values()} == {3}
    assert {json.loads(row["metadata"])["topic"] for row in read(tmp_path / "run")} == {"sums"}


def test_killed_anywhere_a_run_with_own_completions_ends_the_same(tmp_path: Path, life: Life) -> None:
    path = write_pairs(tmp_path / "mine.jsonl", prompts=5)
    overrides = [*JUDGED, f"generators.mine.path={path}", *RECORDED, f"run.dir={tmp_path / 'run'}", "judge=none"]
    make(*overrides)
    whole = {name: read(tmp_path / "run", name) for name in ("data", "generations")}
    storage = open_storage(str(tmp_path / "run"))
    changes = 0
    while True:
        storage.delete_tree("")
        killed = killed_at(life, changes, lambda: make(*overrides), storage)
        make(*overrides)
        assert {name: read(tmp_path / "run", name) for name in whole} == whole
        if not killed:
            break
        changes += 5
    assert changes > 15


def test_file_that_holds_nothing_for_the_run_is_said(tmp_path: Path, life: Life) -> None:
    path = write_pairs(tmp_path / "mine.jsonl")
    (tmp_path / "prompts.txt").write_text("Another one?\nAnd a second?")
    other = [
        *JUDGED,
        f"generators.mine.path={path}",
        f"run.dir={tmp_path / 'run'}",
        f"prompts.path={tmp_path}/prompts.txt",
    ]
    with pytest.raises(
        ConfigError, match=r"generators\.mine\.path=.*mine\.jsonl holds no completion of the run's prompts"
    ):
        make(*other)
    with pytest.raises(ConfigError, match=r"scorers\.human\.generator=None must name a generator with a path"):
        make(*other, "scorers.human.type=recorded")
    with pytest.raises(ConfigError, match=r"generators\.main\.column=a is for completions that exist; give"):
        compose_config(["experiment=echo", "generators.main.column=a"])


def test_a_finished_distiset_becomes_a_run_with_its_ratings_and_models(tmp_path: Path) -> None:
    """The columns are those that distilabel 1.5 writes: GroupColumns, then UltraFeedback, saved to the disk."""
    from datasets import Dataset, DatasetDict

    rows = [
        {
            "instruction": f"Question {i}?",
            "topic": f"t{i}",
            "generations": [
                f"Of {i} the first model says little.",
                f"The second, asked about {i}, tells it all: yes.",
            ],
            "generation_models": ["org/one", "org/two"],
            "distilabel_metadata": {"raw_output_uf": "#### Output for Text 1\nRating: 2"},
            "ratings": [2, 5] if i % 2 else [4, None],
            "rationales": ["because", "so"],
            "model_name": "org/the-judge",
        }
        for i in range(6)
    ]
    DatasetDict({"train": Dataset.from_list(rows)}).save_to_disk(tmp_path / "distiset" / "default")
    run_inline(
        [
            "experiment=echo", "judge=none", "~generators.main", f"+generators.distilabel.path={tmp_path / 'distiset'}",
            "scorers.uf.type=recorded", "scorers.uf.generator=distilabel", f"run.dir={tmp_path / 'run'}",
        ]
    )  # fmt: skip
    pairs = pq.read_table(tmp_path / "run/dataset/data").to_pylist()
    assert {(row["chosen_model"], row["rejected_model"]) for row in pairs} == {("org/two", "org/one")}
    assert [row["score_margin"] for row in pairs] == [3.0] * 3
    assert all(json.loads(row["metadata"])["topic"].startswith("t") for row in pairs)
    texts = pq.read_table(tmp_path / "run/dataset/generations").to_pylist()
    assert {row["model"] for row in texts} == {"org/one", "org/two"}, "the judge wrote none of them"
