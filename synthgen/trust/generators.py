"""Which generator the judge prefers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from synthgen.trust.comparisons import TIE, IntArray
from synthgen.trust.intervals import FloatArray, make_blocks, share_interval
from synthgen.trust.observations import Observations

REFITS = 299
"""Resamples behind the intervals; each is a Bradley-Terry fit."""


def measure_generators(
    observations: Observations, left: IntArray, right: IntArray, models: Mapping[str, str], seed: int
) -> dict[str, dict[str, Any]] | None:
    """Return win rate and Bradley-Terry strength per generator, None where no prompt compares two generators.

    A comparison is a pair of completions of one prompt by different generators; the higher score wins, a tie is half a
    win for both. `win_rate` = wins / comparisons. `strength` is the Bradley-Terry log strength θ, mean 0 over the
    generators: P(a beats b) = 1 / (1 + exp(θ_b - θ_a)) (Bradley, Terry 1952, doi 10.2307/2334029). `choix` fits it
    (iterative Luce spectral ranking, Maystre, Grossglauser 2015) with one drawn comparison added between every two
    generators, so that it stays finite for one that always wins. Intervals: 95%, over prompts; of `strength` Student's
    t around it, by the standard error of refits to prompts that are drawn anew (bootstrap).

    Args:
        left, right: pairs of completions, as `list_comparisons` gives them.
        models: model id by generator.
    """
    count = len(observations.generators)
    wins = _count_wins(observations, left, right, seed)
    total = wins.sum(axis=0)
    if total.sum() == 0:
        return None
    draws = np.random.default_rng(seed).multinomial(len(wins), np.full(len(wins), 1 / len(wins)), size=REFITS)
    refits = np.tensordot(draws.astype(np.float64), wins, axes=1)
    strengths = np.array([fit_strengths(refit) for refit in refits])
    prompts = int((wins.sum(axis=(1, 2)) > 0).sum())
    win_rate, strength = _win_rates(total), fit_strengths(total)
    return {
        observations.generators[i]: {
            "model": models.get(observations.generators[i]),
            "comparisons": int(total[i].sum() + total[:, i].sum()),
            "win_rate": float(win_rate[i]),
            "win_rate_interval": _share(wins, i),
            "strength": float(strength[i]),
            "strength_interval": _reach(strengths[:, i], strength[i], prompts),
        }
        for i in range(count)
        if not np.isnan(win_rate[i])
    }


def fit_strengths(wins: FloatArray) -> FloatArray:
    """Return the Bradley-Terry log strength of each generator, mean 0.

    Args:
        wins: wins[i, j] is how often i beat j (ties count half for each), shape (generators, generators).
    """
    import choix

    prior = 0.5 * (1 - np.eye(len(wins)))
    return np.asarray(choix.ilsr_pairwise_dense(wins + prior, max_iter=1000))


def _count_wins(observations: Observations, left: IntArray, right: IntArray, seed: int) -> FloatArray:
    """Return wins[block, i, j]: how often generator i beat generator j in the prompts of a block."""
    scores, generator = observations.scores(), observations.generator.astype(np.int64)
    apart = scores[left] - scores[right]
    used = ~np.isnan(apart) & (generator[left] != generator[right])
    left, right, apart = left[used], right[used], apart[used]
    count = len(observations.generators)
    blocks = make_blocks(observations.prompts, seed)
    size = int(blocks.max(initial=0)) + 1
    left_wins = np.where(np.abs(apart) < TIE, 0.5, apart > 0)
    base = blocks[observations.prompt[left]] * count
    forward = (base + generator[left]) * count + generator[right]
    backward = (base + generator[right]) * count + generator[left]
    wins = np.bincount(forward, weights=left_wins, minlength=size * count * count)
    wins += np.bincount(backward, weights=1 - left_wins, minlength=size * count * count)
    return np.asarray(wins.reshape(size, count, count), dtype=np.float64)


def _win_rates(wins: FloatArray) -> FloatArray:
    won, played = wins.sum(axis=1), wins.sum(axis=1) + wins.sum(axis=0)
    rates = np.full(len(wins), np.nan)
    np.divide(won, played, out=rates, where=played > 0)
    return rates


def _share(wins: FloatArray, i: int) -> list[float] | None:
    """Return the interval of the share of its comparisons that generator i won."""
    won = wins[:, i].sum(axis=1)
    interval = share_interval(won, won + wins[:, :, i].sum(axis=1))
    return interval and list(interval)


def _reach(refits: FloatArray, strength: float, prompts: int) -> list[float]:
    """Return strength ± t · standard error, with as many degrees of freedom as there are prompts but one."""
    from scipy.special import stdtrit

    reach = float(stdtrit(max(prompts - 1, 1), 0.975)) * float(np.std(refits))
    return [float(strength) - reach, float(strength) + reach]
