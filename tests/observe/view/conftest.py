"""A report with every part, hostile text, and a run directory whose data set holds it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synthgen.ledger.run_dir import RunDir
from synthgen.records import PAIRS_SCHEMA, SCORED_GENERATIONS_SCHEMA

HOSTILE = (
    "</script><script>window.hacked=1</script><img src=x onerror='window.hacked=2'><!-- &lt; "
    "NUL:\x00 escape:\x1b[31m override:\u202eevil\u202c separator:\u2028 mark:\ufeff"
)
RIGHT_TO_LEFT = "مرحبا بالعالم (test) שלום עולם 123."
LONG_LINE = "x" * 100_000

JUDGEMENT = {
    "aspect": "helpfulness", "repetition": 0, "rating": 4, "expected": 3.75, "status": "ok", "judge_model": "echo",
}  # fmt: skip


def make_pair(number: int, prompt: str, chosen: str, rejected: str, source: str = "prompts.jsonl") -> dict[str, Any]:
    """Return a row of PAIRS_SCHEMA."""
    return {
        "prompt_id": f"{number:020x}",
        "prompt": [{"role": "user", "content": prompt}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        "chosen_model": "model-a", "rejected_model": f"model-{'ab'[number % 2]}",
        "chosen_generator": "main", "rejected_generator": "main",
        "chosen_completion_id": "main:0", "rejected_completion_id": "main:1",
        "chosen_score": 4.0 + number / 100, "rejected_score": 2.0, "score_margin": 2.0 + number / 100,
        "chosen_tokens": 7, "rejected_tokens": 5,
        "pair_policy": "best_worst", "pair_index": 0, "source": source, "metadata": "{}",
    }  # fmt: skip


def make_generation(pair: dict[str, Any], side: str) -> dict[str, Any]:
    """Return the row of SCORED_GENERATIONS_SCHEMA of one side of a pair."""
    row: dict[str, Any] = dict.fromkeys(SCORED_GENERATIONS_SCHEMA.names)
    text = pair[side][0]["content"]
    return row | {
        "prompt_id": pair["prompt_id"], "completion_id": pair[f"{side}_completion_id"], "generator": "main",
        "model": pair[f"{side}_model"], "sample_index": 0, "seed": 1, "text": text, "prompt": pair["prompt"],
        "score": pair[f"{side}_score"], "judgements": [JUDGEMENT | {"rationale": f"because of {text[:40]}"}],
    }  # fmt: skip


@pytest.fixture(scope="session")
def pairs() -> list[dict[str, Any]]:
    """Forty pairs; the first three are hostile."""
    hostile = [
        make_pair(0, HOSTILE, HOSTILE, RIGHT_TO_LEFT, source="<b>hostile</b>.jsonl"),
        make_pair(1, RIGHT_TO_LEFT, LONG_LINE, "\x00" * 300),
        make_pair(2, "needle in the prompt", "many\n" * 60, ""),
    ]
    return hostile + [make_pair(i, f"question {i}", f"good answer {i}", f"bad answer {i}") for i in range(3, 40)]


@pytest.fixture
def run_dir(tmp_path: Path, pairs: list[dict[str, Any]]) -> RunDir:
    """A run directory that holds the pairs and their judgements, in row groups of seven."""
    for name, schema, rows in (
        ("data", PAIRS_SCHEMA, pairs),
        (
            "generations",
            SCORED_GENERATIONS_SCHEMA,
            [make_generation(p, s) for p in pairs for s in ("chosen", "rejected")],
        ),
    ):
        path = tmp_path / "dataset" / name / "train-00000-of-00001.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, row_group_size=7)
    return RunDir(str(tmp_path))


@pytest.fixture(scope="session")
def report() -> dict[str, Any]:
    """A report.json with every part that the page shows, its text hostile where text is free."""
    loaded: dict[str, Any] = json.loads(Path(__file__).with_name("report.json").read_text(encoding="utf-8"))
    loaded["stages"]["judge"]["failures"] = {HOSTILE: 3}
    loaded["prompts"]["bad"] = {HOSTILE: 4}
    loaded["run_dir"] = f"/runs/{HOSTILE}"
    return loaded
