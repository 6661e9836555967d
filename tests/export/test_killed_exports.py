"""An export that is killed leaves the earlier data set, or the new one, or (in an object store) none that passes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from killed_exports import export_earlier, export_later, hash_dataset

from tests.command_line import synthgen
from tests.object_stores import make_bucket
from tests.small_runs import write_prompts

PROGRAM = Path(__file__).with_name("killed_exports.py")
RUN = ("experiment=echo", "run.unit_size=4", "judge.canary_fraction=0.0")
EARLIER = ("export.formats=[sft]", "export.test_fraction=0.4")
LATER = ("pairs.min_margin=1.0",)
STRIDE = int(os.environ.get("SYNTHGEN_KILL_EVERY", 7))
"""At every so-manieth change; `make chaos` takes every one."""


def kill(root: str, stride: int, *arguments: str) -> list[dict[str, Any]]:
    """Export `earlier` again, killed at each of its changes (or every `stride`-th): see killed_exports.py."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), root, "earlier", str(stride), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=3600 / STRIDE,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def check_published(row: dict[str, Any]) -> None:
    """What was published is the data set that is there, whole."""
    assert row["published"]["status"] == 0, row
    assert row["published"]["sent"] == row["found"], row


def check_disk(rows: list[dict[str, Any]], earlier: dict[str, str], later: dict[str, str]) -> None:
    """At every moment there is one whole data set, first the earlier one, then the later; the next start ends it."""
    for row in rows:
        check_published(row)
        assert row["then"] == later
        assert row["left_over"] == []
    found = [row["found"] for row in rows]
    exchanged = found.index(later)
    assert exchanged > 0
    assert found == [earlier] * exchanged + [later] * (len(rows) - exchanged)


def test_an_export_on_a_disk_killed_at_any_change_leaves_the_earlier_data_set_or_the_new_one(tmp_path: Path) -> None:
    export_earlier(str(tmp_path / "earlier"))
    export_later(str(tmp_path / "later"))
    rows = kill(str(tmp_path), STRIDE, "units")
    assert len(rows) > 30 / STRIDE
    assert [row["killed"] for row in rows] == [True] * (len(rows) - 1) + [False]
    check_disk(rows, hash_dataset(str(tmp_path / "earlier")), hash_dataset(str(tmp_path / "later")))


@pytest.mark.slow
@pytest.mark.skipif(
    "SYNTHGEN_KILL_EVERY" not in os.environ, reason="SYNTHGEN_KILL_EVERY is not set: a part of make chaos"
)
def test_a_start_killed_at_any_change_leaves_the_earlier_data_set_or_the_new_one(tmp_path: Path) -> None:
    """At every so-manieth change (SYNTHGEN_KILL_EVERY): a start takes seconds, and test_histories.py kills at any."""
    prompts = f"prompts.path={write_prompts(tmp_path / 'prompts.jsonl', 10)}"
    for name, export in (("earlier", EARLIER), ("later", LATER)):
        done = synthgen("run", *RUN, prompts, *export, f"run.dir={tmp_path / name}")
        assert done.returncode == 0, done.stderr
    rows = kill(str(tmp_path), STRIDE, *RUN, *LATER, prompts)
    check_disk(rows, hash_dataset(str(tmp_path / "earlier")), hash_dataset(str(tmp_path / "later")))


def test_an_export_to_an_object_store_killed_at_any_change_leaves_a_whole_data_set_or_one_that_publish_refuses(
    s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = make_bucket(s3_endpoint, monkeypatch)
    export_earlier(f"{bucket}/earlier")
    export_later(f"{bucket}/later")
    earlier, later = (hash_dataset(f"{bucket}/{name}") for name in ("earlier", "later"))
    rows = kill(bucket, STRIDE, "units")
    outcomes = []
    for row in rows:
        assert row["then"] == later
        if row["published"]["status"] == 0:
            check_published(row)
            outcomes.append({json.dumps(earlier): "earlier", json.dumps(later): "later"}[json.dumps(row["found"])])
        else:
            assert "dataset has no .export.json: its export was cut" in row["published"]["said"], row
            assert row["published"]["sent"] == {}
            outcomes.append("none")
    order = ["earlier", "none", "later"]
    assert set(outcomes) == set(order)
    assert outcomes == sorted(outcomes, key=order.index)
