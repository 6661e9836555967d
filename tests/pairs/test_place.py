"""What places add: found whatever its shape, the number of texts and of orders; not found where there is nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from judged_tables import make_judgement, make_prompts, to_judgements
from simulated_places import SHAPES, add_places, simulate_places

from synthgen.config import PairsConfig
from synthgen.pairs import pair_unit
from synthgen.pairs.estimates import estimate
from synthgen.pairs.place import estimate_place

KEY = "overall-rating"


@pytest.mark.parametrize("n", range(2, 9))
def test_what_places_add_is_found_whatever_its_shape(n: int) -> None:
    taken_out = added = 0.0
    for orders in sorted({1, 2, (n + 1) // 2, n}):
        for number, shape in enumerate(SHAPES.values()):
            points = shape(n) - shape(n).mean()
            _, judgements = simulate_places(120, n, orders, add_places(points), seed=100 * n + 10 * orders + number)
            found = estimate_place(judgements, use_expected=True).points.get((KEY, n), np.zeros(n))
            error = 0.8 / np.sqrt(120)  # of the mean of the ratings in a place, with one order
            assert np.abs(found - points).max() < 4 * error
            taken_out, added = taken_out + found @ points, added + points @ points
    assert taken_out / added == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("orders", [1, 2])
def test_of_a_judge_without_a_liking_nothing_is_taken_out(orders: int) -> None:
    runs = [simulate_places(40, 4, orders, add_places(np.zeros(4)), seed=seed)[1] for seed in range(100)]
    found = [estimate_place(judgements, use_expected=True) for judgements in runs]
    assert sum(bool(effects.points) for effects in found) <= 11  # 5 in 100, whose ratings move a little
    assert all((KEY, 4) in effects.measured for effects in found)


def test_a_liking_is_found_where_two_orders_cannot_tell_it_by_their_difference() -> None:
    """Opposite orders of a judge without noise: first and last are the same to every text, not to the texts."""
    points = SHAPES["both ends"](4) - 0.5
    _, judgements = simulate_places(200, 4, 2, add_places(points), noise=0.0)
    found = estimate_place(judgements, use_expected=True).points[KEY, 4]
    assert found == pytest.approx(points, abs=0.15)


def test_few_data_shrink_what_is_taken_out() -> None:
    _, judgements = simulate_places(8, 3, 1, add_places(SHAPES["first"](3) * 2), seed=1)
    effects = estimate_place(judgements, use_expected=True)
    found, measured = effects.points[KEY, 3], effects.measured[KEY, 3]
    assert 0 < np.abs(found).max() < np.abs(measured).max()
    one = judgements.slice(0, 1)
    assert estimate_place(one, use_expected=True).points == {}
    assert estimate_place(judgements.slice(0, 0), use_expected=True).points == {}


def test_each_aspect_and_number_of_texts_has_its_own_places() -> None:
    random = np.random.default_rng(1)
    rows = []
    for prompt in range(300):
        for aspect, liked in (("honesty", 0), ("helpfulness", 1)):
            n = 2 + prompt % 2
            slots = random.permutation(n).tolist()
            values = [3 + random.normal(0, 0.3) + (slot == liked) for slot in slots]
            rows.append(make_judgement(f"p{prompt}", [3] * n, aspect=aspect, slots=slots, expected=values))
    points = estimate_place(to_judgements(rows), use_expected=True).points
    assert set(points) == {(aspect, n) for aspect in ("honesty", "helpfulness") for n in (2, 3)}
    assert points["honesty", 2] == pytest.approx([0.5, -0.5], abs=0.1)
    assert points["helpfulness", 3] == pytest.approx([-1 / 3, 2 / 3, -1 / 3], abs=0.12)


def _pair(*, correct: bool, orders: int, **settings: Any) -> tuple[Any, np.ndarray]:
    """Return the pairs of a judge that adds 1.5 to what it is shown first, and whether each chosen text ever was."""
    n, prompts = 4, 400
    generations, judgements = simulate_places(prompts, n, orders, add_places(1.5 * SHAPES["first"](n)), spread=0.4)
    estimates = estimate(judgements, prompts, use_expected=True, correct_place=correct)
    asked = make_prompts(*dict.fromkeys(generations["prompt_id"].to_pylist()))
    made = pair_unit(
        asked, generations, judgements, PairsConfig(**settings), use_expected=True, run_seed=1, estimates=estimates
    )
    first = {
        (row["prompt_id"], name)
        for row in judgements.to_pylist()
        for name, slot in zip(row["completion_ids"], row["slots"], strict=True)
        if slot == 0
    }
    chosen = zip(made.pairs["prompt_id"].to_pylist(), made.pairs["chosen_completion_id"].to_pylist(), strict=True)
    return made, np.array([pair in first for pair in chosen])


@pytest.mark.parametrize("orders", [1, 2, 3])
def test_pairs_of_a_judge_with_a_liking_do_not_follow_it(orders: int) -> None:
    chance = orders / 4
    made, liked = _pair(correct=False, orders=orders)
    assert liked.mean() > chance + 0.2
    made, liked = _pair(correct=True, orders=orders)
    assert liked.mean() == pytest.approx(chance, abs=4 * np.sqrt(chance * (1 - chance) / len(liked)))
    scored = made.generations
    judged = scored["judgements"].to_pylist()
    again = [np.mean([j["expected"] - j["place"] for j in row]) for row in judged]
    assert scored["score"].to_numpy() == pytest.approx(again, abs=1e-6)
    raw = np.array([np.mean([j["expected"] for j in row]) for row in scored["judgements"].to_pylist()])
    assert np.abs(raw - scored["score"].to_numpy()).max() > 0.3  # the judgements stay as they were given
