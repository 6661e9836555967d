"""What scripts and notebooks use, as `synthgen.run`, `synthgen.plan`, `synthgen.prove`, `synthgen.open_run`, …"""

from __future__ import annotations

from synthgen.api.opened import Run, open_run
from synthgen.api.pairing import pair
from synthgen.api.start import Plan, compose, plan, prove, run

__all__ = ["Plan", "Run", "compose", "open_run", "pair", "plan", "prove", "run"]

PUBLIC: tuple[str, ...] = ()
IMPORTS = ("config", "planning", "pairs", "ledger", "export", "flow", "observe", "runtime", "proof")
