"""Judges with a known mind: the matching metric must say what they are, and the others must keep quiet."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from judged_tables import make_completion, make_judgement, to_generations, to_judgements
from simulated import Rule, always_four, fair, first_slot, guess, longer, simulate_units

from synthgen.trust import format_trust, list_findings, measure_trust

MODELS = {"strong": "org/strong", "weak": "org/weak"}


def _measure(rule: Rule, judge_model: str = "org/judge", **options: Any) -> dict[str, Any]:
    units = simulate_units(rule, **options)
    return measure_trust(units, use_expected=True, seed=1, judge_model=judge_model, generator_models=MODELS)


def _warned(report: dict[str, Any]) -> set[str]:
    return {finding.check for finding in list_findings(report) if finding.verdict == "warning"}


def test_measure_trust_finds_no_fault_with_a_fair_judge() -> None:
    report = _measure(fair)
    assert _warned(report) == set()
    assert report["warnings"] == []
    assert report["validity"]["valid_share"] == 1.0
    assert report["agreement"]["alpha_overall"] > 0.8
    assert report["order_flips"]["flip_rate"] < 0.05
    generators = report["generators"]
    assert generators["strong"]["win_rate"] > 0.65
    assert generators["strong"]["strength_interval"][0] > 0 > generators["weak"]["strength_interval"][1]
    assert generators["strong"]["model"] == "org/strong"


def test_measure_trust_shows_a_random_judge_at_chance() -> None:
    report = _measure(guess, units=12)
    assert _warned(report) == {"noise", "order", "agreement"}
    assert abs(report["agreement"]["alpha_overall"]) < 0.1
    assert abs(report["agreement"]["kappa"]) < 0.1
    low, high = report["order_flips"]["interval"]
    assert low < 0.5 < high
    assert all(slot["interval"][0] < 0 < slot["interval"][1] for slot in report["position"])


def test_measure_trust_catches_a_judge_that_prefers_the_first_slot() -> None:
    report = _measure(first_slot)
    assert "position" in _warned(report)
    first, *others = report["position"]
    assert first["slot"] == 1
    assert first["interval"][0] > 1
    assert all(slot["interval"][1] < 0 for slot in others)
    assert any("place 1" in warning for warning in report["warnings"])


def test_measure_trust_catches_a_judge_that_prefers_longer_texts() -> None:
    report = _measure(longer)
    assert _warned(report) == {"length"}
    assert report["length"]["longer_chosen_share"] == 1.0
    assert report["length"]["slope_interval"][0] > 0.5
    assert report["length"]["median_difference_tokens"] > 0


def test_measure_trust_catches_a_judge_that_gives_everything_the_same() -> None:
    report = _measure(always_four)
    assert _warned(report) == {"scale", "ties"}
    assert report["ratings"]["overall-rating"]["entropy_bits"] == 0
    assert report["ties"]["score_tie_rate"] == 1.0
    assert report["agreement"]["alpha_overall"] is None


def test_measure_trust_warns_of_a_judge_that_also_generates() -> None:
    report = _measure(fair, judge_model="org/weak")
    assert _warned(report) == {"generators"}
    assert "org/weak also generates (weak)" in report["warnings"][0]


def test_measure_trust_warns_of_judgements_that_cannot_be_read() -> None:
    report = _measure(fair, status="invalid")
    assert report["validity"]["valid_share"] == 0.0
    assert "validity" in _warned(report)


def _make_canary(number: int, expect: str, ratings: dict[str, int]) -> dict[str, Any]:
    detail = {"planted": ["canary:x"], "original": "main:0", "expect": expect, "scores": {}}
    detail |= {"min_rating": 1, "max_rating": 5}
    columns = {"canary": expect, "canary_detail": json.dumps(detail)}
    return make_judgement(f"p{number}", {"main:0": ratings["original"], "canary:x": ratings["planted"]}, **columns)


def test_measure_trust_counts_canaries_by_kind_and_nowhere_else() -> None:
    generations = to_generations([make_completion(f"p{i}", 0, "text") for i in range(6)])
    real = [make_judgement(f"p{i}", [3]) for i in range(6)]
    same = [_make_canary(i, "same", {"original": 4, "planted": 4 if i < 2 else 1}) for i in range(6)]
    lower = [_make_canary(i, "lower", {"original": 1 if i == 0 else 4, "planted": 1}) for i in range(6)]
    report = measure_trust(
        [(generations, to_judgements([*real, *same, *lower]))],
        use_expected=True,
        seed=0,
        judge_model="org/judge",
        generator_models={"main": "org/main"},
    )
    # Nothing can be rated below 1: the first `lower` shows nothing.
    assert report["canaries"] == {
        "lower": {"planted": 6, "conclusive": 5, "handled": 5, "share": 1.0},
        "same": {"planted": 6, "conclusive": 6, "handled": 2, "share": 2 / 6},
    }
    assert "The judge handled 2 of 6 conclusive canaries of the kind same." in report["warnings"]
    assert report["validity"]["judgements"] == 6
    assert report["histograms"] == {"overall-rating": {"3": 6}}


def test_measure_trust_does_without_a_second_order() -> None:
    report = _measure(fair, orders=1)
    assert report["order_flips"] is None
    assert report["agreement"] is None
    unknown = {finding.check for finding in list_findings(report) if finding.verdict == "unknown"}
    assert unknown == {"order", "agreement", "canaries"}


def test_measure_trust_does_not_depend_on_how_rows_are_cut_and_ordered() -> None:
    units = list(simulate_units(fair, units=3, unit_size=10))
    options = {"use_expected": True, "seed": 1, "judge_model": "org/judge", "generator_models": MODELS}
    whole = pa.concat_tables([g for g, _ in units]), pa.concat_tables([j for _, j in units])
    reversed_judgements = whole[1].take(pa.array(range(len(whole[1]) - 1, -1, -1)))
    assert measure_trust(units, **options) == measure_trust([(whole[0], reversed_judgements)], **options)


def test_measure_trust_scores_by_the_drawn_rating_where_asked_to() -> None:
    generations = to_generations([make_completion("p", i, f"text {i}") for i in range(2)])
    judgements = to_judgements([make_judgement("p", [4, 4], expected=[4.4, 3.9])])
    options = {"seed": 0, "judge_model": "org/judge", "generator_models": {"main": "org/main"}}
    by_expected = measure_trust([(generations, judgements)], use_expected=True, **options)
    by_rating = measure_trust([(generations, judgements)], use_expected=False, **options)
    assert (by_expected["ties"]["score_tie_rate"], by_rating["ties"]["score_tie_rate"]) == (0.0, 1.0)
    assert by_expected["ties"]["broken"] == by_rating["ties"]["broken"] == 1


@pytest.mark.parametrize("units", [[], [(to_generations([]), to_judgements([]))]])
def test_measure_trust_of_nothing_says_that_it_knows_nothing(units: list[tuple[pa.Table, pa.Table]]) -> None:
    report = measure_trust(units, use_expected=True, seed=0, judge_model="org/judge", generator_models=MODELS)
    assert report["validity"] is None
    assert report["warnings"] == []
    assert "There are no judgements." in format_trust(report)


def test_measure_trust_gives_plain_json() -> None:
    report = _measure(fair, units=1)
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_format_trust_says_in_words_what_is_fine_and_what_is_not() -> None:
    report = json.loads(json.dumps(_measure(longer)))
    text = format_trust(report)
    assert "100.0% of 480 judgements could be read in full." in text
    assert "WARN length" in text
    assert "ok   position" in text
    assert "strong (org/strong) wins" in text
    assert text.endswith("1 warning.")
    assert max(map(len, text.splitlines())) <= 140
