"""`python -m benchmarks.trust`: how well the trust report keeps its word, on simulated judges with a known mind.

Prints the tables of docs/trust.md: what places leave in the scores before and after they are taken out, how often
intervals cover, how often a judge without a liking is warned of, and how well it is said which labels turn round.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path += [
    str(Path(__file__).resolve().parent.parent / "tests"),
    str(Path(__file__).resolve().parent.parent / "tests/trust"),
]

from observed import observe_judge
from simulated_places import SHAPES, add_places, simulate_places

from synthgen.pairs.estimates import estimate
from synthgen.trust.findings import LENGTH_AND_PLACES
from synthgen.trust.intervals import ratio_interval, share_interval
from synthgen.trust.length import measure_length
from synthgen.trust.place import measure_evenness, measure_left
from synthgen.trust.position import measure_position
from synthgen.trust.reduction import observe


def show_places(n: int = 4, prompts: int = 2000) -> None:
    """Print the largest effect of a place on the final scores, before and after, by shape and number of orders; what is
    taken out is estimated on other prompts."""
    print(f"## What places leave in the scores: n = {n}, {prompts:,} prompts, points before -> after\n")
    for name, shape in SHAPES.items():
        cells = []
        for orders in range(1, n + 1):
            liking = add_places(shape(n))
            generations, judgements = simulate_places(prompts, n, orders, liking, seed=orders)
            _, others = simulate_places(prompts, n, orders, liking, seed=100 + orders)  # what is measured is not known
            found = []
            for correct in (False, True):
                place = estimate(others, prompts, use_expected=True, correct_place=correct).place
                left = measure_left(observe([(generations, judgements)], use_expected=True, place=place), 0)
                assert left is not None
                found.append(max((abs(slot["effect"]) for slot in left["left"]), default=0.0))
            cells.append(f"{found[0]:.2f} -> {found[1]:.3f}")
        print(f"| {name} | {' | '.join(cells)} |")


def show_coverage(runs: int = 1000) -> None:
    """Print how often intervals cover, and how often a judge without a liking is warned of."""
    print(f"\n## Coverage of 95% intervals and false alarms, {runs:,} runs each\n")
    points = SHAPES["first"](4)
    truth = points - (1 - points) / 3  # against the mean of the other three places
    for prompts in (10, 20, 40, 200):
        random = np.random.default_rng(prompts)
        places = slopes = ratios = shares = alarms = 0
        for seed in range(runs):
            left = measure_left(observe_judge(prompts, 4, 1, seed, liking=add_places(points)), seed)
            assert left is not None
            places += all(s["interval"][0] <= p <= s["interval"][1] for s, p in zip(left["left"], truth, strict=True))
            sizes = random.integers(1, 8, prompts).astype(float)
            sums = sizes * random.normal(0.3, 0.5, prompts) + random.normal(0, 1, prompts) * np.sqrt(sizes)
            low, high = ratio_interval(sums, sizes) or (np.nan, np.nan)
            ratios += low <= 0.3 <= high
            hits = random.binomial(sizes.astype(int), random.beta(1.6, 0.4, prompts)).astype(float)
            low, high = share_interval(hits, sizes) or (np.nan, np.nan)
            shares += low <= 0.8 <= high
            seen = observe_judge(prompts, 4, 2, runs + seed)
            length = measure_length(seen, seed)
            assert length is not None
            slopes += length["slope_interval"][0] <= 0 <= length["slope_interval"][1]
            place = {"corrected": False, **(measure_left(seen, seed) or {}), "evenness": measure_evenness(seen, seed)}
            report = {"prompts": prompts, "scale": 1e-9, "place": place, "length": length}
            report["position"] = measure_position(seen, seed)
            alarms += any(f.verdict == "warning" for check in LENGTH_AND_PLACES for f in check(report))
        cells = (places, slopes, ratios, shares, alarms)
        print(f"| {prompts} | {' | '.join(f'{100 * cell / runs:.1f}%' for cell in cells)} |")


def show_flips(prompts: int = 2000, n: int = 4) -> None:
    """Print how many of the best-against-worst pairs are said to turn round, and how many do when judged again."""
    print("\n## Labels that turn round: said -> so, by orders and noise\n")
    for orders in (2, 4):
        cells = []
        for noise in (0.2, 0.5, 1.0):
            nothing = add_places(np.zeros(n))
            _, judgements = simulate_places(prompts, n, orders, nothing, seed=7, noise=noise)
            flips = estimate(judgements, prompts, use_expected=True, correct_place=True).flips
            assert flips is not None
            truth = np.random.default_rng(7).normal(3, 0.7, (prompts, 1, n))[:, 0]  # what that run judged
            values = np.array(judgements["expected"].combine_chunks().flatten().to_numpy()).reshape(prompts, orders, n)
            scores = values.mean(axis=1)
            again = truth + np.random.default_rng(8).normal(0, noise / np.sqrt(orders), truth.shape)
            every, best, worst = np.arange(prompts), scores.argmax(axis=1), scores.argmin(axis=1)
            said = flips.probability(scores[every, best] - scores[every, worst]).mean()
            so = (again[every, best] < again[every, worst]).mean()
            cells.append(f"{said:.1%} -> {so:.1%}")
        print(f"| {orders} | {' | '.join(cells)} |")


if __name__ == "__main__":
    show_places()
    show_coverage()
    show_flips()
