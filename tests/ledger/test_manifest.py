"""The manifest of a run's prompts: what it says is read back, and what cannot be a manifest is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from synthgen.ledger.manifest import (
    Manifest,
    describe_unit,
    digest_columns,
    digest_ids,
    mark_ids,
    mark_of,
    read_manifest,
    split_marks,
    write_manifest,
)
from synthgen.ledger.run_dir import MANIFEST, RunDir
from synthgen.records import PROMPTS_SCHEMA

DIGESTS = {"file": "0a", "ids": "0b", "reference": "0c", "metadata": "0d"}


def prompts(*references: str | None) -> pa.Table:
    rows = [
        {
            "prompt_id": f"{number:020d}",
            "messages": [{"role": "user", "content": str(number)}],
            "source": "prompts.jsonl",
            "source_row": number,
            "reference": reference,
            "metadata": "{}",
        }
        for number, reference in enumerate(references)
    ]
    return pa.Table.from_pylist(rows, schema=PROMPTS_SCHEMA)


def test_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    run_dir = RunDir(str(tmp_path))
    units = [
        describe_unit(prompts("a", None), "0a", {"0b": ["reference"], "0c": []}),
        describe_unit(prompts("b"), "0d"),
    ]
    written = Manifest("print", [2, 1], units, {"kept": 3}, ["x"], ["y", "z"], "drop")
    write_manifest(run_dir, written)
    assert read_manifest(run_dir) == written
    assert written.left_out == {"excluded": ["x"], "removed": ["y", "z"]}


def test_what_was_kept_is_not_left_out() -> None:
    assert Manifest("print", [1], None, {}, missing=["y"], removed="keep").left_out == {}


@pytest.mark.parametrize(
    "value",
    [
        [],
        {"unit_rows": [1]},
        {"fingerprint": "f", "unit_rows": [2, 0], "stats": {}},
        {"fingerprint": "f", "unit_rows": [-1], "stats": {}},
        {"fingerprint": "f", "unit_rows": "12", "stats": 7},
        {"fingerprint": "f", "unit_rows": [1], "stats": {}, "units": []},
        {"fingerprint": "f", "unit_rows": [1], "stats": {}, "units": [{"file": "0a", "ids": "0b"}]},
        {"fingerprint": "f", "unit_rows": [1], "stats": {}, "units": ["0a"]},
        {"fingerprint": "f", "unit_rows": [1], "stats": {}, "units": [{**DIGESTS, "longest": {"none": 12}}]},
        {"fingerprint": "f", "unit_rows": [1], "stats": {}, "units": [{**DIGESTS, "longest": [12]}]},
    ],
)
def test_what_cannot_be_a_manifest_is_none(tmp_path: Path, value: Any) -> None:
    run_dir = RunDir(str(tmp_path))
    run_dir.write_json(MANIFEST, value)
    assert read_manifest(run_dir) is None


def test_digests_tell_absent_from_empty_and_one_value_from_two() -> None:
    digests = [
        digest_columns(prompts(*given))["reference"] for given in ((None,), ("",), ("", ""), ("ab",), ("a", "b"))
    ]
    assert len(set(digests)) == len(digests)
    assert digest_ids(["a", "b"]) != digest_ids(["b", "a"])


def test_unit_accepts_what_read_nothing_that_changed() -> None:
    unit = describe_unit(prompts("a"), "now", {"then": ["reference"], "same": []})
    assert unit.accepts("now", ["messages", "reference"])
    assert unit.accepts("same", ["messages", "reference"])
    assert unit.accepts("then", ["messages"])
    assert not unit.accepts("then", ["messages", "reference"])
    assert not unit.accepts("never", ["messages"])


def test_marks_are_split_where_they_were_joined() -> None:
    ids = [f"{number:032x}" for number in (3, 2**127, 7)]
    assert split_marks(mark_ids(ids)) == [mark_of(one) for one in ids]
    assert split_marks(b"") == []
