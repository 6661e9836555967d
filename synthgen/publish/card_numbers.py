"""The card's numbers and its sample pair, from the report alone: what the report does not hold is left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synthgen.publish.card_tables import format_value, list_agreement, list_scorers, tabulate
from synthgen.publish.figures import FIGURES, read_histogram
from synthgen.publish.markup import SafeMarkdown, fence

_SHOWN_ELSEWHERE = frozenset({"judge_model", "generator_models", "histograms", "warnings"})
_VERDICTS = {"fine": "fine", "warning": "**warning**", "unknown": "cannot be told"}


def make_numbers(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the template's variables `flow`, `stages`, `figures`, `histograms`, `findings`, `trust` and `sample`."""
    trust = report.get("trust") or {}
    return {
        "flow": _flow(report),
        "stages": _stages(report),
        **_histograms(report),
        "findings": _findings(trust),
        "scorers": _scorers(report),
        "trust": tabulate({key: value for key, value in trust.items() if key not in _SHOWN_ELSEWHERE}),
        "sample": _sample(report.get("sample_pair")),
    }


def _flow(report: Mapping[str, Any]) -> list[tuple[str, Any]]:
    prompts, pairs = report.get("prompts") or {}, report.get("pairs") or {}
    bad = prompts.get("bad")
    rows: list[tuple[str, Any]] = [
        ("rows of prompts read", prompts.get("rows_read", prompts.get("read"))),
        ("further user turns of theirs, each a prompt", prompts.get("turns") or None),
        ("of these duplicates", prompts.get("duplicates")),
        ("of these duplicates, not equal to the character", prompts.get("twins") or None),
        ("of these left out (prompts.exclude)", prompts.get("excluded")),
        *_by_reason("of these unreadable", bad if isinstance(bad, Mapping) else {"any": bad}),
        ("prompts used", prompts.get("kept")),
        ("prompts with pairs", pairs.get("prompts_with_pairs")),
        ("prompts without a pair, tie", pairs.get("ties")),
        *_by_reason("prompts without a pair", pairs.get("dropped_by_reason") or {}),
        ("pairs made", pairs.get("made")),
        ("GPU hours", report.get("gpu_hours")),
        *_bills(report),
    ]
    return [row for row in rows if row[1] is not None]


def _bills(report: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return what endpoints counted and cost, by stage."""
    rows: list[tuple[str, Any]] = []
    for name, stage in (report.get("stages") or {}).items():
        bill = stage.get("billed") or {}
        rows.append((f"{name}, input tokens billed", bill.get("input_tokens")))
        rows.append((f"{name}, output tokens billed", bill.get("output_tokens")))
        rows.append((f"{name}, dollars for tokens", stage.get("usd")))
    return rows


def _by_reason(name: str, counts: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(f"{name}, {reason}", count) for reason, count in sorted(counts.items())]


def _stages(report: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    keys = ("units", "rows", "failed_rows", "input_tokens", "cached_input_tokens", "output_tokens", "busy_s")
    return [(name, *(stage.get(key) for key in keys)) for name, stage in (report.get("stages") or {}).items()]


def _histograms(report: Mapping[str, Any]) -> dict[str, Any]:
    figures, tables = [], []
    for key, (path, title, _, _) in FIGURES.items():
        series = read_histogram((report.get("histograms") or {}).get(key))
        if not series:
            continue
        figures.append({"alt": title, "path": path})
        for name, bins in series.items():
            tables.append({"title": f"{title}, {name}" if name else title, "rows": list(bins.items())})
    return {"figures": figures, "histograms": tables}


def _scorers(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the tables on scorers, none where the judge is the only one."""
    found = report.get("scorers") or {}
    made = [list_scorers(found)] if found else []
    made += [list_agreement(report["scorer_agreement"])] if report.get("scorer_agreement") else []
    return [{"columns": columns, "rows": rows} for columns, rows in made]


def _findings(trust: Mapping[str, Any]) -> list[tuple[Any, str]]:
    """Return (verdict, sentence) of each check; of a trust report of another version, its warnings only."""
    from synthgen.trust import list_findings

    try:
        return [(SafeMarkdown(_VERDICTS[found.verdict]), found.text) for found in list_findings(trust)]
    except (KeyError, TypeError):
        return [(SafeMarkdown(_VERDICTS["warning"]), str(text)) for text in trust.get("warnings") or []]


def _sample(pair: Any) -> list[dict[str, Any]]:
    if not isinstance(pair, Mapping):
        return []
    parts: list[dict[str, Any]] = [
        {"label": f"Prompt, {role}" if role else "Prompt", "text": fence(text)}
        for role, text in _turns(pair.get("prompt"))
    ]
    for side in ("chosen", "rejected"):
        score = pair.get(f"{side}_score")
        details = [pair.get(f"{side}_model"), None if score is None else f"score {format_value(score)}"]
        label = ", ".join([side.capitalize(), *(str(detail) for detail in details if detail)])
        parts += [{"label": label, "text": fence(text)} for _, text in _turns(pair.get(side))]
    return parts


def _turns(messages: Any) -> list[tuple[str, str]]:
    """Return (role, text) of each message; a plain string is one turn without a role."""
    if isinstance(messages, str):
        return [("", messages)]
    return [(str(m.get("role") or ""), str(m.get("content") or "")) for m in messages or [] if isinstance(m, Mapping)]
