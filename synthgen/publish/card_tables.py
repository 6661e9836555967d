"""Nested numbers of the report as small tables for the card, whatever their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthgen.publish.markup import SafeMarkdown, inline

MAX_ROWS = 50


@dataclass(frozen=True, slots=True)
class Table:
    """A table with raw cells; `title` is empty for the one that holds all single numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tabulate(values: Mapping[str, Any]) -> list[Table]:
    """Return `values` as tables: single numbers in the first, each list or mapping of alike records in its own.

    Long lists are cut after `MAX_ROWS` rows; absent numbers (None) are left out.
    """
    single: list[tuple[str, str]] = []
    tables: list[Table] = []
    _collect(values, "", single, tables)
    first = [Table("", ("measure", "value"), tuple(single[:MAX_ROWS]))] if single else []
    return first + tables


def render_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> SafeMarkdown:
    """Return a Markdown table; strings are escaped, other values formatted."""
    lines = [_row(columns), "|" + "---|" * len(columns), *(_row(row) for row in rows)]
    return SafeMarkdown("\n".join(lines))


def format_value(value: Any) -> str:
    """Return a value as people read it: thousands separated, four significant digits, `low to high` for two numbers."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
    if isinstance(value, list | tuple):
        if len(value) == 2 and all(isinstance(item, int | float) and not isinstance(item, bool) for item in value):
            return " to ".join(map(format_value, value))
        return ", ".join(map(format_value, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {format_value(item)}" for key, item in value.items())
    return str(value)


def _row(cells: Sequence[Any]) -> str:
    shown = [cell if isinstance(cell, SafeMarkdown) else inline(format_value(cell), 500) for cell in cells]
    return f"| {' | '.join(shown)} |"


def _collect(values: Mapping[str, Any], prefix: str, single: list[tuple[str, str]], tables: list[Table]) -> None:
    for key, value in values.items():
        name = f"{prefix}{str(key).replace('_', ' ')}"
        records = _records(value)
        if records:
            tables.append(_table(name, records))
        elif isinstance(value, Mapping):
            _collect(value, f"{name}, ", single, tables)
        elif value is not None and value != []:
            single.append((name, format_value(value)))


def _records(value: Any) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the rows of a list or mapping whose values are all mappings of plain values, else []."""
    if isinstance(value, Mapping) and value:
        rows = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list) and value:
        rows = [("", item) for item in value]
    else:
        return []
    if not all(isinstance(item, Mapping) and item for _, item in rows):
        return []
    flat = all(not isinstance(cell, Mapping) for _, item in rows for cell in item.values())
    return rows if flat else []


def _table(title: str, records: list[tuple[str, Mapping[str, Any]]]) -> Table:
    keys = list(dict.fromkeys(str(key) for _, record in records for key in record))
    named = any(name for name, _ in records)
    rows = [
        (*([name] if named else []), *(format_value(record.get(key)) for key in keys))
        for name, record in records[:MAX_ROWS]
    ]
    columns = ([""] if named else []) + [key.replace("_", " ") for key in keys]
    return Table(title, tuple(columns), tuple(rows))


def list_scorers(scorers: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return (columns, rows) of the report's `scorers`: what each gave the completions, and what it took."""
    columns = ("scorer", "completions", "with a value", "mean", "sd", "pass", "busy s", "without a value")
    rows = []
    for name, one in scorers.items():
        silent = ", ".join(f"{reason} {count:,}" for reason, count in (one.get("no_value") or {}).items())
        rate = one.get("pass_rate")
        prompts = one.get("prompts")  # of a scorer that looks at them
        looked = one.get("completions") if prompts is None else f"{prompts:,} prompts"
        numbers = (one.get(key) for key in ("values", "mean", "sd"))
        share = "–" if rate is None else f"{rate:.1%}"
        rows.append((name, looked, *numbers, share, (one.get("cost") or {}).get("busy_s"), silent or "–"))
    return columns, rows


def list_agreement(agreement: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return (columns, rows) of the report's `scorer_agreement`."""
    columns = ("scorers", "rank correlation", "95%", "disagree", "95%", "comparisons")
    rows = []
    for pair in agreement:
        rate = pair.get("flip_rate")
        rows.append(
            (
                f"{pair['scorer']} and {pair['other']}",
                pair.get("spearman"),
                _show_range(pair.get("spearman_interval"), "{:.2f}"),
                "–" if rate is None else f"{rate:.1%}",
                _show_range(pair.get("flip_interval"), "{:.1%}"),
                pair.get("comparisons"),
            )
        )
    return columns, rows


def _show_range(interval: Sequence[float] | None, form: str) -> str:
    return f"{form.format(interval[0])} to {form.format(interval[1])}" if interval else "–"
