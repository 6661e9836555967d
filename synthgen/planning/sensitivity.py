"""How far an estimate may be off: each assumption is moved alone, then all together as independent errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from synthgen.config.stage_names import Kind
from synthgen.planning.workload import Assumptions, StageLedger

SPREAD: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "output_length": ((0.5, 2.0), (0.9, 1.1)),
    "judgement_length": ((0.6, 1.6), (0.9, 1.1)),
    "prompt_length": ((0.7, 1.5), (0.95, 1.05)),
    "efficiency": ((0.5, 1.6), (0.9, 1.1)),
}
"""How far off each assumption may be, as factors (low, high) on it: while it is assumed, and once it is measured. That
of the efficiency covers 9 of 10 published measurements that nothing was fitted to (tests/planning/test_throughput.py).
"""


@dataclass(frozen=True, slots=True)
class Swing:
    """What one assumption does to the outcome if it is as far off as it may be.

    Attributes:
        factors: (low, high) on the assumption. outcomes: the outcome at each, the smaller first.
    """

    name: str
    measured: bool
    factors: tuple[float, float]
    outcomes: tuple[float, float]

    @property
    def width(self) -> float:
        """How far the two outcomes are apart."""
        return self.outcomes[1] - self.outcomes[0]


def list_swings(
    outcome: Callable[[Assumptions], float], ledger: Mapping[str, StageLedger], kinds: Mapping[str, Kind | None]
) -> list[Swing]:
    """Return what each assumption does alone, the one that moves `outcome` most first; `kinds`: by stage name."""
    swings = []
    for name, (assumed, known) in SPREAD.items():
        measured = _is_measured(name, ledger, kinds)
        factors = known if measured else assumed
        outcomes = sorted(outcome(replace(Assumptions(), **{name: factor})) for factor in factors)
        swings.append(Swing(name, measured, factors, (outcomes[0], outcomes[1])))
    return sorted(swings, key=lambda swing: swing.width, reverse=True)


def combine_swings(middle: float, swings: Sequence[Swing]) -> tuple[float, float]:
    """Return the range around `middle` if the assumptions are off independently (root of the sum of squares)."""
    below = math.sqrt(sum(max(0.0, middle - swing.outcomes[0]) ** 2 for swing in swings))
    above = math.sqrt(sum(max(0.0, swing.outcomes[1] - middle) ** 2 for swing in swings))
    return max(0.0, middle - below), middle + above


def _is_measured(name: str, ledger: Mapping[str, StageLedger], kinds: Mapping[str, Kind | None]) -> bool:
    judge = [entry for stage, entry in ledger.items() if kinds.get(stage) == "judgements"]
    generators = [entry for stage, entry in ledger.items() if kinds.get(stage) != "judgements"]
    entries, field = {
        "output_length": (generators, "output_tokens"),
        "judgement_length": (judge, "output_tokens"),
        "prompt_length": (generators, "input_tokens"),
        "efficiency": ([*generators, *judge], "output_tokens_per_s"),
    }[name]
    return bool(entries) and all(getattr(entry, field) is not None for entry in entries)
