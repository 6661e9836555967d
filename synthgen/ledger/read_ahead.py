"""Reading in order while a few reads are under way: object stores answer slowly, and decoding takes time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

AHEAD = 8
"""Reads under way at a time."""

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
