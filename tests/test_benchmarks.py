"""The benchmarks' own arithmetic, and the one benchmark that is quick enough to run here."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import rows
from benchmarks.engines import Engines
from benchmarks.judge import find_cached_share
from benchmarks.outcome import Target, interleave, ratios
from benchmarks.passes import PassReader, note_call
from benchmarks.peer_process import Peer, PeerProcess


def test_measure_rows_prices_every_step_of_both_stages() -> None:
    with Engines() as engines:
        outcome = rows.measure(engines, True)
    assert [row["stage"] for row in outcome.rows] == ["generate-main", "judge"]
    assert all(row[step] > 0 for row in outcome.rows for step in rows.STEPS)
    json.dumps(outcome.as_json())


def test_interleave_reverses_the_order_each_time() -> None:
    order: list[str] = []

    def note(name: str) -> float:
        order.append(name)
        return float(len(order))

    found = interleave({"a": lambda: note("a"), "b": lambda: note("b")}, 3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert found == {"a": [1, 4, 5], "b": [2, 3, 6]}
    assert ratios(found["a"], found["b"]) == [1 / 2, 4 / 3, 5 / 6]


@pytest.mark.parametrize(("value", "at_most", "met"), [(1.0, False, True), (0.9, False, False), (0.9, True, True)])
def test_target_is_met(value: float, at_most: bool, met: bool) -> None:
    assert Target("speed", value, 1.0, at_most).met is met


def test_find_cached_share_counts_whole_blocks_and_never_the_last_token() -> None:
    assert find_cached_share([[1, 2, 3, 4], [1, 2, 3, 5]], block=2) == 2 / 8
    assert find_cached_share([[1, 2, 3, 4], [1, 2, 3, 4]], block=2) == 2 / 8
    assert find_cached_share([[1, 2, 3], [4, 2, 3]], block=1) == 0


def test_pass_reader_counts_rows_of_its_pass_and_waits_for_files_being_written(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    note_call(tmp_path)
    reader = PassReader(tmp_path, 1, "statistics.tokens", known=set())
    rows = [{"pass": number, "statistics": {"tokens": 5}} for number in (0, 1, 1)]
    whole, half = tmp_path / "results" / "a.parquet", tmp_path / "results" / "b.parquet"
    pq.write_table(pa.Table.from_pylist(rows), whole)
    half.write_bytes(whole.read_bytes()[:-8])
    reader.read_new()
    assert (reader.rows, reader.output_tokens) == (2, 10)
    note_call(tmp_path)
    half.write_bytes(whole.read_bytes())
    written_at = reader.opened_at + 60
    os.utime(half, (written_at, written_at))  # some kernels stamp files by a clock that is a little behind
    reader.read_new()
    assert (reader.rows, reader.output_tokens) == (4, 20)
    assert 0 < reader.find_elapsed_s() < reader.ended_at - reader.opened_at


def test_peer_process_refuses_batches_that_cross_passes(tmp_path: Path) -> None:
    peer = Peer("peer", "no.module", "tokens", 1.0, 3, 3, {})
    with pytest.raises(ValueError, match="a batch of 3 would wait for rows of the next pass"):
        PeerProcess(peer, tmp_path / "peer", {"passes": [[{}] * 6, [{}] * 4, [{}]], "environment": {}})
