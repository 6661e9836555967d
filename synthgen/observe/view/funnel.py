"""From the rows that were read to the prompts that gave pairs: what is left after each step, why the others went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synthgen.observe.view.blocks import Block, bars

READING = {
    "duplicates": "the same conversation again",
    "excluded": "overlaps with prompts.exclude",
}
DROPS = {
    "prompt_failed": "the prompt does not pass pairs.prompt_must_pass",
    "prompt_passed": "the prompt does not fail pairs.prompt_must_fail",
    "few_completions": "fewer than two completions",
    "cut_off": "fewer than two that max_tokens did not cut off",
    "few_scores": "fewer than two scored completions",
    "generator_absent": "the named generator has no scored completion",
    "ties": "ties: all completions score the same",
    "chosen_cut_off": "the best completion was cut off",
    "chosen_empty": "the best completion is empty",
    "chosen_refusal": "the best completion refuses",
    "chosen_failed": "the best completion does not pass pairs.chosen_must_pass",
    "rejected_passed": "none that fails pairs.rejected_must_fail scores below one that may be chosen",
    "below_min_margin": "margin below pairs.min_margin",
    "above_max_margin": "margin above pairs.max_margin",
    "scores_too_far": "scores differ more than pairs.max_score_std",
    "length_gap": "lengths differ more than pairs.max_length_gap",
    "length_ratio": "lengths differ more than pairs.max_length_ratio",
    "too_similar": "completions more alike than pairs.max_similarity",
}
"""Reason → words, in the order in which the reasons are looked for (synthgen.pairs.PairCounts)."""


def prompt_funnel(report: Mapping[str, Any]) -> list[Block]:
    """Return the bars of the funnel; none where the report does not say how many prompts there were."""
    prompts, pairs = report.get("prompts") or {}, report.get("pairs") or {}
    kept = prompts.get("kept")
    if not isinstance(kept, int):
        return []
    rows: list[dict[str, Any]] = []
    read = prompts.get("rows_read")
    lost = {READING[key]: prompts.get(key) or 0 for key in READING}
    lost |= {f"unusable row: {reason}": count for reason, count in sorted((prompts.get("bad") or {}).items())}
    turns = prompts.get("turns") or 0
    total = max((read or 0) + turns, kept)
    if read and any([turns, *lost.values()]):
        rows.append(_row("rows read", read, total))
        rows += [_row("further user turns of theirs", turns, total)] if turns else []
        rows += [_row(label, count, total, drop=True) for label, count in lost.items() if count]
    rows.append(_row("prompts", kept, total))
    if "made" in pairs:
        dropped = {"ties": pairs.get("ties") or 0, **(pairs.get("dropped_by_reason") or {})}
        known = [reason for reason in DROPS if dropped.get(reason)]
        for reason in [*known, *sorted(reason for reason in dropped if reason not in DROPS)]:
            if dropped[reason]:
                rows.append(_row(DROPS.get(reason, reason), dropped[reason], total, drop=True))
        left = pairs.get("prompts_with_pairs", kept - sum(dropped.values()))
        made = pairs["made"]
        note = f"{made:,} pairs" if made != left else ""
        rows.append(_row("prompts with a pair", left, total, note=note))
    title = "From rows to pairs" if "made" in pairs else "From rows to prompts"
    return [bars(title, rows, top=total)] if len(rows) > 1 else []


def _row(label: str, value: int, total: int, *, drop: bool = False, note: str = "") -> dict[str, Any]:
    share = f"{value / total:.1%}" if total else ""
    return {
        "label": label,
        "value": value,
        "text": f"−{value:,}" if drop else f"{value:,}",
        "small": share,
        "drop": drop,
        "note": note,
    }
