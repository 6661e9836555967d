"""`doctor`: what this machine or cluster can run, and how to mend what it cannot."""

from synthgen.doctor.check import Check, Verdict, format_checks
from synthgen.doctor.checks import examine

__all__ = ["Check", "Verdict", "examine", "format_checks"]

PUBLIC: tuple[str, ...] = ()
IMPORTS = ("config", "planning", "engines", "ledger", "stages", "runtime")
