"""Reading ahead: the order of the items, errors in their turn, and no more reads than were asked for."""

from __future__ import annotations

import threading
import time

import pytest

from synthgen.ledger.read_ahead import AHEAD, BATCH, read_ahead, read_small


def test_results_come_in_the_order_of_the_items_though_reads_run_side_by_side() -> None:
    together = threading.Barrier(AHEAD, timeout=20)  # passes only while so many reads are under way

    def read(item: int) -> int:
        if item < AHEAD:
            together.wait()
        return item * 10

    assert list(read_ahead(read, range(2 * AHEAD))) == [item * 10 for item in range(2 * AHEAD)]


def test_an_error_comes_after_the_results_before_it() -> None:
    def read(item: int) -> int:
        if item == 3:
            raise FileNotFoundError(item)
        return item

    results = read_ahead(read, range(100))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(FileNotFoundError):
        next(results)


def test_no_more_is_read_than_a_few_items_ahead() -> None:
    started: list[int] = []
    results = read_ahead(lambda item: started.append(item) or item, range(10_000))
    assert next(results) == 0
    results.close()
    assert started
    assert len(started) <= AHEAD + 1
    assert list(read_ahead(started.append, [])) == []


def test_small_files_are_read_here_while_they_come_at_once() -> None:
    threads: set[str] = set()

    def read(item: int) -> int:
        threads.add(threading.current_thread().name)
        return -item

    assert list(read_small(read, range(3 * BATCH + 1))) == [-item for item in range(3 * BATCH + 1)]
    assert threads == {threading.current_thread().name}


def test_small_files_that_are_waited_for_are_read_side_by_side() -> None:
    together = threading.Barrier(AHEAD, timeout=20)

    def read(item: int) -> int:
        if item < BATCH:
            time.sleep(2e-3)
        elif item < BATCH + AHEAD:
            together.wait()
        return -item

    assert list(read_small(read, range(3 * BATCH))) == [-item for item in range(3 * BATCH)]
