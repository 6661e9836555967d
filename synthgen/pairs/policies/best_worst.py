"""The best completion against the worst: the widest margin, one pair per prompt.

    chosen   = argmax score(y) over the y that may be chosen
    rejected = argmin score(y)

The usual choice for n of about 4 to 8 (SimPO's on-policy data, arXiv 2405.14734, section 4; Llama 3's best and worst of
several, arXiv 2407.21783, section 4.2).
"""

from __future__ import annotations

import polars as pl

from synthgen.config import PairsConfig


def propose(scored: pl.DataFrame, config: PairsConfig) -> pl.DataFrame:
    """Return at most one candidate per prompt; see synthgen.pairs.policies for the columns."""
    ends = scored.group_by("prompt", maintain_order=True).agg(
        pl.col("completion", "score").filter("may_be_chosen").first().name.prefix("best_"),
        pl.col("completion", "score").filter("may_be_rejected").last().name.prefix("worst_"),
    )
    return ends.filter(pl.col("best_score") > pl.col("worst_score")).select(
        "prompt", chosen="best_completion", rejected="worst_completion"
    )
