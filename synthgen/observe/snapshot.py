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


@dataclass
class Snapshot:
    """The state of a run at one moment, for the panel, the log line and `status.json`."""

    stages: dict[str, StageTotals]
    replicas: list[dict[str, Any]]
    elapsed_s: float
    gpu_hours: float
    message: str = ""
    api_usd: float = 0.0  # of endpoints whose prices are given, this session, dollars
