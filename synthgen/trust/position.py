"""Whether the place in which a completion is shown changes its rating."""

from __future__ import annotations

from typing import Any

import numpy as np

from synthgen.trust.comparisons import TIE, IntArray
from synthgen.trust.intervals import make_blocks, ratio_interval, share_interval, sum_blocks
from synthgen.trust.observations import Observations


def measure_position(observations: Observations, seed: int) -> list[dict[str, Any]] | None:
    """Return the effect of each slot on the ratings as they were given, None where no request showed several.

    effect(s) = mean over the ratings given in slot s of (value - mean value of its request), in rating points. The
    order is drawn at random, so a judge that does not care for it has an effect of 0 in every slot (position bias:
    arXiv 2305.17926). `interval`: over prompts, each at level 1 - 0.05 / slots, so that with 95% confidence all of
    them hold at once (Bonferroni).
    """
    slots = int(observations.shown_slot.max(initial=-1)) + 1
    if slots == 0:
        return None
    blocks = make_blocks(observations.prompts, seed)
    effects = []
    for slot in range(slots):
        here = observations.shown_slot == slot
        if not here.any():
            continue
        deviation, block = observations.shown_deviation[here], blocks[observations.shown_prompt[here]]
        interval = ratio_interval(
            sum_blocks(deviation, block), sum_blocks(np.ones(len(block)), block), level=1 - 0.05 / slots
        )
        effects.append(
            {
                "slot": slot + 1,
                "effect": float(deviation.mean(dtype=np.float64)),
                "interval": interval and list(interval),
                "ratings": len(deviation),
            }
        )
    return effects


def measure_flips(observations: Observations, left: IntArray, right: IntArray, seed: int) -> dict[str, Any] | None:
    """Return how often a preference turns round when the same completions are judged in another order (K >= 2).

    flip_rate = P(sign(d') = -sign(d) | d ≠ 0, d' ≠ 0), where d and d' are the differences of two completions' values
    under one aspect in a repetition and in the next, without what the places add. 0.5 is what a coin gives. `interval`:
    95%, over prompts. `undecided_rate`: share of the comparisons that tie in exactly one of the two.

    Args:
        left, right: pairs of completions, as `list_comparisons` gives them.
    """
    value = observations.value
    apart = value[:, left, :] - value[:, right, :]
    before, after = apart[:-1], apart[1:]
    both = ~np.isnan(before) & ~np.isnan(after)
    comparisons = int(both.sum())
    if comparisons == 0:
        return None
    decided_before, decided_after = np.abs(before) >= TIE, np.abs(after) >= TIE
    strict = both & decided_before & decided_after
    flips = strict & (np.sign(before) != np.sign(after))
    blocks = make_blocks(observations.prompts, seed)[observations.prompt[left]]
    interval = share_interval(sum_blocks(flips.sum(axis=(0, 2)), blocks), sum_blocks(strict.sum(axis=(0, 2)), blocks))
    return {
        "comparisons": comparisons,
        "decided_in_both": int(strict.sum()),
        "flips": int(flips.sum()),
        "flip_rate": int(flips.sum()) / int(strict.sum()) if strict.any() else None,
        "interval": interval and list(interval),
        "undecided_rate": int((both & (decided_before != decided_after)).sum()) / comparisons,
    }
