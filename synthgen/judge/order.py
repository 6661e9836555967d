"""In which groups and in which order completions are shown to the judge, and how a result is put back in place.

Completions are numbered as the run lists them (canonical order). An order is a permutation: order[slot] is the number
of the completion that is shown at place `slot`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

from synthgen.records import canonical_json

T = TypeVar("T")


def draw_order(n: int, *key: object) -> list[int]:
    """Return a permutation of range(n) that depends on `key` only; all n! are equally likely (to 2⁻⁶⁴)."""
    digest = hashlib.shake_256(canonical_json(key).encode("utf-8", "surrogatepass")).digest(n + 8)
    code = int.from_bytes(digest, "big")
    rest = list(range(n))
    order = []
    for size in range(n, 0, -1):  # the Lehmer code of the permutation: n! < 256ⁿ
        code, pick = divmod(code, size)
        order.append(rest.pop(pick))
    return order


def draw_groups(n: int, max_size: int, repetition: int, *key: object) -> list[list[int]]:
    """Return the orders in which range(n) is shown: ceil(n / max_size) groups whose sizes differ by one at most.

    All of a repetition's groups, one after the other, are a row of the design (`design_order`).
    """
    order = design_order(n, repetition, *key)
    count = -(-n // max_size)
    size, larger = divmod(n, count) if count else (0, 0)
    groups = []
    begin = 0
    for group in range(count):
        end = begin + size + (group < larger)
        groups.append(order[begin:end])
        begin = end
    return groups


def design_order(n: int, repetition: int, *key: object) -> list[int]:
    """Return row `repetition` of a design of orders: a Latin square over a base order that `key` draws.

    Over n repetitions each item stands in each place once, and of any number of first repetitions no item was in a
    place twice before it was in all of them. Each two items stand in both directions as often, to one repetition: the
    rows are those of Williams's square (1949, doi 10.1071/CH9490149), in which an even n has a row beside its reverse
    (the first two are the base order and its reverse). For an odd n that is not possible: of two rows, (n - 1) / 2
    pairs of items keep their direction, and the next n repetitions are the square's rows reversed. Whatever follows
    has a base order of its own.
    """
    cycle, row = divmod(repetition, max(n, 1))
    mirrored = n % 2 == 1 and cycle % 2 == 1
    base = draw_order(n, *key, cycle - mirrored)
    zigzag = [0, *(step for k in range(1, n // 2 + 1) for step in (k, n - k))][:n]  # 0, 1, -1, 2, -2, … modulo n
    place = invert_order(zigzag)
    half = (n + 1) // 2
    shift = row // 2 + (half if row % 2 else 0)
    order = [base[place[(step + shift) % n]] for step in zigzag]
    return order[::-1] if mirrored else order


def apply_order(items: Sequence[T], order: Sequence[int]) -> list[T]:
    """Return `items` (canonical) as they are shown: element `slot` is items[order[slot]]."""
    return [items[number] for number in order]


def undo_order(shown: Sequence[T], order: Sequence[int]) -> list[T]:
    """Return what was found per place back in canonical order; the inverse of `apply_order`."""
    return [shown[slot] for slot in invert_order(order)]


def invert_order(order: Sequence[int]) -> list[int]:
    """Return the place where each item was shown: slots[number] is the slot with order[slot] == number."""
    slots = [0] * len(order)
    for slot, number in enumerate(order):
        slots[number] = slot
    return slots
