"""Every ordered pair of a prompt, the widest margins first.

    { (y, z) : y may be chosen, score(y) > score(z) }

InstructGPT ranks K completions and trains on all K·(K-1)/2 comparisons (arXiv 2203.02155). A prompt's pairs share texts
and are not independent; `pairs.max_pairs_per_prompt` caps them.
"""

from __future__ import annotations

import polars as pl

from synthgen.config import PairsConfig
from synthgen.pairs.ratings import SCORE_DECIMALS


def propose(scored: pl.DataFrame, config: PairsConfig) -> pl.DataFrame:
    """Return every candidate of each prompt, by falling margin; see synthgen.pairs.policies for the columns."""
    return rank_pairs(scored).select("prompt", "chosen", "rejected")


def rank_pairs(scored: pl.DataFrame) -> pl.DataFrame:
    """Return every candidate of each prompt, by falling margin, with `generator` and `generator_rejected` beside it."""
    chosen = scored.filter("may_be_chosen").select("prompt", "generator", "score", "draw", chosen="completion")
    rejected = scored.filter("may_be_rejected").select("prompt", "generator", "score", "draw", rejected="completion")
    return (
        chosen.join(rejected, on="prompt", suffix="_rejected")
        .with_columns(margin=(pl.col("score") - pl.col("score_rejected")).round(SCORE_DECIMALS))
        .filter(pl.col("margin") > 0)
        .sort("prompt", "margin", "draw", "draw_rejected", descending=[False, True, False, False])
    )
