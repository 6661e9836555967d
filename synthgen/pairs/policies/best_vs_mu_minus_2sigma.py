"""The best completion against the one nearest to two standard deviations below the mean, for large n.

    chosen   = argmax score(y) over the y that may be chosen
    rejected = argmin |score(y) - (μ - 2σ)| over { y : score(y) < score(chosen) }

μ and σ are the mean and the population standard deviation of a prompt's scores. With many samples the very worst is an
outlier from which little is learned, and data made from it gets worse as n grows; from this point it gets better
(arXiv 2502.16825). No score lies more than √(n-1)·σ below the mean, so for n <= 5 this is `best_worst`.
"""

from __future__ import annotations

import polars as pl

from synthgen.config import PairsConfig
from synthgen.pairs.ratings import SCORE_DECIMALS


def propose(scored: pl.DataFrame, config: PairsConfig) -> pl.DataFrame:
    """Return at most one candidate per prompt; see synthgen.pairs.policies for the columns."""
    target = scored.group_by("prompt").agg((pl.col("score").mean() - 2 * pl.col("score").std(ddof=0)).alias("target"))
    best = (
        scored.filter("may_be_chosen")
        .group_by("prompt")
        .agg(pl.col("completion").first().alias("chosen"), pl.col("score").first().alias("best_score"))
    )
    return (
        scored.join(best, on="prompt", maintain_order="left")
        .join(target, on="prompt", maintain_order="left")
        .filter("may_be_rejected", pl.col("score") < pl.col("best_score"))
        .sort("prompt", (pl.col("score") - pl.col("target")).abs().round(SCORE_DECIMALS), "draw")
        .group_by("prompt", maintain_order=True)
        .agg(pl.col("chosen").first(), pl.col("completion").first().alias("rejected"))
    )
