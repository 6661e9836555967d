"""The scorers' part of the page: what each gave, what passed, what it cost, and how far they agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synthgen.observe.view.blocks import Block, histogram, intervals, table
from synthgen.publish.card_tables import format_value, list_agreement, list_scorers
from synthgen.publish.figures import read_histogram


def scorer_blocks(report: Mapping[str, Any]) -> list[Block]:
    """Return the blocks of the report's `scorers`; none where the judge is the only one."""
    scorers: Mapping[str, Any] = report.get("scorers") or {}
    if not scorers:
        return []
    columns, rows = list_scorers(scorers)
    blocks = [table("What each gave", columns, [list(map(format_value, row)) for row in rows], numbers=range(1, 7))]
    passed = [(name, one) for name, one in scorers.items() if one.get("pass_rate") is not None]
    if passed:
        dots = [_dot(name, one["pass_rate"], one.get("pass_interval")) for name, one in passed]
        blocks.append(_shares("How many pass", dots, None, "Ranges: 95%, bootstrap over prompts."))
    agreement = report.get("scorer_agreement") or []
    flips = [
        _dot(f"{pair['scorer']} and {pair['other']}", pair["flip_rate"], pair.get("flip_interval"))
        for pair in agreement
        if pair.get("flip_rate") is not None
    ]
    if flips:
        note = "Of two completions that both tell apart, how often they disagree which is better; a coin: 50%."
        blocks.append(_shares("How often two scorers disagree", flips, 0.5, note))
    if agreement:
        columns, rows = list_agreement(agreement)
        blocks.append(table("Agreement", columns, [list(map(format_value, row)) for row in rows], numbers=range(1, 5)))
    for entry in report.get("flips") or []:
        blocks += _flip_blocks(entry)
    for name, one in scorers.items():
        series = read_histogram(one.get("histogram"))
        if series:
            blocks.append(histogram(f"Values of {name}", series, "value", "completions", width="half"))
    return blocks


def _flip_blocks(entry: Mapping[str, Any]) -> list[Block]:
    """Return what a scorer says against choices that were given: how often, where, and the plainest cases."""
    pair = f"{entry['recorded']} and {entry['scorer']}"
    rates = [("all", entry)]
    rates += [(f"margin of {one['from']:.2f} to {one['to']:.2f}", one) for one in entry["by_margin"]]
    names = {"chosen_longer": "the given choice is the longer text", "chosen_not_longer": "it is not the longer text"}
    rates += [(names[key], one) for key, one in entry["by_length"].items()]
    rows = [
        [name, f"{one['comparisons']:,}", "" if one["flip_rate"] is None else f"{one['flip_rate']:.1%}"]
        for name, one in rates
    ]
    title = f"Given choices that {entry['scorer']} would turn round ({pair})"
    blocks = [table(title, ["pairs of completions", "compared", "turned round"], rows, numbers=range(1, 3))]
    if entry["examples"]:
        columns = ["prompt", "given as the better", "given as the worse", f"worse by {entry['scorer']} by"]
        keys = ("prompt_id", "recorded_chosen", "recorded_rejected")
        cases = [[*(one[key] for key in keys), f"{one['margin']:.2f}"] for one in entry["examples"]]
        blocks.append(table("The plainest of them", columns, cases, numbers=range(3, 4)))
    return blocks


def _dot(label: str, value: float, interval: Any) -> dict[str, Any]:
    low, high = interval or (None, None)
    small = f"{low:.1%} to {high:.1%}" if interval else ""
    return {"label": label, "value": value, "text": f"{value:.1%}", "low": low, "high": high, "small": small}


def _shares(title: str, rows: list[dict[str, Any]], reference: float | None, note: str) -> Block:
    scale = ("0%", "50%", "100%")
    return intervals(title, rows, low=0.0, high=1.0, reference=reference, scale=scale, note=note, width="half")
