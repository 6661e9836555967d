"""Run directories that earlier versions left are reused whole: `tests/data/run-<version>/`.

run-0.1.0: `synthgen run experiment=echo prompts.path=prompts.jsonl run.dir=run run.unit_size=8 generators.main.n=3
judge.orders=2 judge.aspects=[helpfulness,honesty] judge.canary_fraction=0.1`, by the code of commit f0991d6.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq

from tests.command_line import synthgen

DATA = Path(__file__).parents[1] / "data"
OVERRIDES = (
    "experiment=echo",
    "prompts.path=prompts.jsonl",
    "run.dir=run",
    "run.unit_size=8",
    "generators.main.n=3",
    "judge.orders=2",
    "judge.aspects=[helpfulness,honesty]",
    "judge.canary_fraction=0.1",
)


def test_run_of_version_0_1_0_is_reused_whole(tmp_path: Path) -> None:
    shutil.copytree(DATA / "run-0.1.0", tmp_path / "old")
    before = sorted(path.name for path in (tmp_path / "old/run/stages").iterdir())
    pairs = pq.read_table(tmp_path / "old/run/dataset/data/train-00000-of-00001.parquet")
    done = synthgen("run", *OVERRIDES, cwd=tmp_path / "old")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "old/run/report.json").read_text())
    assert {name: stage["reused_units"] for name, stage in report["stages"].items()} == {"generate-main": 4, "judge": 4}
    assert sorted(path.name for path in (tmp_path / "old/run/stages").iterdir()) == before
    again = pq.read_table(tmp_path / "old/run/dataset/data/train-00000-of-00001.parquet")
    for column in ("prompt_id", "prompt", "chosen", "rejected"):
        assert again[column].to_pylist() == pairs[column].to_pylist()
