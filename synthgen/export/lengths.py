"""How long the sides of pairs are, as they are made and as they would be without the settings on length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config import PairsConfig


@dataclass(frozen=True, slots=True)
class Lengths:
    """Sums over pairs whose tokens are known on both sides. `longer`: pairs whose chosen side is the longer one."""

    pairs: int = 0
    chosen: int = 0
    rejected: int = 0
    longer: int = 0

    def __add__(self, other: Lengths) -> Lengths:
        return Lengths(
            self.pairs + other.pairs,
            self.chosen + other.chosen,
            self.rejected + other.rejected,
            self.longer + other.longer,
        )

    def describe(self) -> dict[str, Any] | None:
        """Return means in tokens and the share whose chosen side is longer; None without a pair."""
        if not self.pairs:
            return None
        return {
            "pairs": self.pairs,
            "chosen_tokens": self.chosen / self.pairs,
            "rejected_tokens": self.rejected / self.pairs,
            "longer_chosen_share": self.longer / self.pairs,
        }


def sum_lengths(pairs: pa.Table) -> Lengths:
    """Return the sums of PAIRS_SCHEMA rows."""
    known = pairs.select(["chosen_tokens", "rejected_tokens"]).drop_null()
    chosen, rejected = known["chosen_tokens"], known["rejected_tokens"]
    sums = [int(pc.sum(column).as_py() or 0) for column in (chosen, rejected, pc.greater(chosen, rejected))]
    return Lengths(known.num_rows, *sums)


def without_length(config: PairsConfig) -> PairsConfig | None:
    """Return the settings without those on length, None where there are none."""
    free = replace(config, length_control=False, max_length_gap=0, max_length_ratio=0.0)
    return None if free == config else free


def describe_lengths(before: Lengths, after: Lengths, config: PairsConfig) -> Mapping[str, Any]:
    """Return the report's `lengths`: `after` of the pairs that are made; `before` without the settings on length."""
    return {"before": before.describe() if without_length(config) else None, "after": after.describe()}
