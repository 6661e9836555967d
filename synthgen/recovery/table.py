"""Evaluations of two models become the table of the published cards, and the same as plain values.

A row's recovery is quantized / base. The average of a preset is the mean of its rows' figures, and the average's
recovery the quotient of the two means: so the cards have it (RedHatAI/Llama-3.1-8B-Instruct-FP8-block, Evaluation).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthgen.recovery.evaluations import Evaluation, pair
from synthgen.recovery.settings import Preset, Row
from synthgen.recovery.statistics import Interval, Moments, find_interval, recover

AVERAGE = "Average Score"


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the table; figures are shares, None where there is none yet.

    Attributes:
        interval: of the recovery, 95%. moments: None where documents cannot be paired.
    """

    name: str
    base: float | None = None
    other: float | None = None
    interval: Interval | None = None
    moments: Moments | None = None
    task: str | None = None

    @property
    def recovery(self) -> float | None:
        """Other over base."""
        return recover(self.base, self.other) if self.base is not None and self.other is not None else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; recovery and its interval in percent, as in the table."""
        moments = self.moments
        low, high = self.interval or (None, None)
        return {
            "name": self.name,
            "task": self.task,
            "base": self.base,
            "quantized": self.other,
            "recovery": _percent(self.recovery),
            "low": _percent(low),
            "high": _percent(high),
            "documents": moments and moments.documents,
            "lost": moments and moments.lost,
            "gained": moments and moments.gained,
        }


@dataclass(frozen=True, slots=True)
class Section:
    """The rows of a preset, the average last where there are several."""

    title: str
    lines: tuple[Line, ...]

    @property
    def whole(self) -> Line:
        """What stands for the section: its average, or its only row."""
        return self.lines[-1]


def make_section(preset: Preset, found: Sequence[tuple[Evaluation | None, Evaluation | None]]) -> Section:
    """Return the section of a preset; found[i]: what base and quantized model are evaluated to on its row i."""
    lines = [_make_line(row, *both) for row, both in zip(preset.rows, found, strict=True)]
    if len(lines) > 1:
        lines.append(average(lines))
    return Section(preset.title, tuple(lines))


def average(lines: Sequence[Line]) -> Line:
    """Return the mean over rows; empty as long as one of them is missing."""
    bases = [line.base for line in lines if line.base is not None]
    others = [line.other for line in lines if line.other is not None]
    if len(bases) < len(lines) or len(others) < len(lines):
        return Line(AVERAGE)
    moments = [line.moments for line in lines if line.moments is not None]
    interval = find_interval(moments) if len(moments) == len(lines) else None
    return Line(AVERAGE, sum(bases) / len(lines), sum(others) / len(lines), interval)


def write_page(
    sections: Sequence[Section],
    *,
    base: str,
    model: str,
    limit: int | None,
    problems: Sequence[str],
    settings: str,
) -> str:
    """Return the Markdown of `recovery.md`.

    Args:
        base, model: the checkpoints as they were named. limit: documents of each task that were asked, None: all.
        problems: what is missing and why, a line each. settings: how it was run, one line.
    """
    known = [one for one in sections if one.whole.recovery is not None]
    told = [f"{_number(_percent(one.whole.recovery), '%')} for {one.title}" for one in known]
    lines = [f"# Recovery of {label(model)}", ""]
    if told:
        lines += [f"{label(model)} has kept {_join(told)}, measured against {label(base)}.", ""]
    if limit is not None:
        lines += [f"**A trial: at most {limit} documents of each task (limit={limit}).**", ""]
    lines += [
        f"| Category | Metric | {_cell(label(base))} | {_cell(label(model))} | Recovery (%) | 95% interval | "
        "worse / better documents |",
        "|---|---|---|---|---|---|---|",
    ]
    for section in sections:
        for place, line in enumerate(section.lines):
            lines.append(_write_row(section.title if not place else "", line))
    lines += [
        "",
        "Figures in percent. Recovery is the quantized checkpoint's figure over the base's; its interval is that of a "
        "ratio of paired means over documents (Fieller). Worse and better documents: on how many the quantized "
        "checkpoint's value is lower or higher than the base's.",
        "",
        settings,
    ]
    if problems:
        lines += ["", "## Missing", "", *(f"- {problem}" for problem in problems)]
    return "\n".join(lines) + "\n"


def list_values(sections: Sequence[Section]) -> list[dict[str, Any]]:
    """Return the sections as plain values."""
    return [{"title": one.title, "rows": [line.to_dict() for line in one.lines]} for one in sections]


def label(model: str) -> str:
    """Return what a checkpoint is called: a Hub id as it is, a directory by its own name."""
    is_id = model.count("/") == 1 and not model.startswith((".", "/", "~"))
    return model if is_id and not Path(model).is_dir() else model.rstrip("/").rpartition("/")[2]


def _make_line(row: Row, base: Evaluation | None, other: Evaluation | None) -> Line:
    known = base or other
    moments = pair(base, other) if base and other else None
    return Line(
        name=row.name or _make_name(row, known),
        base=base.figure if base else None,
        other=other.figure if other else None,
        interval=find_interval([moments]) if moments else None,
        moments=moments,
        task=row.task,
    )


def _make_name(row: Row, found: Evaluation | None) -> str:
    if found is None:
        return row.task
    filtered = "" if found.filter == "none" else f", {found.filter}"
    shots = "".join(f", {one}-shot" for one in found.num_fewshot) if len(found.num_fewshot) == 1 else ""
    return f"{row.task} ({found.metric}{filtered}{shots})"


def _write_row(title: str, line: Line) -> str:
    moments = line.moments
    low, high = line.interval or (None, None)
    interval = f"{_number(_percent(low))} to {_number(_percent(high))}" if line.interval else "—"
    cells = [
        line.name,
        _number(_percent(line.base)),
        _number(_percent(line.other)),
        _number(_percent(line.recovery)),
        interval,
        f"{moments.lost:,} / {moments.gained:,} of {moments.documents:,}" if moments else "—",
    ]
    shown = [_embolden(_cell(cell), line.name == AVERAGE) for cell in cells]
    return "| " + " | ".join([_embolden(_cell(title), bool(title)), *shown]) + " |"


def _embolden(text: str, bold: bool) -> str:
    return f"**{text}**" if bold and text != "—" else text


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _number(value: float | None, unit: str = "") -> str:
    return "—" if value is None else f"{value:.2f}{unit}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _join(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def summarize(sections: Sequence[Section]) -> Mapping[str, float | None]:
    """Return the recovery of each section in percent, by its title."""
    return {section.title: _percent(section.whole.recovery) for section in sections}
