"""What scripts and notebooks use, as `synthgen.run`, `synthgen.plan`, `synthgen.open_run`, `synthgen.pair`."""

from __future__ import annotations

from synthgen.api.opened import Run, open_run
from synthgen.api.pairing import pair
from synthgen.api.start import Plan, compose, plan, run

__all__ = ["Plan", "Run", "compose", "open_run", "pair", "plan", "run"]

PUBLIC: tuple[str, ...] = ()
IMPORTS = ("config", "planning", "pairs", "ledger", "export", "observe", "runtime")
