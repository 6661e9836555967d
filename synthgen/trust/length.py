"""Whether longer completions score higher."""

from __future__ import annotations

from typing import Any

import numpy as np

from synthgen.pairs.index import FloatArray, IntArray
from synthgen.trust.intervals import make_blocks, ratio_interval, sum_blocks, wilson_interval
from synthgen.trust.observations import Observations
from synthgen.trust.place import demean

LEVEL = 0.975
"""Coverage of the slope's interval: of all that is tested, one run in twenty at most may be warned of by chance."""


def measure_length(observations: Observations, seed: int) -> dict[str, Any] | None:
    """Return how the score goes with the length, None where no prompt has completions of two lengths.

    slope = Σ x·y / Σ x², where x = ln tokens and y = score, both minus their mean within the prompt (the within, or
    fixed effects, estimator: Wooldridge, Econometric Analysis of Cross Section and Panel Data, 2010, chapter 10), in
    rating points per factor e; `slope_interval`: 97.5%, over prompts; `points_per_doubling` = slope · ln 2.
    Length may be merit: a slope is a warning and no proof (verbosity bias: arXiv 2306.05685; length-controlled win
    rates: arXiv 2404.04475).

    Over the prompts whose best- and worst-scored completions differ in score: `longer_chosen_share` of those in which
    they differ in length too have the longer one as the best (`longer_chosen_interval`: Wilson, 95%), and
    `median_difference_tokens` is the median of (tokens of the best - tokens of the worst).
    """
    scores, tokens = observations.scores(), observations.tokens
    known = np.flatnonzero(~np.isnan(scores) & (tokens > 0))
    prompt, score, log_tokens = observations.prompt[known], scores[known], np.log(tokens[known].astype(np.float64))
    x, y = demean(log_tokens, prompt), demean(score, prompt)
    if not (np.abs(x) > 1e-12).any():
        return None
    blocks = make_blocks(observations.prompts, seed)[prompt]
    products, squares = sum_blocks(x * y, blocks), sum_blocks(x * x, blocks)
    slope = products.sum() / squares.sum()
    interval = ratio_interval(products, squares, LEVEL)
    best, worst = _find_ends(prompt, score, seed)
    difference = tokens[known][best] - tokens[known][worst]
    longer, uneven = int((difference > 0).sum()), int((difference != 0).sum())
    share_interval = wilson_interval(longer, uneven)
    return {
        "completions": len(known),
        "prompts": len(np.unique(prompt[np.abs(x) > 1e-12])),
        "slope": float(slope),
        "slope_interval": interval and list(interval),
        "points_per_doubling": float(slope * np.log(2)),
        "longer_chosen_share": longer / uneven if uneven else None,
        "longer_chosen_interval": share_interval and list(share_interval),
        "median_difference_tokens": float(np.median(difference)) if len(difference) else None,
    }


def _find_ends(prompt: IntArray, score: FloatArray, seed: int) -> tuple[IntArray, IntArray]:
    """Return the best and the worst completion of each prompt in which they differ in score; ties break at random."""
    order = np.lexsort((np.random.default_rng(seed).random(len(score)), score, prompt))
    starts = np.flatnonzero(np.diff(prompt[order], prepend=-1))
    worst, best = order[starts], order[np.append(starts[1:], len(order)) - 1]
    differ = score[best] > score[worst]
    return best[differ], worst[differ]
