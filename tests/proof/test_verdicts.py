"""What a proof says of figures that are simulated: how often chance is taken for evidence, and what is seen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from synthgen.proof.statistics import (
    MIN_PROMPTS,
    NO_EVIDENCE,
    Difference,
    FloatArray,
    compare,
    control_length,
    control_wins,
    decide,
    decide_control,
    find_side_effects,
)

PROMPTS, ANSWERS = 40, 4


def draw_rates(draw: np.random.Generator, chance: FloatArray) -> FloatArray:
    """Return the share of ANSWERS answers that pass, per prompt."""
    return draw.binomial(ANSWERS, chance) / ANSWERS


def prove(draw: np.random.Generator, chances: tuple[float, float, float], prompts: int = PROMPTS) -> bool:
    """Return whether a simulated proof says yes: prompts differ, the models' mean chances are those given."""
    ease = draw.normal(0, 1, prompts)
    shifts = [np.log(chance / (1 - chance)) for chance in chances]
    before, after, control = (draw_rates(draw, 1 / (1 + np.exp(-(ease + shift)))) for shift in shifts)
    return decide(compare(before, after), compare(control, after), controlled=True).helps


def share_of_yes(chances: tuple[float, float, float], runs: int = 1000, prompts: int = PROMPTS) -> float:
    draw = np.random.default_rng(7)
    return sum(prove(draw, chances, prompts) for _ in range(runs)) / runs


@pytest.mark.parametrize("chance", [0.02, 0.15, 0.5])
def test_random_pairs_are_called_evidence_less_often_than_once_in_forty(chance: float) -> None:
    assert share_of_yes((chance, chance, chance)) <= 0.025


def test_a_noise_judge_is_told_no_evidence() -> None:
    draw = np.random.default_rng(3)
    yes = 0
    for _ in range(1000):
        before, after, control = (draw.integers(1, 6, (PROMPTS, ANSWERS)).mean(axis=1) for _ in range(3))
        yes += decide(compare(before, after), compare(control, after), controlled=True).helps
    assert yes / 1000 <= 0.025


def test_what_training_on_any_pairs_does_is_no_evidence() -> None:
    assert share_of_yes((0.2, 0.6, 0.6)) <= 0.03  # the whole gain is the control's too


def test_a_clear_gain_is_seen() -> None:
    assert share_of_yes((0.3, 0.65, 0.3), runs=200) >= 0.99


def test_a_few_prompts_are_no_evidence_whatever_they_show() -> None:
    assert share_of_yes((0.1, 0.9, 0.1), runs=20, prompts=MIN_PROMPTS - 1) == 0
    verdict = decide(compare(np.zeros(5), np.ones(5)), compare(np.zeros(5), np.ones(5)), controlled=True)
    assert (verdict.helps, verdict.text) == (False, NO_EVIDENCE)
    assert "5 prompts are too few" in verdict.reasons[0]


def make(value: float, low: float | None, high: float | None, prompts: int = 50) -> Difference:
    return Difference(0.2, 0.2 + value, value, low, high, 10, 10, 10, prompts)


@pytest.mark.parametrize(
    ("effect", "over", "reason"),
    [
        (None, None, "too few prompts have a figure before"),
        (make(0.1, None, None), make(0.1, 0.05, 0.2), "too few prompts have a figure before"),
        (make(0.1, -0.01, 0.2), make(0.1, 0.05, 0.2), "its interval holds 0"),
        (make(-0.2, -0.3, -0.1), make(0.1, 0.05, 0.2), "it got worse"),
        (make(0.2, 0.1, 0.3), make(0.05, -0.02, 0.1), "not more than the same training on randomly drawn sides"),
        (make(0.2, 0.1, 0.3), None, "too few prompts have a figure of the control"),
    ],
)
def test_no_has_a_reason(effect: Difference | None, over: Difference | None, reason: str) -> None:
    verdict = decide(effect, over, controlled=True)
    assert verdict.text == NO_EVIDENCE
    assert reason in verdict.reasons[0]


def test_without_a_control_a_yes_says_what_is_not_known() -> None:
    verdict = decide(make(0.2, 0.1, 0.3), None, controlled=False)
    assert verdict.helps
    assert "there was no control" in verdict.reasons[0]


@pytest.mark.parametrize("effect", [None, make(0.2, 0.1, 0.3), make(0.0, -0.1, 0.1)])
def test_the_control_is_never_evidence(effect: Difference | None) -> None:
    assert decide_control(effect).text == NO_EVIDENCE


def test_differences_are_taken_within_prompts_that_have_both() -> None:
    before = np.array([0.0, 0.5, np.nan, 1.0])
    after = np.array([1.0, 0.5, 1.0, 0.0])
    found = compare(before, after)
    assert found is not None
    assert (found.prompts, found.wins, found.ties, found.losses, found.value) == (3, 1, 1, 1, 0.0)
    assert compare(np.array([np.nan]), np.array([1.0])) is None


def test_the_interval_of_a_mean_difference_is_students() -> None:
    from scipy.stats import ttest_1samp

    draw = np.random.default_rng(5)
    before, after = draw.random(30), draw.random(30)
    found = compare(before, after)
    wanted = ttest_1samp(after - before, 0).confidence_interval(0.95)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))


def judge_by_length(draw: np.random.Generator, gain: float) -> tuple[FloatArray, FloatArray]:
    """Return (change in score, log ratio of lengths): longer answers please, and so much is real."""
    longer = draw.normal(0.5, 0.4, 120)
    return gain + 0.8 * longer + draw.normal(0, 0.3, 120), longer


@pytest.mark.parametrize("estimate", [control_length])
def test_what_length_alone_gains_is_taken_out(estimate: Callable[..., Difference | None]) -> None:
    draw = np.random.default_rng(11)
    holds, finds = 0, 0
    for _ in range(100):
        change, longer = judge_by_length(draw, 0.0)
        none = estimate(change, longer)
        some = estimate(change + 0.3, longer)
        assert none is not None
        assert some is not None
        assert none.low is not None
        assert none.high is not None
        assert some.low is not None
        holds += none.low <= 0 <= none.high
        finds += some.low > 0
    assert holds >= 88
    assert finds >= 95


def test_win_rate_at_equal_length_is_a_coin_where_length_alone_wins() -> None:
    change, longer = judge_by_length(np.random.default_rng(2), 0.0)
    found = control_wins(change, longer)
    assert found is not None
    assert found["raw"] > 0.75
    assert found["low"] < 0.5 < found["high"]
    won = control_wins(np.ones(40), np.zeros(40))  # every prompt, at equal length
    assert won is not None
    assert won["rate"] > 0.95


def test_side_effects_are_what_got_worse_by_more_than_chance() -> None:
    figures = {
        "refusals": make(0.1, 0.05, 0.2),
        "cut off": make(0.1, -0.05, 0.2),
        "side": make(-0.1, -0.2, -0.01),
        "tokens": make(30.0, 20.0, 40.0),
        "few": make(-0.5, -0.6, -0.4, prompts=5),
    }
    assert find_side_effects(figures, {"refusals": 1, "cut off": 1, "side": -1, "few": -1}) == ["refusals", "side"]
