"""How fast a run was: tokens over time, what each stage took, and how long replicas waited."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synthgen.observe.progress import format_duration
from synthgen.observe.view.blocks import Block, as_mapping, bars, lines, table
from synthgen.publish.card_tables import format_value

_TIME = "time since the engines were asked for"


def speed_blocks(report: Mapping[str, Any]) -> list[Block]:
    """Return the blocks about speed; what the report does not hold is left out."""
    return [*_throughput(report), *_stages(report), *_replicas(report)]


def _throughput(report: Mapping[str, Any]) -> list[Block]:
    series: dict[str, list[tuple[float, float]]] = {}
    loading: dict[str, list[float]] = {}
    for point in report.get("throughput") or []:
        for stage, rate in as_mapping(point.get("tokens_per_s")).items():
            series.setdefault(str(stage), []).append((float(point.get("elapsed_s") or 0.0), float(rate or 0.0)))
        for replica in point.get("loading") or []:
            loading.setdefault(str(replica), []).append(float(point.get("elapsed_s") or 0.0))
    if not any(rate for points in series.values() if len(points) > 1 for _, rate in points):
        return []
    note = "The rate between two looks, per stage, tokens in flight included."
    if loading:
        first, last = min(map(min, loading.values())), max(map(max, loading.values()))
        names = ", ".join(sorted(loading)[:6]) + (" and others" if len(loading) > 6 else "")
        note += f" Models were loading until {format_duration(last)} ({names}): the grey part."
        bands = [(0.0 if first < 5 else first, last)]
    else:
        bands = []
    return [lines("Output tokens per second", series, _TIME, "tokens/s", note=note, bands=bands)]


def _stages(report: Mapping[str, Any]) -> list[Block]:
    rows = []
    for name, stage in as_mapping(report.get("stages")).items():
        busy, read = stage.get("busy_s") or 0.0, stage.get("input_tokens") or 0
        rows.append(
            (
                name,
                str(stage.get("model") or ""),
                format_value(stage.get("rows")),
                format_value(stage.get("failed_rows")),
                f"{stage.get('reused_units', 0)} of {stage.get('units', 0)}",
                format_value(read),
                f"{(stage.get('cached_input_tokens') or 0) / read:.0%}" if read else "–",
                format_value(stage.get("output_tokens")),
                format_duration(busy) if busy >= 1 else f"{busy:.2g}s",
                format_value(round(stage.get("output_tokens", 0) / busy)) if busy else "–",
            )
        )
    columns = (
        "stage", "model", "rows", "failed", "units reused",
        "input tokens", "cached", "output tokens", "busy", "tokens/s",
    )  # fmt: skip
    failures = [
        (name, str(reason), format_value(count))
        for name, stage in as_mapping(report.get("stages")).items()
        for reason, count in sorted(as_mapping(stage.get("failures")).items())
    ]
    blocks = [table("Stages", columns, rows, numbers=range(2, 10))] if rows else []
    if failures:
        blocks.append(table("Failed rows by reason", ("stage", "reason", "rows"), failures, numbers=(2,)))
    return blocks


def _replicas(report: Mapping[str, Any]) -> list[Block]:
    rows = []
    for replica in report.get("replicas") or []:
        share = replica.get("waiting_share")
        if share is None:
            continue
        did = f"{replica.get('completions', 0):,} completions, {replica.get('output_tokens', 0):,} tokens"
        times = f"{replica.get('waiting_s', 0):.1f} s of {replica.get('busy_s', 0):.1f} s"
        rows.append({"label": replica.get("name"), "note": did, "value": share, "text": f"{share:.1%}", "small": times})
    if not rows:
        return []
    note = "Time without work, after the first task, as a share of the time with work; 0 if the engine never drained."
    return [bars("Replicas waiting for work", rows, top=max(0.1, *(row["value"] for row in rows)), note=note)]
