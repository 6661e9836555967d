"""The card's pictures: histograms of ratings and of score margins, as PNG files that depend on the numbers only."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

FIGURES = {
    "ratings": ("figures/ratings.png", "Ratings", "rating", "judgements"),
    "margins": ("figures/margins.png", "Score margins (chosen minus rejected)", "margin", "pairs"),
}
"""Key in the report's `histograms` → path within the data set, title, x label, y label."""

MAX_BINS = 20


def make_figures(report: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the PNG files for the report's `histograms`, by path within the data set; none for absent or empty ones.

    A histogram is either `{label: count}` or `{"edges": [n + 1 numbers], "counts": [n integers]}`; several of them
    under one name (`{aspect: histogram}`) are drawn side by side.
    """
    figures = {}
    for key, (path, title, x_label, y_label) in FIGURES.items():
        series = read_histogram((report.get("histograms") or {}).get(key))
        if series:
            figures[path] = _draw(series, title, x_label, y_label)
    return figures


def read_histogram(value: Any) -> dict[str, dict[str, int]]:
    """Return `{series: {bin label: count}}` without empty ones; the only series of a plain histogram is called `""`."""
    if not isinstance(value, Mapping) or not value:
        return {}
    if "counts" in value or all(_is_count(count) for count in value.values()):
        bins = _bins(value)
        return {"": bins} if sum(bins.values()) else {}
    found = {str(name): _bins(histogram) for name, histogram in value.items() if isinstance(histogram, Mapping)}
    return {name: bins for name, bins in found.items() if sum(bins.values())}


def _bins(histogram: Mapping[str, Any]) -> dict[str, int]:
    counts = histogram.get("counts")
    if counts is None:
        return _merge({str(label): int(count) for label, count in histogram.items() if _is_count(count)})
    edges: Sequence[float] = histogram.get("edges") or []
    if len(edges) != len(counts) + 1:
        labels = [str(label) for label in histogram.get("labels") or range(len(counts))]
    else:
        labels = [f"{low:.4g}–{high:.4g}" for low, high in itertools.pairwise(edges)]
    return {label: int(count) for label, count in zip(labels, counts, strict=True)}


def _merge(bins: dict[str, int]) -> dict[str, int]:
    """Return at most MAX_BINS bins: more distinct numbers fall into bins of equal width."""
    try:
        values = {float(label): count for label, count in bins.items()}
    except ValueError:
        return bins
    low, high = min(values, default=0.0), max(values, default=0.0)
    if len(values) <= MAX_BINS or not math.isfinite(high - low):
        return bins
    width = (high - low) / MAX_BINS
    edges = [low + index * width for index in range(MAX_BINS + 1)]
    counts = [0] * MAX_BINS
    for value, count in values.items():
        counts[min(int((value - low) / width), MAX_BINS - 1)] += count
    return {f"{a:.3g}–{b:.3g}": count for (a, b), count in zip(itertools.pairwise(edges), counts, strict=True)}


def _is_count(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _draw(series: Mapping[str, Mapping[str, int]], title: str, x_label: str, y_label: str) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    labels = list(dict.fromkeys(label for bins in series.values() for label in bins))
    figure = Figure(figsize=(6.4, 3.2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / len(series)
    for index, (name, bins) in enumerate(series.items()):
        places = [position + (index - (len(series) - 1) / 2) * width for position in range(len(labels))]
        axes.bar(places, [bins.get(label, 0) for label in labels], width, label=_literal(name))
    # Twenty labels fit on the axis; more are thinned out evenly.
    step = -(-len(labels) // 20)
    axes.set_xticks(range(0, len(labels), step), [_literal(label) for label in labels[::step]])
    axes.tick_params(axis="x", labelrotation=45 if max(map(len, labels)) > 4 else 0)
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
    axes.spines[["top", "right"]].set_visible(False)
    if len(series) > 1:
        axes.legend(frameon=False)
    FigureCanvasAgg(figure)
    target = io.BytesIO()
    # The default metadata name the matplotlib version, which would change the bytes without a change of the picture.
    figure.savefig(target, format="png", metadata={"Software": None})
    return target.getvalue()


def _literal(label: str) -> str:
    return label.replace("$", r"\$")  # matplotlib sets text between dollar signs as mathematics
