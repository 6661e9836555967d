"""How likely a label turns round: what is said beforehand against judging again."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from judged_tables import make_completion, make_judgement, make_prompts, to_generations, to_judgements
from simulated_places import add_places, simulate_places

from synthgen.config import PairsConfig
from synthgen.pairs import pair_unit
from synthgen.pairs.estimates import Estimates, estimate
from synthgen.pairs.flips import MIN_PROMPTS, FlipCurve

N = 4
NOTHING = add_places(np.zeros(N))


def _estimate(judgements: pa.Table) -> Estimates:
    return estimate(judgements, 100, use_expected=True, correct_place=True)


def _flips(judgements: pa.Table) -> FlipCurve:
    flips = _estimate(judgements).flips
    assert flips is not None
    return flips


@pytest.mark.parametrize("noise", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("orders", [2, 4])
@pytest.mark.parametrize("digits", [False, True])
def test_labels_turn_round_as_often_as_was_said(orders: int, noise: float, *, digits: bool) -> None:
    random = np.random.default_rng(orders)
    prompts = 1500
    quality = random.normal(3, 0.7, (prompts, N))

    def judge() -> np.ndarray:
        rated = quality[:, None] + random.normal(0, noise, (prompts, orders, N))
        return np.clip(np.round(rated), 1, 5) if digits else rated

    values = judge()
    rows = [
        make_judgement(f"{p:05}", [3] * N, repetition=k, expected=values[p, k].tolist(), slots=random.permutation(N))
        for p in range(prompts)
        for k in range(orders)
    ]
    flips = _flips(to_judgements(rows))
    scores, again = values.mean(axis=1), judge().mean(axis=1)
    best, worst = scores.argmax(axis=1), scores.argmin(axis=1)
    every = np.arange(prompts)
    margin = scores[every, best] - scores[every, worst]
    difference = again[every, best] - again[every, worst]
    turned = np.where(np.abs(difference) < 1e-9, 0.5, difference < 0)
    said = flips.probability(margin)
    assert said.mean() == pytest.approx(turned.mean(), abs=0.025)
    edges = np.quantile(margin, [0, 1 / 3, 2 / 3, 1])
    for low, high in pairwise(edges):
        here = (margin >= low) & (margin <= high)
        assert said[here].mean() == pytest.approx(turned[here].mean(), abs=0.045)
    if not digits:
        truth = 0.49 / (0.49 + noise**2 / orders)
        assert flips.reliability == pytest.approx(truth, abs=0.03)


def test_margins_are_those_of_the_curve() -> None:
    flips = _flips(simulate_places(300, N, 2, NOTHING, noise=0.5)[1])
    for probability in (0.05, 0.1, 0.2):
        margin = flips.margin(probability)
        assert margin is not None
        assert flips.probability(np.array([margin])) == pytest.approx(probability)
    assert flips.source == "orders"


def test_no_margin_helps_where_all_is_noise_and_none_is_needed_where_nothing_is() -> None:
    lot = _flips(simulate_places(300, N, 2, NOTHING, spread=0.0, noise=1.0)[1])
    assert lot.reliability < 0.2
    assert lot.margin(0.05) is None or lot.margin(0.05) > 5
    sure = _flips(simulate_places(300, N, 2, NOTHING, noise=0.0)[1])
    assert sure.reliability == pytest.approx(1)
    assert sure.margin(0.05) < 0.1
    assert sure.observed_rate == 0


def test_one_order_is_told_by_the_texts_beside_planted_ones() -> None:
    random = np.random.default_rng(3)
    rows = []
    for prompt in range(400):
        quality = random.normal(3, 0.7, N)
        rows.append(_judge(random, prompt, quality))
        if prompt % 4 == 0:
            rows.append(_judge(random, prompt, quality, canary="duplicate"))
    flips = _flips(to_judgements(rows))
    assert (flips.source, flips.orders, flips.prompts) == ("canaries", 1, 100)
    assert flips.reliability == pytest.approx(0.49 / (0.49 + 0.25), abs=0.12)
    assert _estimate(to_judgements([row for row in rows if row["canary"] is None])).flips is None


def _judge(random: np.random.Generator, prompt: int, quality: np.ndarray, **columns: Any) -> dict[str, Any]:
    values = (quality + random.normal(0, 0.5, N)).tolist()
    ids = [f"main:{i}" for i in range(N)]
    if columns:
        ids, values, columns["group"] = [*ids, "canary:duplicate"], [*values, 3.0], 1
    ratings = dict.fromkeys(ids, 3)
    return make_judgement(f"{prompt:04}", ratings, expected=values, slots=random.permutation(len(ids)), **columns)


def test_few_prompts_tell_nothing() -> None:
    assert _estimate(simulate_places(MIN_PROMPTS - 1, N, 2, NOTHING)[1]).flips is None
    assert _estimate(simulate_places(MIN_PROMPTS, N, 2, NOTHING)[1]).flips is not None


def test_max_flip_probability_leaves_out_the_pairs_that_need_a_wider_margin() -> None:
    generations, judgements = simulate_places(200, N, 2, NOTHING, noise=0.5)
    prompts = make_prompts(*dict.fromkeys(generations["prompt_id"].to_pylist()))
    estimates = _estimate(judgements)
    assert estimates.flips is not None

    def pair(**settings: Any) -> Any:
        config = PairsConfig(max_similarity=1.0, **settings)
        return pair_unit(prompts, generations, judgements, config, use_expected=True, run_seed=1, estimates=estimates)

    needed = estimates.flips.margin(0.1)
    every, sure = pair(), pair(max_flip_probability=0.1)
    kept = [margin for margin in every.pairs["score_margin"].to_pylist() if margin >= needed]
    assert sure.pairs["score_margin"].to_pylist() == kept
    assert 0 < len(kept) < len(every.pairs) == 200
    assert sure.counts.dropped["below_min_margin"] == 200 - len(kept)
    wider = pair(max_flip_probability=0.1, min_margin=needed + 0.2)
    assert min(wider.pairs["score_margin"].to_pylist()) >= needed + 0.2


def test_completions_without_judgements_have_no_estimates() -> None:
    empty = _estimate(to_judgements([]))
    assert (empty.flips, len(empty.scores)) == (None, 0)
    generations = to_generations([make_completion("p", i, f"text {i}") for i in range(2)])
    made = pair_unit(
        make_prompts("p"), generations, to_judgements([]), PairsConfig(), use_expected=True, run_seed=1, estimates=empty
    )
    assert len(made.kto) == 0
