"""Reading in order while a few reads are under way: object stores answer slowly, and decoding takes time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

AHEAD = 8
"""Reads under way at a time."""
BATCH = 64
WORTH_A_THREAD_S = 0.5e-3
"""A read that waits for less than this is over before a thread has taken it and handed it back."""

Item = TypeVar("Item")
Read = TypeVar("Read")


def read_ahead(read: Callable[[Item], Read], items: Iterable[Item]) -> Iterator[Read]:
    """Yield `read(item)` of each item in order; up to AHEAD of them are read in threads before they are asked for.

    Raises:
        Whatever `read` raises, when its turn comes.
    """
    left = iter(items)
    with ThreadPoolExecutor(AHEAD, thread_name_prefix="read") as threads:
        waiting: deque[Future[Read]] = deque(threads.submit(read, item) for item in islice(left, AHEAD))
        while waiting:
            done = waiting.popleft().result()
            waiting.extend(threads.submit(read, item) for item in islice(left, 1))
            yield done
            del done  # or it would stay in memory while the next one is awaited


def read_small(read: Callable[[Item], Read], items: Iterable[Item]) -> Iterator[Read]:
    """Yield `read(item)` of each item in order, as `read_ahead` does, for many small files of which little is made.

    A hundred thousand of them in the page cache are read in this thread in a third of the time; they go to threads
    from the first BATCH on whose reads wait, as those of a network's file system do.
    """
    left = iter(items)
    waited = 0.0
    while waited < WORTH_A_THREAD_S and (batch := list(islice(left, BATCH))):
        began, cpu = time.perf_counter(), time.thread_time()
        found = [read(item) for item in batch]
        waited = (time.perf_counter() - began - (time.thread_time() - cpu)) / len(batch)
        yield from found
    yield from read_ahead(read, left)
