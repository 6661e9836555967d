"""How many pairs the first units of a run give, and which of them are more than `pairs.target` wants.

A run of `pairs.target=N` has the shortest row of first units that gives N pairs, and of these the first N: by unit,
then prompt id, then number within the prompt. That is a matter of the committed units alone, whatever was made in which
order and however often the run was killed. What is estimated over a run (places, KTO's cuts) is estimated on the first
part of that row, as of any run's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from synthgen.config import Config
from synthgen.config.scorers import list_scorers
from synthgen.config.stage_names import Kind
from synthgen.export.blocks import PairKey, fit_first, pair_group
from synthgen.export.estimates import estimate_run
from synthgen.pairs import Estimates, Fit, needs_fit
from synthgen.pairs.estimates import count_first
from synthgen.records import Tables

MOST_TOGETHER = 32
"""Units that are paired at once where all of them are known to be needed: most of the time goes per call."""


class Prefix:
    """Counts the pairs of a run's first units as a data set of just these would have them.

    Args:
        read_tables: gives a unit's tables. made: names of the tables of each kind (`tables_by_kind`).
    """

    def __init__(
        self, read_tables: Callable[[int], Tables], made: Mapping[Kind, Sequence[str]], config: Config
    ) -> None:
        self._read_tables = read_tables
        self._made = made
        self._config = config
        self._held = [0]  # prompts of the first so many units
        self._pairs: list[int] = []  # by unit
        self._first = -1  # prompts of the part that is estimated on
        self._estimates: Estimates | None = None
        self._fit = Fit()

    @property
    def prompts(self) -> int:
        """Prompts of the units that were counted."""
        return self._held[len(self._pairs)]

    @property
    def pairs(self) -> int:
        """Pairs of the units that were counted."""
        return sum(self._pairs)

    def reach(self, target: int, units: int, start: int = 0) -> int | None:
        """Return how many of the first `units` units it takes for `target` pairs; None: they are too few.

        All of them are committed. Those before `start` are known not to be enough.
        """
        most = self._config.pairs.max_pairs_per_prompt
        unit = start
        while unit < units:
            step = 1
            while unit + step < units and step < MOST_TOGETHER:
                prompts = self._count_prompts(unit + step + 1)
                if most * prompts >= target or count_first(prompts) != self._first:
                    break
                step += 1
            unit += step
            self._count(unit)
            if self.pairs >= target:
                return unit
        return None

    def list_beyond(self, target: int) -> frozenset[PairKey]:
        """Return the pairs of the counted units that come after the first `target`."""
        kept = 0
        beyond: list[PairKey] = []
        for unit, pairs in enumerate(self._pairs):
            if kept + pairs > target:
                keys = [key for unit_keys in self._pair([unit]) for key in unit_keys]
                beyond += keys[max(0, target - kept) :]
            kept += pairs
        return frozenset(beyond)

    def _count(self, units: int) -> None:
        """Count the pairs of the first `units` units, of those counted before only what is estimated anew."""
        first = count_first(self._count_prompts(units))
        if first != self._first:
            self._first = first
            self._estimates = estimate_run(self._read_tables, range(units), self._made, self._config)
            if needs_fit(self._config.pairs, list_scorers(self._config)):
                self._fit = fit_first(self._read_tables(0), self._made, self._config, self._estimates)
            self._pairs = []
        while len(self._pairs) < units:
            begin = len(self._pairs)
            self._pairs += map(len, self._pair(range(begin, min(units, begin + MOST_TOGETHER))))

    def _pair(self, units: Sequence[int]) -> list[list[PairKey]]:
        """Return the pairs of each of `units`, by prompt id, then number within the prompt."""
        tables = [self._read_tables(unit) for unit in units]
        rows = pair_group(tables, self._made, self._config, self._fit, self._estimates).pairs
        keys: dict[str, list[PairKey]] = {}
        for prompt_id, index in zip(rows["prompt_id"].to_pylist(), rows["pair_index"].to_pylist(), strict=True):
            keys.setdefault(prompt_id, []).append((prompt_id, index))
        ids = [sorted(unit["prompts"]["prompt_id"].to_pylist()) for unit in tables]
        return [[key for prompt_id in here for key in keys.get(prompt_id, [])] for here in ids]

    def _count_prompts(self, units: int) -> int:
        while len(self._held) <= units:
            self._held.append(self._held[-1] + self._read_tables(len(self._held) - 1)["prompts"].num_rows)
        return self._held[units]
