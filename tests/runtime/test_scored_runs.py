"""Several data sets from one set of completions, by different scorers, in one run directory; whole runs without Ray."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from synthgen.api import open_run
from synthgen.config.compose import compose_config
from synthgen.errors import ConfigError
from synthgen.ledger.storage import open_storage
from synthgen.observe.summary import describe_findings
from synthgen.runtime.run import run
from tests.inline_runs import Life, inline_runs, killed_at

OWN = """
def even(*, completion, **_):
    words = len(completion.split())
    if words % 7 == 0:
        return None
    return 1 - words % 2


def fussy(*, completion, **_):
    raise ValueError("never content")
"""
PROMPTS = 10


@pytest.fixture(scope="module")
def life() -> Iterator[Life]:
    with inline_runs() as life:
        yield life


@pytest.fixture
def base(tmp_path: Path) -> list[str]:
    lines = [{"question": f"What is {i} + {i}?", "answer": f"Sum: {2 * i}\n#### {2 * i}"} for i in range(PROMPTS)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "own.py").write_text(OWN)
    return [
        "experiment=echo",
        f"prompts.path={tmp_path / 'prompts.jsonl'}",
        "prompts.column=question",
        "prompts.reference_column=answer",
        f"run.dir={tmp_path / 'run'}",
        "run.unit_size=4",
        "generators.small.n=2",
        "model@generators.small.model=echo",
        f"scorers.even.kind=python:{tmp_path / 'own.py'}:even",
        "scorers.even.threshold=0.5",
    ]


def make(*overrides: str) -> dict[str, Any]:
    return run(compose_config(overrides), quiet=True)


def read(base: list[str], name: str = "data") -> list[dict[str, Any]]:
    directory = next(o.removeprefix("run.dir=") for o in base if o.startswith("run.dir="))
    rows: list[dict[str, Any]] = pq.read_table(f"{directory}/dataset/{name}").to_pylist()
    return rows


def test_data_sets_of_one_run_ask_nothing_anew(base: list[str], life: Life) -> None:
    report = make(*base)
    assert list(report["stages"]) == ["generate-main", "generate-small", "score-even", "judge"]
    even = report["scorers"]["even"]
    assert even["completions"] == 6 * PROMPTS == even["values"] + even["no_value"]["no_verdict"]
    assert even["values"] == even["passed"] + even["failed"]
    assert even["cost"]["requests"] == 6 * PROMPTS
    assert [(pair["scorer"], pair["other"]) for pair in report["scorer_agreement"]] == [("judge", "even")]
    by_judge = {(row["prompt_id"], row["completion_id"]): row["score"] for row in read(base, "generations")}
    for row in read(base, "generations"):
        judge, own = row["scores"]
        assert (judge["scorer"], judge["value"], own["scorer"]) == ("judge", row["score"], "even")
        expected = None if len(row["text"].split()) % 7 == 0 else float(1 - len(row["text"].split()) % 2)
        assert (own["value"], own["verdict"]) == (expected, None if expected is None else expected == 1)
    assert "even" in Path(report["run_dir"], "dataset/README.md").read_text()

    variants: dict[str, tuple[str, ...]] = {
        "gate": ("pairs.chosen_must_pass=[even]", "pairs.rejected_must_fail=[even]"),
        "score": ("pairs.score=even",),
        "weights": ("pairs.weights={judge: 1, even: 0.5}", "pairs.length_control=true"),
        "by_generator": ("pairs=by_generator", "pairs.chosen_generator=main", "pairs.rejected_generator=small"),
    }
    made = {}
    for name, overrides in variants.items():
        report = make(*base, *overrides)
        assert all(stage["reused_units"] == stage["units"] for stage in report["stages"].values())
        made[name] = read(base)
        own = {(row["prompt_id"], row["completion_id"]): row["scores"][1]["value"] for row in read(base, "generations")}
        pairs = [
            ((row["prompt_id"], row["chosen_completion_id"]), (row["prompt_id"], row["rejected_completion_id"]))
            for row in made[name]
        ]
        assert pairs
        if name in ("gate", "score"):
            assert all((own[chosen], own[rejected]) == (1.0, 0.0) for chosen, rejected in pairs)
        if name == "gate":
            assert all(by_judge[chosen] > by_judge[rejected] for chosen, rejected in pairs)
        if name == "score":
            assert {row["label"]: row["score"] for row in read(base, "kto")} == {True: 1.0, False: 0.0}
        if name == "weights":
            fit = report["score_fit"]
            assert fit["scales"]["judge"]["values"] == 4 * 6  # the first unit alone
            assert fit["length_slope"] != 0
            before, after = (report["lengths"][when] for when in ("before", "after"))
            assert after["pairs"] == len(pairs)
            sides = [row[f"{side}_tokens"] for side in ("chosen", "rejected") for row in made[name]]
            assert sum(sides) == pytest.approx(len(pairs) * (after["chosen_tokens"] + after["rejected_tokens"]))
            longer = sum(row["chosen_tokens"] > row["rejected_tokens"] for row in made[name])
            assert after["longer_chosen_share"] == longer / len(pairs)
            free = make(*base, overrides[0])["lengths"]
            assert (free["before"], free["after"]) == (None, before)
            make(*base, *overrides)
            assert any("without the settings on length" in text for text, _ in describe_findings(report))
        else:
            assert report["lengths"]["before"] is None
        if name == "by_generator":
            sides = [(row["chosen_generator"], row["rejected_generator"]) for row in made[name]]
            assert sides == [("main", "small")] * PROMPTS
        # The same pairs come of the data set alone.
        again = open_run(report["run_dir"]).pair()
        assert again.pairs.to_pylist() == made[name]
    assert len({json.dumps(rows, sort_keys=True, default=str) for rows in made.values()}) == len(variants)


def test_scores_stay_as_they_are_when_the_run_grows(base: list[str], life: Life) -> None:
    weighted = [*base, "pairs.weights={judge: 1, even: 2}", "pairs.length_control=true"]
    make(*weighted, "prompts.limit=6")
    few = {(row["prompt_id"], row["completion_id"]): row["score"] for row in read(base, "generations")}
    make(*weighted)
    many = {(row["prompt_id"], row["completion_id"]): row["score"] for row in read(base, "generations")}
    assert few.items() <= many.items()
    assert len(many) > len(few)


def test_without_a_judge_nothing_of_it_is_left(base: list[str], life: Life) -> None:
    sides = ["pairs=by_generator", "pairs.chosen_generator=main", "pairs.rejected_generator=small"]
    alone = [override for override in base if "scorers." not in override]
    report = make(*alone, *sides, "judge=none")
    assert list(report["stages"]) == ["generate-main", "generate-small"]
    assert "trust" not in report
    assert report["pairs"]["made"] == PROMPTS
    rows = read(base)
    assert {(row["chosen_score"], row["rejected_score"], row["score_margin"]) for row in rows} == {(None, None, None)}
    assert not read(base, "kto")
    assert all(row["judgements"] == [] and "scores" not in row for row in read(base, "generations"))
    card = Path(report["run_dir"], "dataset/README.md").read_text()
    assert "those of main were chosen over those of small" in card
    assert "rated them" not in card
    by_scorer = make(*base, "judge=none")
    assert list(by_scorer["stages"]) == ["generate-main", "generate-small", "score-even"]
    assert {row["chosen_score"] for row in read(base)} == {1.0}


def test_killed_anywhere_a_run_with_scorers_ends_the_same(base: list[str], life: Life, tmp_path: Path) -> None:
    overrides = [*base, "judge=none", "prompts.limit=5", "pairs.chosen_must_pass=[even]"]
    make(*overrides)
    whole = {name: read(base, name) for name in ("data", "kto", "generations")}
    storage = open_storage(str(tmp_path / "run"))
    changes = 0
    while True:
        storage.delete_tree("")
        killed = killed_at(life, changes, lambda: make(*overrides), storage)
        make(*overrides)
        assert {name: read(base, name) for name in whole} == whole
        if not killed:
            break
        changes += 5
    assert changes > 20


def test_check_that_fails_is_a_row_with_a_reason(base: list[str], life: Life, tmp_path: Path) -> None:
    fussy = f"scorers.fussy.kind=python:{tmp_path / 'own.py'}:fussy"
    report = make(*base, fussy, "judge=none", "pairs.score=even", "prompts.limit=4", "run.max_failed_fraction=1")
    assert report["stages"]["score-fussy"]["failures"] == {"raised": 24}
    assert report["scorers"]["fussy"]["no_value"] == {"raised": 24}
    failures = open_run(report["run_dir"]).failures()
    assert {(line["stage"], line["message"]) for line in failures} == {
        ("score-fussy", "ValueError: never content (line 10 of own.py)")
    }


def test_answer_that_no_prompt_has_is_said_before_anything_starts(base: list[str], life: Life) -> None:
    maths = ["scorers.maths.kind=math", "prompts.reference_column=null", "prompts.limit=2"]
    with pytest.raises(ConfigError, match=r"scorers\.maths\.kind=math compares with a right answer, and none of the"):
        make(*base, *maths)
    with pytest.raises(ConfigError, match=r"scorers\.maths\.reference=solution: none of .*; there are answer"):
        make(*base, *maths, "scorers.maths.reference=solution")
    report = make(*base, *maths, "scorers.maths.reference=answer")
    assert report["scorers"]["maths"]["values"] == 12
