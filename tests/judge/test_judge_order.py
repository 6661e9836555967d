"""Orders and groups: permutations that depend on their key only, and a design that is even in places and directions."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.judge.order import apply_order, design_order, draw_groups, draw_order, invert_order, undo_order


@given(st.integers(0, 64), st.integers())
def test_draw_order_is_a_permutation_that_depends_on_its_key_only(n: int, key: int) -> None:
    order = draw_order(n, key, "prompt")

    assert sorted(order) == list(range(n))
    assert order == draw_order(n, key, "prompt")


def test_draw_order_gives_every_permutation_as_often() -> None:
    counts = Counter(tuple(draw_order(4, "prompt", key)) for key in range(4800))

    assert len(counts) == 24
    chi_square = sum((count - 200) ** 2 / 200 for count in counts.values())
    assert chi_square < 50  # 23 degrees of freedom: p = 0.001 at 49.7


def test_draw_order_is_the_same_on_every_machine() -> None:
    assert draw_order(6, 0, "order", "prompt", "honesty", 0) == [2, 1, 5, 3, 0, 4]


@given(st.permutations(list("abcdefgh")))
def test_undo_order_inverts_apply_order(items: list[str]) -> None:
    order = draw_order(len(items), *items)

    assert undo_order(apply_order(items, order), order) == items
    assert [apply_order(items, order)[slot] for slot in invert_order(order)] == items


@given(st.integers(0, 60), st.integers(2, 16), st.integers(0, 5))
def test_draw_groups_are_balanced_and_complete(n: int, max_size: int, repetition: int) -> None:
    groups = draw_groups(n, max_size, repetition, "prompt")

    assert sorted(number for group in groups for number in group) == list(range(n))
    assert len(groups) == math.ceil(n / max_size)
    sizes = [len(group) for group in groups]
    assert not sizes or (max(sizes) - min(sizes) <= 1 and max(sizes) <= max_size)


@pytest.mark.parametrize("n", range(1, 10))
def test_design_shows_each_text_in_each_place_and_each_pair_in_both_directions(n: int) -> None:
    for orders in range(1, 2 * n + 1):
        rows = [invert_order(design_order(n, repetition, "prompt")) for repetition in range(orders)]
        for text in range(n):
            stood = Counter(row[text] for row in rows)
            assert max(stood.values()) - min(stood[place] for place in range(n)) <= 1
        turned = [abs(sum(1 if row[i] < row[j] else -1 for row in rows)) for i, j in combinations(range(n), 2)]
        if orders % 2:
            assert set(turned) <= {1}
        elif n % 2 == 0 or orders == 2 * n:
            assert set(turned) <= {0}
        else:
            assert set(turned) <= {0, 2}
            assert orders > 2 or turned.count(2) == (n - 1) // 2


@given(st.integers(0, 10).map(lambda half: 2 * half), st.integers(0, 2))
def test_design_of_an_even_number_reverses_every_second_order(n: int, pair: int) -> None:
    rows = [design_order(n, 2 * pair + second, "prompt") for second in (0, 1)]

    assert rows[1] == rows[0][::-1]


def test_design_begins_with_the_drawn_order_and_draws_anew_after_its_square() -> None:
    assert design_order(8, 0, "prompt") == draw_order(8, "prompt", 0)
    assert design_order(8, 8, "prompt") == draw_order(8, "prompt", 1)
    assert design_order(7, 7, "prompt") == draw_order(7, "prompt", 0)[::-1]
    assert design_order(7, 14, "prompt") == draw_order(7, "prompt", 2)


def test_design_of_every_key_is_another() -> None:
    counts = Counter(tuple(design_order(5, 3, "prompt", key)) for key in range(2400))

    assert sum((count - 20) ** 2 / 20 for count in counts.values()) < 170  # 119 degrees of freedom: p = 0.001 at 171
