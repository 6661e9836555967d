"""Whole runs whose prompts change between starts: what reads the change runs again, nothing else does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from synthgen.config.compose import compose_config
from synthgen.planning import make_plan
from synthgen.runtime.plan_ledger import read_ledger
from synthgen.runtime.run import run
from tests.inline_runs import inline_runs


@pytest.fixture(scope="module", autouse=True)
def inline() -> Iterator[None]:
    """Runs without Ray: what is tried here is the ledger."""
    with inline_runs():
        yield


class Changing:
    """A run in a directory, over a prompt file that changes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.file = root / "prompts.jsonl"
        self.answers = {f"Question number {i}?": "yes" for i in range(8)}

    def start(self, *overrides: str) -> dict[str, Any]:
        """Write the prompts and run; return the units that each stage made, with the report's prompts and pairs."""
        report = run(compose_config(self.overrides(*overrides)), quiet=True)
        made = {name: stage["units"] - stage["reused_units"] for name, stage in report["stages"].items()}
        return {**made, "prompts": report["prompts"], "pairs": report["pairs"]}

    def plan(self, *overrides: str) -> dict[str, Any]:
        config = compose_config(self.overrides(*overrides))
        return {item.name: item for item in make_plan(config, read_ledger(config)).work}

    def overrides(self, *overrides: str) -> list[str]:
        lines = [json.dumps({"prompt": prompt, "answer": answer}) for prompt, answer in self.answers.items()]
        self.file.write_text("\n".join(lines) + "\n")
        given = [f"prompts.path={self.file}", "prompts.reference_column=answer", f"run.dir={self.root / 'run'}"]
        return ["experiment=echo", "run.unit_size=4", "generators.main.n=2", *given, *overrides]

    def pairs(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = pq.read_table(self.root / "run/dataset/data").to_pylist()
        return rows


@pytest.fixture
def changing(tmp_path: Path) -> Changing:
    return Changing(tmp_path)


def test_edited_reference_is_judged_again_and_plan_says_so(changing: Changing) -> None:
    changing.start()
    assert {name: item.units_done for name, item in changing.plan().items()} == {"generate-main": 2, "judge": 2}
    changing.answers["Question number 6?"] = "no"
    work = changing.plan()
    assert (work["generate-main"].units_done, work["generate-main"].again) == (2, "")
    assert (work["judge"].units_done, work["judge"].again) == (1, "the reference of prompts changed")
    made = changing.start()
    assert (made["generate-main"], made["judge"]) == (0, 1)
    assert [json.loads(row["metadata"])["answer"] for row in changing.pairs()].count("no") <= 1
    assert (changing.start()["judge"], changing.plan()["judge"].again) == (0, "")


def test_late_exclusion_costs_nothing_and_equals_a_fresh_run(changing: Changing) -> None:
    changing.start()
    leaked = changing.root / "leaked.jsonl"
    leaked.write_text(json.dumps({"prompt": "Question number 2?"}) + "\n")
    made = changing.start(f"prompts.exclude=[{leaked}]")
    assert (made["generate-main"], made["judge"]) == (0, 0)
    assert (made["prompts"]["kept"], made["prompts"]["left_out"]) == (7, {"excluded": 1})
    assert "Question number 2?" not in {row["prompt"][-1]["content"] for row in changing.pairs()}
    late = changing.pairs()
    shutil.rmtree(changing.root / "run")
    changing.start(f"prompts.exclude=[{leaked}]")
    assert sorted(late, key=lambda row: row["prompt_id"]) == sorted(changing.pairs(), key=lambda row: row["prompt_id"])
    counted = made["pairs"]
    assert counted["made"] + counted["ties"] + sum(counted["dropped_by_reason"].values()) == 7


def test_edited_prompt_is_dropped_and_added(changing: Changing) -> None:
    changing.start()
    del changing.answers["Question number 5?"]
    changing.answers["Question number five?"] = "yes"
    made = changing.start("prompts.removed=drop")
    assert (made["generate-main"], made["judge"]) == (1, 1), "the new prompt's unit alone"
    assert made["prompts"]["kept"] == 8
    asked = {row["prompt"][-1]["content"] for row in changing.pairs()}
    assert "Question number 5?" not in asked
