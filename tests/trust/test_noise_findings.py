"""A judge that draws lots is called noise, a good one never, and with one order the texts beside planted ones tell."""

from __future__ import annotations

from typing import Any

import pytest
from observed import observe_judge

from synthgen.trust.noise import measure_noise
from synthgen.trust.noise_findings import NOISE, check_labels, check_noise


def _called_noise(prompts: int, *, spread: float, noise: float, runs: int = 100) -> float:
    """Return the share of judges that are called noise; `spread` of their scores is quality."""
    called = 0
    for seed in range(runs):
        seen = observe_judge(prompts, 4, 2, seed, spread=spread, noise=noise)
        report = {"noise": measure_noise(seen, seed), "order_flips": None}
        [finding] = check_noise(report)
        called += finding.verdict == "warning"
        assert finding.text.startswith(NOISE) == (finding.verdict == "warning")
    return called / runs


def test_a_judge_that_draws_lots_is_called_noise_from_12_prompts_on() -> None:
    assert _called_noise(12, spread=0.0, noise=1.0) > 0.93
    assert _called_noise(24, spread=0.0, noise=1.0) > 0.97


@pytest.mark.parametrize("prompts", [12, 40, 200])
def test_a_good_judge_is_never_called_noise(prompts: int) -> None:
    assert _called_noise(prompts, spread=1.0, noise=0.5) == 0


def test_what_comes_back_whole_has_no_interval_of_no_width() -> None:
    noise = {"reliability": 1.0, "interval": [1.0, 1.0], "repeated_interval": [1.0, 1.0], "prompts": 12}
    [finding] = check_noise({"noise": noise, "order_flips": None})
    assert "100.0% (in each of 12 prompts) are not noise" in finding.text


@pytest.mark.parametrize(("reliability", "verdict"), [(0.1, "warning"), (0.8, "fine")])
def test_one_order_is_told_by_planted_texts(reliability: float, verdict: str) -> None:
    flips: dict[str, Any] = {"source": "canaries", "reliability": reliability, "prompts": 40, "margins": {"0.1": 0.5}}
    report = {"noise": None, "flips": flips, "order_flips": None}
    [finding] = check_noise(report)
    assert (finding.verdict, finding.text.startswith(NOISE)) == (verdict, verdict == "warning")
    assert "(by 40 prompts with a planted text)" in finding.text
    [label] = check_labels(report)
    assert label.text == "Labels that turn round when judged again: a margin of 0.50 points for fewer than 10%."
    assert list(check_noise({**report, "flips": None})) == []
