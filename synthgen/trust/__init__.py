"""How far a run's judgements can be trusted: measured, and said in words."""

from synthgen.trust.finding import Finding
from synthgen.trust.findings import find_noise, find_verdict, list_findings
from synthgen.trust.report import measure_trust
from synthgen.trust.text import format_trust

__all__ = ["Finding", "find_noise", "find_verdict", "format_trust", "list_findings", "measure_trust"]

PUBLIC = ("comparisons", "intervals", "observations", "position", "reduction", "scorers")
IMPORTS = ("judge", "pairs")
