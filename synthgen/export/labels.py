"""What an export says of its labels: where KTO cut and what came of it, and how many pairs would turn round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config import Config
from synthgen.config.scorers import list_scorers
from synthgen.config.stage_names import JUDGE
from synthgen.pairs import Estimates
from synthgen.pairs.combine import resolve_weights
from synthgen.pairs.estimates import NO_LIMIT, raise_margin


class Labels:
    """Counts over the blocks of an export; `estimates` are what its rows are made with."""

    def __init__(self, estimates: Estimates, config: Config) -> None:
        self.estimates = estimates
        self._pairs = config.pairs
        self._by_judge = list(resolve_weights(config.pairs, list_scorers(config))) == [JUDGE]
        self._turning = 0.0
        self._made = 0
        self._kto: Counter[bool] = Counter()

    def count(self, tables: Mapping[tuple[str, str], pa.Table]) -> None:
        """Add a block's rows, of all splits."""
        for (name, _), table in tables.items():
            if name == "default" and self.estimates.flips is not None and self._by_judge:
                margins = table["score_margin"].to_numpy()
                self._turning += float(self.estimates.flips.probability(np.asarray(margins, np.float64)).sum())
                self._made += len(margins)
            elif name == "kto":
                desirable = pc.sum(table["label"]).as_py() or 0
                self._kto.update({True: desirable, False: table.num_rows - desirable})

    def report(self) -> dict[str, Any]:
        """Return the report's `labels`.

        `estimated_on_prompts`; `kto`: `high` and `low` as they were used, `desirable` and `undesirable` rows;
        `turn_round_share`: of the pairs, how many would turn round if they were judged again, None where that is not
        known; `min_margin` as it was used; `unused`: settings that could not be obeyed, and why.
        """
        cuts = self.estimates.cut(self._pairs.kto)
        unused = []
        if self._pairs.max_flip_probability < NO_LIMIT and self.estimates.flips is None:
            unused.append(
                f"pairs.max_flip_probability={self._pairs.max_flip_probability} left no pair out: too little was "
                "judged twice to tell which labels turn round; set judge.orders=2"
            )
        margin = raise_margin(self._pairs, self.estimates).min_margin
        return {
            "estimated_on_prompts": self.estimates.prompts,
            "kto": {
                "high": _finite(cuts.high),
                "low": _finite(cuts.low),
                "desirable": self._kto[True],
                "undesirable": self._kto[False],
            },
            "turn_round_share": self._turning / self._made if self._made else None,
            "min_margin": _finite(margin),
            "unused": unused,
        }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
