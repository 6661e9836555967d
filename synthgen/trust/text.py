"""A trust report in, lines for a terminal out."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from synthgen.trust.findings import find_verdict, list_findings

_MARKS = {"fine": "ok", "warning": "WARN", "unknown": "-"}
_WIDTH = 100


def format_trust(report: Mapping[str, Any]) -> str:
    """Return the report in words: a line or more per check, `ok`, `WARN` or `-` (cannot be told) before it.

    Args:
        report: what `measure_trust` returned, or the same read back from `report.json`.
    """
    findings = list_findings(report)
    warnings = sum(finding.verdict == "warning" for finding in findings)
    verdict = find_verdict(report)
    lines = [
        *textwrap.wrap(verdict[0].upper() + verdict[1:] if not verdict.startswith("this judge") else verdict, _WIDTH),
        f"Judge {report['judge_model']}: {report['completions']:,} completions of {report['prompts']:,} prompts, "
        f"scored by {report['scored_by']}",
        "",
    ]
    for finding in findings:
        first = f"  {_MARKS[finding.verdict]:<5}{finding.check:<12}"
        lines += textwrap.wrap(finding.text, _WIDTH, initial_indent=first, subsequent_indent=" " * len(first))
    for name, generator in (report["generators"] or {}).items():
        low, high = generator["win_rate_interval"]
        lines.append(
            f"       {'':<12}{name} ({generator['model']}) wins {100 * generator['win_rate']:.1f}% "
            f"({100 * low:.1f} to {100 * high:.1f}) of {generator['comparisons']:,} comparisons, "
            f"Bradley-Terry strength {generator['strength']:+.2f}"
        )
    lines += ["", "Nothing to warn of." if warnings == 0 else f"{warnings} warning{'s' if warnings > 1 else ''}."]
    return "\n".join(lines)
