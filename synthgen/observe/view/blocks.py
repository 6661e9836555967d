"""Blocks of the page: a block is a mapping of plain values whose `kind` names its function in assets/charts.js."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Block = dict[str, Any]


def tiles(items: Iterable[tuple[str, str, str]]) -> Block:
    """Return large single numbers: (label, value, note)."""
    return {"kind": "tiles", "items": [{"label": label, "value": value, "note": note} for label, value, note in items]}


def notices(heading: str, texts: Iterable[str]) -> Block:
    """Return warnings, one line each."""
    return {"kind": "notices", "heading": heading, "items": list(texts)}


def findings(rows: Iterable[tuple[str, str, str]]) -> Block:
    """Return what was found: (`fine`, `warning` or `unknown`; what was looked at; a sentence)."""
    return {
        "kind": "findings",
        "rows": [{"verdict": verdict, "check": check, "text": text} for verdict, check, text in rows],
    }


def bars(
    title: str, rows: Sequence[Mapping[str, Any]], *, top: float | None = None, note: str = "", width: str = ""
) -> Block:
    """Return horizontal bars.

    Args:
        rows: each with `label`, `value` (length of the bar), `text` (the value as shown); optionally `note` below the
            label, `small` after the text, and `drop` for what was lost.
        top: the value of a bar of full length; None: the largest.
    """
    return {"kind": "bars", "title": title, "rows": list(rows), "max": top, "note": note, "width": width}


def histogram(
    title: str, series: Mapping[str, Mapping[str, int]], x_label: str, y_label: str, *, note: str = "", width: str = ""
) -> Block:
    """Return columns: `{series: {bin label: count}}`, the only series may be called `""`."""
    return {
        "kind": "histogram",
        "title": title,
        "series": {name: list(bins.items()) for name, bins in series.items()},
        "x_label": x_label,
        "y_label": y_label,
        "note": note,
        "width": width,
    }


def intervals(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    low: float,
    high: float,
    reference: float | None,
    scale: Sequence[str],
    note: str = "",
    width: str = "",
) -> Block:
    """Return dots with ranges on one axis from `low` to `high`.

    Args:
        rows: each with `label`, `value`, `low` and `high` (None: no range), `text`; optionally `note` and `small`.
        reference: where a dashed line stands, such as chance level.
        scale: texts below the axis, spread evenly.
    """
    return {
        "kind": "intervals",
        "title": title,
        "rows": list(rows),
        "low": low,
        "high": high,
        "reference": reference,
        "scale": list(scale),
        "note": note,
        "width": width,
    }


def lines(
    title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    x_label: str,
    y_label: str,
    *,
    note: str = "",
    bands: Sequence[tuple[float, float]] = (),
    timed: bool = True,
) -> Block:
    """Return lines over time: `{name: [(seconds, value)]}`; `bands` are times that are shown grey.

    Args:
        timed: False: over a number, such as steps.
    """
    return {
        "kind": "lines",
        "title": title,
        "series": [{"name": name, "points": list(points)} for name, points in series.items()],
        "x_label": x_label,
        "y_label": y_label,
        "note": note,
        "timed": timed,
        "bands": [list(band) for band in bands],
    }


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: Iterable[int] = (),
    summary: str = "",
    note: str = "",
    width: str = "",
) -> Block:
    """Return a table of texts.

    Args:
        numbers: indices of the columns that hold numbers. summary: if not empty, the table is folded up behind it.
    """
    return {
        "kind": "table",
        "title": title,
        "columns": list(columns),
        "rows": [list(row) for row in rows],
        "numbers": list(numbers),
        "summary": summary,
        "note": note,
        "width": width,
    }


def as_mapping(value: Any) -> Mapping[str, Any]:
    """Return `value` if it is a mapping, else an empty one: a report may lack any of its parts."""
    return value if isinstance(value, Mapping) else {}
