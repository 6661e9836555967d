"""The ledger's files: damage is noticed wherever it is, and a file says what it was made from."""

from __future__ import annotations

import errno
import hashlib
import pickle
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synthgen.errors import RunFailedError
from synthgen.ledger.run_dir import (
    COUNTS_KEY,
    INPUTS_KEY,
    CorruptUnitError,
    RunDir,
    StaleUnitError,
    describe_os_error,
    digests_of,
    find_stale,
    unit_path,
)
from synthgen.records import UnitCounts
from tests.object_stores import make_bucket

STAGE = "stages/generate-main-abc"
TABLE = pa.table({"prompt_id": [f"prompt {i}" for i in range(200)], "text": [f"text {i * i}" for i in range(200)]})


def test_any_flipped_bit_is_noticed_or_harmless(tmp_path: Path) -> None:
    run_dir = RunDir(str(tmp_path))
    run_dir.commit_unit(STAGE, 0, TABLE, UnitCounts(rows=200))
    path = tmp_path / unit_path(STAGE, 0)
    whole = path.read_bytes()
    rng = random.Random(0)
    noticed = 0
    for _ in range(300):
        data = bytearray(whole)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(data))
        try:
            table = run_dir.read_unit(STAGE, 0)
        except CorruptUnitError:
            noticed += 1
        else:
            changed = not table.equals(TABLE)
            assert not changed or table.schema != TABLE.schema, "other rows were read without a word"
    assert noticed > 200


@pytest.mark.parametrize("keep", [0, 1, 10, 0.5, 0.999])
def test_torn_files_of_units_and_parts_are_set_aside(tmp_path: Path, keep: float) -> None:
    run_dir = RunDir(str(tmp_path))
    run_dir.commit_unit(STAGE, 0, TABLE)
    run_dir.commit_part(STAGE, 1, (0, 4), TABLE, UnitCounts())
    run_dir.commit_part(STAGE, 1, (4, 8), TABLE, UnitCounts())
    for path in (unit_path(STAGE, 0), f"{STAGE}/parts/unit-000001.4-8.parquet"):
        data = (tmp_path / path).read_bytes()
        (tmp_path / path).write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    assert run_dir.committed(STAGE) == set()
    assert run_dir.parts(STAGE) == {1: [(0, 4)]}
    assert len(run_dir.storage.list("failures/torn")) == 2
    assert run_dir.commit_part(STAGE, 1, (4, 8), TABLE, UnitCounts())


@pytest.mark.parametrize("error", [MemoryError("malloc failed"), OSError(24, "Too many open files")])
def test_error_of_the_machine_says_nothing_about_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    run_dir = RunDir(str(tmp_path))
    run_dir.commit_unit(STAGE, 0, TABLE, UnitCounts(rows=200))

    def fail(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr("synthgen.ledger.run_dir.pq.read_table", fail)
        patched.setattr("synthgen.ledger.run_dir.pq.read_metadata", fail)
        for read in (run_dir.read_unit, run_dir.read_counts):
            with pytest.raises(type(error)):
                read(STAGE, 0)
    assert not run_dir.set_aside(CorruptUnitError(STAGE, 0, "could not be read on some node"))
    assert run_dir.set_aside(StaleUnitError(STAGE, 0))
    assert run_dir.committed(STAGE) == set()


def test_footer_that_holds_nonsense_is_damage(tmp_path: Path) -> None:
    run_dir = RunDir(str(tmp_path))
    path = tmp_path / unit_path(STAGE, 0)
    path.parent.mkdir(parents=True)
    for key, value in ((COUNTS_KEY, b'{"rowz": 1}'), (COUNTS_KEY, b"\xff"), (INPUTS_KEY, b'{"prompts')):
        pq.write_table(TABLE.replace_schema_metadata({key: value}), path)
        with pytest.raises(CorruptUnitError):
            run_dir.read_unit(STAGE, 0)


def test_find_stale_names_what_was_made_from_another_version(tmp_path: Path) -> None:
    run_dir = RunDir(str(tmp_path))

    def read() -> dict[str, pa.Table]:
        return {"generate-main": run_dir.read_unit(STAGE, 0), "judge": run_dir.read_unit("stages/judge-abc", 0)}

    run_dir.commit_unit(STAGE, 0, TABLE)
    inputs = digests_of({"generate-main": run_dir.read_unit(STAGE, 0)})
    run_dir.commit_unit("stages/judge-abc", 0, TABLE, inputs=inputs)
    assert find_stale(read()) is None
    run_dir.discard(STAGE, 0)
    run_dir.commit_unit(STAGE, 0, TABLE.slice(1))
    assert find_stale(read()) == "judge"


def test_digests_stay_what_they_were_or_finished_units_would_be_made_again(tmp_path: Path) -> None:
    run_dir = RunDir(str(tmp_path))
    run_dir.commit_unit(STAGE, 0, TABLE)
    data = (tmp_path / unit_path(STAGE, 0)).read_bytes()
    expected = hashlib.blake2b(data, digest_size=8).hexdigest()
    assert digests_of({"generate-main": run_dir.read_unit(STAGE, 0)}) == {"generate-main": expected}


def test_discard_forgets_the_failures_of_the_unit(tmp_path: Path) -> None:
    run_dir = RunDir(str(tmp_path))
    run_dir.commit_unit(STAGE, 3, TABLE)
    run_dir.write_failures("generate-main", 3, [{"reason": "timeout"}])
    run_dir.discard(STAGE, 3)
    assert [path for path in run_dir.storage.list("failures") if "torn" not in path] == []


def test_corrupt_unit_error_travels(tmp_path: Path) -> None:
    error = StaleUnitError(STAGE, 7, (0, 4))
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.rows, again.unit) == (str(error), (0, 4), 7)
    assert str(error).startswith(f"{STAGE}/parts/unit-000007.0-4.parquet was made from")


@pytest.mark.parametrize("rows", [0, 1, 200])
def test_file_counts_from_its_last_byte_on(tmp_path: Path, rows: int) -> None:
    """An empty table's file is nothing but its footer; each shorter beginning of a file is torn."""
    run_dir = RunDir(str(tmp_path))
    run_dir.commit_unit(STAGE, 0, TABLE.slice(0, rows))
    path = tmp_path / unit_path(STAGE, 0)
    whole = path.read_bytes()
    assert run_dir.committed(STAGE) == {0}
    for length in (0, 3, 4, 8, 11, 12, 13, len(whole) - 8, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert run_dir.committed(STAGE) == set(), length
        path.write_bytes(whole)


def test_file_that_cannot_be_written_ends_the_run_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = RunDir(str(tmp_path))

    def full(path: str, data: bytes) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_dir.storage, "create", full)
    with pytest.raises(RunFailedError, match=r"unit-000000\.parquet could not be written: the disk is full; what was"):
        run_dir.commit_unit(STAGE, 0, TABLE)


def test_who_only_looks_is_told_once_and_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run_dir = RunDir(str(tmp_path))
    run_dir.commit_unit(STAGE, 0, TABLE)
    run_dir.commit_part(STAGE, 1, (0, 2), TABLE, UnitCounts())
    for path in (tmp_path / STAGE).rglob("*.parquet"):
        path.write_bytes(b"torn")
    looked_at = pickle.loads(pickle.dumps(RunDir(str(tmp_path), reads_only=True)))
    for _ in range(3):
        assert looked_at.committed(STAGE) == set()
    assert looked_at.parts(STAGE) == {}
    assert [record.message for record in caplog.records] == [
        f"{STAGE}/unit-000000.parquet is torn; a run makes it again",
        f"{STAGE}/parts/unit-000001.0-2.parquet is torn; a run makes it again",
    ]
    assert len(list((tmp_path / STAGE).rglob("*.parquet"))) == 2
    with pytest.raises(AssertionError, match="is only looked at"):
        looked_at.discard(STAGE, 0)
    with pytest.raises(AssertionError, match="is only looked at"):
        looked_at.commit_unit(STAGE, 1, TABLE)
    assert run_dir.committed(STAGE) == set()
    assert run_dir.parts(STAGE) == {}
    assert "is torn; it is made again" in caplog.records[-1].message
    assert len(list((tmp_path / "failures" / "torn").iterdir())) == 2


def test_unit_that_is_passed_over_counts_as_absent(tmp_path: Path) -> None:
    run_dir = RunDir(str(tmp_path), reads_only=False)
    for unit in range(3):
        run_dir.commit_unit(STAGE, unit, TABLE)
    looked_at = RunDir(str(tmp_path), reads_only=True)
    error = CorruptUnitError(STAGE, 1, "is not whole")
    assert looked_at.pass_over(error)
    assert looked_at.committed(STAGE) == {0, 2}
    assert not looked_at.pass_over(error)  # who meets it again cannot go on
    assert run_dir.committed(STAGE) == {0, 1, 2}


def test_units_in_a_store_are_those_that_lie_there(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = RunDir(f"{make_bucket(s3_endpoint, monkeypatch)}/run")
    assert run_dir.committed(STAGE) == set()
    run_dir.commit_unit(STAGE, 3, TABLE)
    assert run_dir.committed(STAGE) == {3}


def test_json_counts_where_it_has_what_is_asked_for(tmp_path: Path) -> None:
    run_dir = RunDir(str(tmp_path))
    run_dir.write_json("a.json", {"one": 1, "two": 2})
    assert run_dir.read_json("a.json", "one", "two") == {"one": 1, "two": 2}
    assert run_dir.read_json("a.json", "one", "three") is None
    assert run_dir.read_json("b.json") is None


def test_errors_of_files_are_said_in_words() -> None:
    assert describe_os_error(OSError(errno.ENOSPC, "No space left on device")) == "the disk is full"
    assert describe_os_error(PermissionError(errno.EACCES, "Permission denied")) == "permission denied"
    assert describe_os_error(ValueError("first line\nsecond")) == "first line"
