"""`pairs.target`: how many units a run needs, told while it runs by the pairs that its first units give.

The scheduler is given a limit: as many units as the target takes at the yield so far (before there is one, at an
assumed one). The limit moves out while it turns out too low. As soon as the first units in order hold the target the
run is complete. Which units these are, `synthgen/export/prefix.py` says of the committed units alone.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from synthgen.config import Config, PairsConfig
from synthgen.export import Prefix
from synthgen.flow import ResolvedStage
from synthgen.ledger.ingest import PromptLedger
from synthgen.ledger.run_dir import CorruptUnitError, RunDir
from synthgen.runtime.scheduler import Scheduler
from synthgen.runtime.units import make_unit_reader
from synthgen.stages.base import tables_by_kind

logger = logging.getLogger(__name__)

ASSUMED_YIELD = 0.8
"""Pairs per prompt and pair that a prompt may give, before any unit has told."""
SAMPLE_UNITS = 32
"""Units that `plan` pairs to learn their yield."""
LEAST_PROMPTS = 16
"""Prompts from which on their yield is believed."""


@dataclass(frozen=True, slots=True)
class Yield:
    """How many pairs a prompt gives: `pairs` of `prompts` prompts so far, 0 of 0 where it is assumed."""

    per_prompt: float
    pairs: int = 0
    prompts: int = 0

    def describe(self, target: int, needed: int, there: int) -> str:
        """Return what `plan` says."""
        source = f"as {self.prompts:,} prompts gave so far" if self.prompts else "which is assumed until prompts tell"
        each = f"{self.per_prompt:.2f} pairs each, {source}"
        line = f"pairs.target={target} takes about {needed:,} of {there:,} prompts at {each}"
        if needed >= there and self.per_prompt * there < target:
            line += f"; that would be {math.floor(self.per_prompt * there):,} pairs: more prompts are needed"
        return line


def assume_yield(config: PairsConfig, pairs: int = 0, prompts: int = 0) -> Yield:
    """Return the yield of the prompts so far, or what is assumed where they are too few."""
    if prompts < LEAST_PROMPTS:
        return Yield(ASSUMED_YIELD * config.max_pairs_per_prompt)
    return Yield(max(pairs, 1) / prompts, pairs, prompts)


def count_units(target: int, rate: Yield, unit_rows: Sequence[int]) -> int:
    """Return how many first units are likely to hold `target` pairs; what is there counts as it is."""
    wanted = rate.prompts + math.ceil(max(0, target - rate.pairs) / rate.per_prompt)
    return next((unit for unit, rows in enumerate(accumulate(unit_rows), 1) if rows >= wanted), len(unit_rows))


def describe_shortfall(target: int, pairs: Mapping[str, Any]) -> str:
    """Return what to say where all prompts of a run give fewer pairs than its target; `pairs` is the report's."""
    return (
        f"pairs.target={target}: all {pairs['prompts']:,} prompts give {pairs['made']:,} pairs, which are exported; "
        "add prompts and start the same run again"
    )


class Target:
    """Bounds a scheduler by the pairs that its units give.

    Args:
        prefix: counts pairs of committed units.
    """

    def __init__(self, config: PairsConfig, prefix: Prefix, unit_rows: Sequence[int]) -> None:
        assert config.target is not None
        self._target = config.target
        self._config = config
        self._prefix = prefix
        self._unit_rows = unit_rows
        self._counted = 0
        self.units: int | None = None
        """Units that hold the target; None: not known yet, or all of them are too few."""

    def bound(self, scheduler: Scheduler) -> None:
        """Bound what a new scheduler hands out, now and whenever a unit is committed in every stage."""
        scheduler.end_at(count_units(self._target, assume_yield(self._config), self._unit_rows))
        scheduler.on_whole = lambda: self._look(scheduler)
        self._look(scheduler)

    def _look(self, scheduler: Scheduler) -> None:
        if self.units is not None:
            return
        whole = self._counted
        while whole < len(self._unit_rows) and scheduler.is_whole(whole):
            whole += 1
        if whole == self._counted:
            return
        self.units = self._prefix.reach(self._target, whole, self._counted)
        self._counted = whole
        if self.units is not None:
            logger.info("pairs.target=%d: the first %d units hold it", self._target, self.units)
            scheduler.extend(self.units)
            scheduler.end_at(self.units)
            return
        rate = assume_yield(self._config, self._prefix.pairs, self._prefix.prompts)
        scheduler.extend(max(whole + 1, count_units(self._target, rate, self._unit_rows)))


def bound_by_target(
    run_dir: RunDir, config: Config, stages: Sequence[ResolvedStage], prompts: PromptLedger
) -> tuple[Sequence[int], str]:
    """Return the rows of the units that `pairs.target` is likely to take, and a line that says so; all without one."""
    target, rows = config.pairs.target, prompts.unit_rows
    if target is None or config.pipeline == "task" or not rows:
        return rows, ""
    done = [run_dir.committed(stage.files.directory) for stage in stages]
    whole = next((unit for unit in range(len(rows)) if any(unit not in units for units in done)), len(rows))
    made = tables_by_kind([stage.files.stage for stage in stages])
    prefix = Prefix(make_unit_reader(run_dir, stages, prompts), made, config)
    try:
        known = prefix.reach(target, min(whole, SAMPLE_UNITS))
    except CorruptUnitError:  # the run makes it anew
        known, prefix = None, Prefix(lambda unit: {}, made, config)
    if known is not None:
        rows = rows[:known]
        return rows, f"pairs.target={target} is held by the first {sum(rows):,} prompts, which are there"
    rate = assume_yield(config.pairs, prefix.pairs, prefix.prompts)
    units = max(whole if whole <= SAMPLE_UNITS else 0, count_units(target, rate, rows))
    return rows[:units], rate.describe(target, sum(rows[:units]), sum(rows))
