"""Each metric against a value worked out by hand."""

from __future__ import annotations

from collections import Counter
from math import log, log2, sqrt

import numpy as np
import pytest
from observed import make_observations, one_aspect
from scipy.special import stdtrit

from synthgen.trust.agreement import measure_agreement, ordinal_alpha, quadratic_kappa
from synthgen.trust.aspects import measure_aspects
from synthgen.trust.comparisons import MAX_COMPARISONS, list_comparisons
from synthgen.trust.generators import fit_strengths, measure_generators
from synthgen.trust.intervals import (
    MAX_BLOCKS,
    make_blocks,
    ratio_interval,
    share_interval,
    sum_blocks,
    wilson_interval,
)
from synthgen.trust.length import measure_length
from synthgen.trust.noise import MIN_PROMPTS, measure_noise
from synthgen.trust.observations import Requests
from synthgen.trust.position import measure_flips, measure_position
from synthgen.trust.spread import count_ratings, measure_spread, measure_ties
from synthgen.trust.validity import measure_validity

NAN = float("nan")


def test_list_comparisons_pairs_completions_of_the_same_prompt_once() -> None:
    left, right = list_comparisons(np.array([0, 0, 0, 1, 2, 2]), seed=0)
    assert sorted(zip(left.tolist(), right.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 2), (4, 5)]


def test_list_comparisons_samples_prompts_where_there_are_too_many() -> None:
    prompt = np.repeat(np.arange(20_000), 30)  # 435 pairs each: 8.7 million
    left, right = list_comparisons(prompt, seed=0)
    assert 0.9 * MAX_COMPARISONS < len(left) < 1.1 * MAX_COMPARISONS
    assert (prompt[left] == prompt[right]).all()
    assert len(np.unique(prompt[left])) * 435 == len(left)


def test_measure_validity_counts_requests_and_ratings() -> None:
    requests = Requests(Counter(ok=6, partial=1, error=1), Counter(timeout=1), 2, ratings=32, valid_ratings=26)
    assert measure_validity(requests) == {
        "judgements": 8,
        "valid_share": 0.75,
        "asked_again_share": 0.25,
        "ratings": 32,
        "valid_ratings_share": 0.8125,
        "by_status": {"error": 1, "ok": 6, "partial": 1},
        "by_error": {"timeout": 1},
    }
    assert measure_validity(Requests()) is None


def test_measure_spread_gives_the_entropy_in_bits() -> None:
    histograms = count_ratings(make_observations(one_aspect([5, 5, 4, 1], [5, NAN, 5, 4]), [0, 0, 0, 0]))
    assert histograms == {"aspect-0": {"1": 1, "4": 2, "5": 4}}
    spread = measure_spread(histograms)["aspect-0"]
    # -(1/7·log2 1/7 + 2/7·log2 2/7 + 4/7·log2 4/7)
    assert spread["entropy_bits"] == pytest.approx(log2(7) - (2 * log2(2) + 4 * log2(4)) / 7)
    assert spread["mean"] == pytest.approx(29 / 7)
    assert (spread["ratings"], spread["commonest"], spread["commonest_share"]) == (7, 5, pytest.approx(4 / 7))
    uniform = measure_spread({"a": {str(k): 3 for k in range(1, 6)}})["a"]
    assert uniform["entropy_bits"] == pytest.approx(log2(5))


def test_measure_ties_counts_what_the_expected_rating_breaks() -> None:
    rating = one_aspect([4, 4, 4, 2, 2])
    expected = one_aspect([4.2, 4.2, 3.9, 2.0, 2.1])
    observations = make_observations(rating, [0, 0, 0, 1, 1], expected=expected)
    left, right = list_comparisons(observations.prompt, 0)
    ties = measure_ties(observations, left, right)
    # 4 comparisons, all tied by rating; expected ratings leave one tie (4.2 and 4.2) and break three.
    assert ties == {
        "comparisons": 4,
        "rating_ties": 4,
        "rating_tie_rate": 1.0,
        "expected_tie_rate": 0.25,
        "broken": 3,
        "broken_share": 0.75,
        "score_tie_rate": 0.25,
    }
    plain = measure_ties(make_observations(rating, [0, 0, 0, 1, 1]), left, right)
    assert plain is not None
    assert (plain["expected_tie_rate"], plain["broken"], plain["broken_share"]) == (None, None, None)
    assert plain["score_tie_rate"] == 1.0
    assert measure_ties(make_observations(one_aspect([4]), [0]), *list_comparisons(np.array([0]), 0)) is None


def test_measure_position_is_the_mean_deviation_per_slot() -> None:
    observations = make_observations(
        one_aspect([5, 1, 4, 2]),
        [0, 0, 1, 1],
        shown_prompt=np.array([0, 0, 1, 1]),
        shown_slot=np.array([0, 1, 0, 1]),
        shown_deviation=np.array([2.0, -2.0, 1.0, -1.0]),
    )
    slots = measure_position(observations, seed=0)
    assert slots is not None
    assert [(slot["slot"], slot["effect"], slot["ratings"]) for slot in slots] == [(1, 1.5, 2), (2, -1.5, 2)]
    low, high = slots[0]["interval"]
    reach = 0.5 * stdtrit(1, 1 - 0.05 / 2 / 2)  # left out one of two prompts, the means are 1 and 2; two places
    assert (low, high) == pytest.approx((1.5 - reach, 1.5 + reach))
    assert measure_position(make_observations(one_aspect([3]), [0]), seed=0) is None


def test_measure_flips_compares_signs_between_repetitions() -> None:
    #             prompt 0: 0 > 1 flips; 0 ? 2 decided once; 1 < 2 stays   prompt 1: stays
    rating = one_aspect([3, 2, 3, 5, 1], [2, 3, 4, 4, 2])
    observations = make_observations(rating, [0, 0, 0, 1, 1])
    flips = measure_flips(observations, *list_comparisons(observations.prompt, 0), seed=0)
    assert flips is not None
    assert {name: flips[name] for name in ("comparisons", "decided_in_both", "flips")} == {
        "comparisons": 4,
        "decided_in_both": 3,
        "flips": 1,
    }
    assert flips["flip_rate"] == pytest.approx(1 / 3)
    assert flips["undecided_rate"] == 0.25
    once = make_observations(one_aspect([3, 2]), [0, 0])
    assert measure_flips(once, *list_comparisons(once.prompt, 0), seed=0) is None


def test_ordinal_alpha_gives_krippendorffs_value() -> None:
    # Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), example C: four observers, twelve units.
    ratings = np.array(
        [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
            [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
        ],
        dtype=np.float32,
    )
    assert ordinal_alpha(ratings, seed=0) == pytest.approx(0.815, abs=5e-4)


def test_ordinal_alpha_of_two_repetitions_by_hand() -> None:
    # Units (1,1), (1,2), (2,2): each value occurs three times, and the one distance between unlike values cancels.
    # D_o = 2 unlike ordered pairs of 6, D_e = 2·3·3 / (6·5) = 0.6: alpha = 1 - (1/3) / 0.6.
    assert ordinal_alpha(np.array([[1, 1, 2], [1, 2, 2]], np.float32), seed=0) == pytest.approx(1 - (1 / 3) / 0.6)
    assert ordinal_alpha(np.array([[3, 3], [3, 3]], np.float32), seed=0) is None
    assert ordinal_alpha(np.array([[1, NAN], [NAN, 3]], np.float32), seed=0) is None


def test_quadratic_kappa_by_hand() -> None:
    # Disagreements: 0, 0, 1, 4 → mean 5/4. Marginals: first {1,2,3,3}, second {1,2,2,5}:
    # Σ over all 16 pairs of (x - y)²: 1→0+1+1+16, 2→1+0+0+9, 3→4+1+1+4 twice: 18 + 10 + 20 = 48, mean 3.
    first, second = np.array([1, 2, 3, 3]), np.array([1, 2, 2, 5])
    assert quadratic_kappa(first, second) == pytest.approx(1 - 1.25 / 3)
    assert quadratic_kappa(first, first) == 1.0
    assert quadratic_kappa(np.array([2, 2]), np.array([2, 2])) is None


def test_measure_agreement_needs_two_repetitions() -> None:
    assert measure_agreement(make_observations(one_aspect([3, 2]), [0, 0]), seed=0) is None
    agreement = measure_agreement(make_observations(one_aspect([3, 2, 1], [3, 1, 1]), [0, 0, 0]), seed=0)
    assert agreement is not None
    assert agreement["exact_share"] == pytest.approx(2 / 3)
    assert agreement["alpha"]["aspect-0"] == agreement["alpha_overall"]


def test_measure_length_is_the_slope_within_prompts() -> None:
    # Prompt 0: ln tokens 0 and 2, scores 1 and 4; prompt 1: ln tokens 5 and 6, scores 5 and 5.
    # x = -1, 1, -.5, .5; y = -1.5, 1.5, 0, 0: Σxy / Σx² = 3 / 2.5.
    tokens = np.exp([0.0, 2.0, 5.0, 6.0]).astype(np.float32)
    observations = make_observations(one_aspect([1, 4, 5, 5]), [0, 0, 1, 1], tokens=tokens)
    length = measure_length(observations, seed=0)
    assert length is not None
    assert length["slope"] == pytest.approx(1.2)
    assert length["points_per_doubling"] == pytest.approx(1.2 * log(2))
    # Without one of the two prompts: 0 and 1.5. Their weights 2 and 0.5 count as 2.5² / 4.25 of one size.
    reach = sqrt((1.2**2 + 0.3**2) / 2) * stdtrit(1, 1 - 0.025 / 2)
    assert length["slope_interval"] == pytest.approx([1.2 - reach, 1.2 + reach])
    assert length["longer_chosen_share"] == 1.0  # prompt 1 ties
    assert length["median_difference_tokens"] == pytest.approx(np.exp(2) - 1)


def test_measure_length_leaves_out_what_has_no_length_or_score() -> None:
    tokens = np.array([10, 20, np.nan, 0], np.float32)
    observations = make_observations(one_aspect([5, NAN, 2, 3]), [0, 0, 0, 0], tokens=tokens)
    assert measure_length(observations, seed=0) is None


def test_measure_aspects_is_spearmans_correlation() -> None:
    first, second = [1, 2, 3, 4, 5], [2, 1, 4, 3, 5]
    cube = np.stack([[first], [second]], axis=2)
    (pair,) = measure_aspects(make_observations(cube, [0, 0, 0, 1, 1]), seed=0) or []
    assert pair["spearman"] == pytest.approx(1 - 6 * 4 / (5 * 24))  # 1 - 6·Σd² / (n·(n² - 1)), Σd² = 4
    assert pair["completions"] == 5
    flat = np.stack([[first], [[3] * 5]], axis=2)
    (constant,) = measure_aspects(make_observations(flat, [0, 0, 0, 1, 1]), seed=0) or []
    assert constant["spearman"] is None
    assert measure_aspects(make_observations(one_aspect([1, 2]), [0, 0]), seed=0) is None


def test_fit_strengths_gives_the_log_odds_of_two_generators() -> None:
    # With the one drawn comparison that is added: 3.5 wins to 1.5.
    strengths = fit_strengths(np.array([[0.0, 3.0], [1.0, 0.0]]))
    assert strengths.sum() == pytest.approx(0, abs=1e-9)
    assert strengths[0] - strengths[1] == pytest.approx(log(3.5 / 1.5))
    assert np.isfinite(fit_strengths(np.array([[0.0, 50.0], [0.0, 0.0]]))).all()


def test_measure_generators_counts_wins_across_generators_only() -> None:
    # Prompt 0: a 5, a 1, b 3. Prompt 1: a 2, b 2. Comparisons a-b: win, loss, tie.
    observations = make_observations(
        one_aspect([5, 1, 3, 2, 2]),
        [0, 0, 0, 1, 1],
        generators=["a", "b"],
        generator=np.array([0, 0, 1, 0, 1]),
    )
    left, right = list_comparisons(observations.prompt, 0)
    result = measure_generators(observations, left, right, {"a": "org/a"}, seed=0)
    assert result is not None
    assert result["a"]["win_rate"] == result["b"]["win_rate"] == 0.5
    assert result["a"]["comparisons"] == 3
    assert (result["a"]["model"], result["b"]["model"]) == ("org/a", None)
    assert result["a"]["strength"] == pytest.approx(0, abs=1e-6)
    alone = make_observations(one_aspect([5, 1]), [0, 0])
    assert measure_generators(alone, *list_comparisons(alone.prompt, 0), {}, seed=0) is None


def test_ratio_interval_by_hand() -> None:
    # Three blocks of one: 1, 2, 6; without one: 4, 3.5, 1.5, whose squares around 3 add up to 3.5.
    low, high = ratio_interval(np.array([1.0, 2.0, 6.0]), np.ones(3)) or (0.0, 0.0)
    reach = np.sqrt(2 / 3 * 3.5) * stdtrit(2, 0.975)
    assert (low, high) == pytest.approx((3 - reach, 3 + reach))
    assert ratio_interval(np.ones(1), np.ones(1)) is None


@pytest.mark.parametrize("blocks", [6, 10, 30, 200])
def test_intervals_of_few_blocks_cover_what_they_say(blocks: int) -> None:
    random = np.random.default_rng(blocks)
    ratios = shares = 0
    for _ in range(400):
        sizes = random.integers(1, 8, blocks).astype(float)
        tilt = random.normal(0.3, 0.5, blocks)  # what is of one block hangs together
        sums = sizes * tilt + random.normal(0, 1, blocks) * np.sqrt(sizes)
        low, high = ratio_interval(sums, sizes) or (np.nan, np.nan)
        ratios += low <= 0.3 <= high
        hits = random.binomial(sizes.astype(int), random.beta(1.6, 0.4, blocks)).astype(float)
        low, high = share_interval(hits, sizes) or (np.nan, np.nan)
        shares += low <= 0.8 <= high
    assert 0.92 <= ratios / 400 <= 0.98
    assert 0.92 <= shares / 400 <= 0.99


def test_share_interval_of_all_is_no_certainty() -> None:
    assert share_interval(np.ones(20), np.ones(20)) == pytest.approx((0.8389, 1.0), abs=1e-4)
    assert share_interval(np.full(20, 4.0), np.full(20, 4.0)) == share_interval(np.ones(20), np.ones(20))
    assert share_interval(np.zeros(2), np.zeros(2)) is None


def test_blocks_keep_sums_and_bound_the_number_of_clusters() -> None:
    assert make_blocks(5, seed=0).tolist() == [0, 1, 2, 3, 4]
    blocks = make_blocks(50_000, seed=0)
    assert len(np.unique(blocks)) == MAX_BLOCKS
    assert sum_blocks(np.ones(50_000), blocks).sum() == 50_000


def test_wilson_interval_by_hand() -> None:
    # (p + z²/2n ± z·√(p(1-p)/n + z²/4n²)) / (1 + z²/n) with p = 0.5, n = 10, z = 1.96
    assert wilson_interval(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson_interval(0, 0) is None


def test_noise_of_scores_that_come_back_and_of_those_that_do_not() -> None:
    random = np.random.default_rng(3)
    prompt = np.repeat(np.arange(600), 4)
    quality = random.normal(0, 1, 2400)
    for share in (0.0, 0.2, 0.5, 0.9):
        noise = sqrt(1 / share - 1) if share else 1.0
        rounds = [(quality if share else 0) + random.normal(0, noise, 2400) for _ in range(2)]
        found = measure_noise(make_observations(one_aspect(*rounds), prompt), seed=1)
        assert found is not None
        assert found["repeated"] == pytest.approx(share, abs=0.08)
        assert found["interval"][0] <= found["reliability"] <= found["interval"][1]
        assert found["reliability"] == pytest.approx(2 * share / (1 + share), abs=0.08)


def test_noise_is_not_told_where_nothing_differs_or_few_prompts_do() -> None:
    prompt = np.repeat(np.arange(MIN_PROMPTS - 1), 2)
    values = np.tile([1.0, 2.0], MIN_PROMPTS - 1)
    assert measure_noise(make_observations(one_aspect(values, values), prompt), seed=1) is None
    prompt = np.repeat(np.arange(50), 2)
    assert measure_noise(make_observations(one_aspect(np.ones(100), np.ones(100)), prompt), seed=1) is None
    assert measure_noise(make_observations(one_aspect(np.tile([1.0, 2.0], 50)), prompt), seed=1) is None


def test_noise_is_all_where_only_the_place_counts() -> None:
    slots = np.tile([0, 1], 50)
    rounds = [slots + 1.0, 2.0 - slots]
    slot = np.stack([slots, 1 - slots])[:, :, None]
    found = measure_noise(make_observations(one_aspect(*rounds), np.repeat(np.arange(50), 2), slot=slot), seed=1)
    assert found is not None
    assert (found["reliability"], found["interval"]) == (0.0, [0.0, 0.0])
