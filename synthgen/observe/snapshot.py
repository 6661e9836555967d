"""What a run looks like at one moment: numbers only, for the panel, the log and `status.json`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from synthgen.records import UnitCounts


@dataclass
class StageTotals:
    """What this session did in one stage, and how many of its units are committed in all."""

    units: int = 0
    done: int = 0
    reused: int = 0
    counts: UnitCounts = field(default_factory=UnitCounts)
    directory: str = ""  # of the stage's units, within the run directory


@dataclass(frozen=True, slots=True)
class InFlight:
    """What was made of units that are not committed yet.

    Attributes:
        tokens: output tokens, requests in flight included.
        ended, requests: of the open units' requests. units: so many are open.
    """

    tokens: int = 0
    ended: int = 0
    requests: int = 0
    units: int = 0


@dataclass
class Snapshot:
    """The state of a run at one moment, for the panel, the log line and `status.json`."""

    stages: dict[str, StageTotals]
    replicas: list[dict[str, Any]]
    elapsed_s: float
    gpu_hours: float
    message: str = ""
    in_flight: dict[str, InFlight] = field(default_factory=dict)
    api_usd: float = 0.0  # of endpoints whose prices are given, this session, dollars

    def output_tokens(self, stage: str) -> int:
        """Return the output tokens of a stage, committed and in flight."""
        return self.stages[stage].counts.output_tokens + self.in_flight.get(stage, InFlight()).tokens
