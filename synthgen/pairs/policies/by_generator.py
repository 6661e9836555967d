"""One generator's completion over another's, whatever a score says: no judge is needed.

    chosen   = the best completion of pairs.chosen_generator that may be chosen
    rejected = the worst completion of pairs.rejected_generator

Best and worst by the score where there is one (completions without one come after those that have one), else drawn. A
larger model's answer over a smaller one's taught more than judged pairs did, although each side alone is weak (delta
learning, arXiv 2507.06187); OLMo 3 (arXiv 2512.13961) mixes such pairs with judged ones.
"""

from __future__ import annotations

import polars as pl

from synthgen.config import PairsConfig


def propose(scored: pl.DataFrame, config: PairsConfig) -> pl.DataFrame:
    """Return at most one candidate per prompt; see synthgen.pairs.policies for the columns."""
    chosen = (
        scored.filter("may_be_chosen", pl.col("generator") == config.chosen_generator)
        .group_by("prompt", maintain_order=True)
        .agg(chosen=pl.col("completion").first())
    )
    rejected = (
        scored.filter("may_be_rejected", pl.col("generator") == config.rejected_generator)
        .sort("prompt", pl.col("score").is_nan(), "score", "draw")
        .group_by("prompt", maintain_order=True)
        .agg(rejected=pl.col("completion").first())
    )
    return chosen.join(rejected, on="prompt", maintain_order="left").select("prompt", "chosen", "rejected")
