"""An evaluation in, a table for a terminal out."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

_COLUMNS = {
    "pairs": "pairs",
    "judged": "judged",
    "accuracy": "accuracy",
    "accuracy_interval": "95%",
    "accuracy_failed_wrong": "failed wrong",
    "consistent_accuracy": "consistent",
    "judgebench_accuracy": "JudgeBench",
    "llmbar_agreement": "LLMBar agree",
    "kappa": "kappa",
    "tie_rate": "ties",
    "failed_rate": "failed",
}
_WIDTH = 110
FEW = 30
"""Pairs below which an interval is so wide that a good judge may not be told from chance."""


def format_eval(result: Mapping[str, Any], where: str | None = None) -> str:
    """Return a row per subset and one for all, for each judge, what the columns mean, and at the end the verdicts.

    Args:
        result: what `evaluate` returned. where: the file that holds it; None: none does.
    """
    judges = result.get("judges") or {result["judge_model"]: result}
    lines: list[str] = []
    for name, own in judges.items():
        lines += [*([f"{name}:"] if len(judges) > 1 else []), *_tabulate(own), ""]
    lines += [
        "accuracy: ties count half, 50% is chance; failed wrong: the same, what failed counts as wrong; consistent:",
        "right in both orders; JudgeBench: its rule, right and tie counts as right; LLMBar agree: the same verdict in",
        "both orders.",
    ]
    if result["unreadable"]:
        reasons = ", ".join(f"{reason} {count}" for reason, count in result["unreadable"].items())
        lines.append(f"Rows left out: {reasons}.")
    lines.append("")
    for pair in result.get("agreement_between_judges") or []:
        share = "-" if pair["share"] is None else f"{100 * pair['share']:.1f}%"
        lines.append(f"{' and '.join(pair['judges'])} say the same of {share} of {pair['pairs']:,} pairs.")
    for name, own in judges.items():
        lines += [line for text in _say_rest(own) for line in textwrap.wrap(text, _WIDTH)]
        lines += textwrap.wrap(f"{name}: {_say_verdict(own)}", _WIDTH)
    if where is not None:
        lines.append(f"All figures: {where}")
    return "\n".join(lines)


def _tabulate(result: Mapping[str, Any]) -> list[str]:
    subsets = result["subsets"] if len(result["subsets"]) > 1 else {}
    rows = [("subset", *_COLUMNS.values())]
    for name, measures in [*subsets.items(), ("all", result["all"])]:
        rows.append((name, *(_show(key, measures[key]) for key in _COLUMNS)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]


def _say_verdict(result: Mapping[str, Any]) -> str:
    measures = result["all"]
    if measures["accuracy"] is None:
        return "no judgement could be read"
    low, high = measures["accuracy_interval"]
    accuracy = f"{100 * measures['accuracy']:.1f}% ({100 * low:.1f} to {100 * high:.1f})"
    orders = f"{result['orders']} order{'s' if result['orders'] != 1 else ''}"
    if low <= 0.5 <= high:
        few = "" if measures["judged"] >= FEW else f", as far as {measures['judged']} pairs can tell"
        return f"no better than chance{few}: right in {accuracy} of the cases, {orders}"
    return f"{'better' if low > 0.5 else 'worse'} than chance: right in {accuracy} of the cases, {orders}"


def _say_rest(result: Mapping[str, Any]) -> Iterator[str]:
    for slot in result["position"] or []:
        low, high = slot["interval"] or (float("nan"),) * 2
        yield f"Text {slot['slot']} is rated {slot['effect']:+.2f} points for its place ({low:+.2f} to {high:+.2f})."
    if result["failures"]:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in result["failures"].items())
        yield f"Judgements that failed: {reasons}."
    yield from (f"Note: {note}." for note in result["notes"])


def _show(key: str, value: Any) -> str:
    if value is None:
        return "-"
    if key == "accuracy_interval":
        return " to ".join(f"{100 * bound:.1f}" for bound in value)
    if key == "kappa":
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else f"{100 * value:.1f}%"
