"""The best completion against a random worse one: easy and hard pairs mixed.

    chosen   = argmax score(y) over the y that may be chosen
    rejected ~ uniform over { y : score(y) < score(chosen) }

Zephyr (arXiv 2310.16944) draws from all the rest, Tülu 3 (arXiv 2411.15124) from those with a lower rating, as here.
With `pairs.max_pairs_per_prompt` above 1, so many different ones are drawn.
"""

from __future__ import annotations

import polars as pl

from synthgen.config import PairsConfig


def propose(scored: pl.DataFrame, config: PairsConfig) -> pl.DataFrame:
    """Return the best completion with every worse one, in random order; see synthgen.pairs.policies for the columns."""
    best = (
        scored.filter("may_be_chosen")
        .group_by("prompt", maintain_order=True)
        .agg(pl.col("completion").first().alias("chosen"), pl.col("score").first().alias("best_score"))
    )
    return (
        scored.join(best, on="prompt")
        .filter("may_be_rejected", pl.col("score") < pl.col("best_score"))
        .sort("prompt", "draw")
        .select("prompt", "chosen", rejected="completion")
    )
