"""What the page says, as plain values: sections of blocks that assets/charts.js knows how to draw.

Numbers come from the report alone; what it does not hold is left out. All text is raw: the page sets it as text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from synthgen.observe.progress import format_duration
from synthgen.observe.view.blocks import Block, as_mapping, histogram, notices, table, tiles
from synthgen.observe.view.funnel import prompt_funnel
from synthgen.observe.view.scorers import scorer_blocks
from synthgen.observe.view.speed import speed_blocks
from synthgen.observe.view.trust import model_blocks, trust_blocks
from synthgen.publish.card_proofs import describe_proof, list_proofs
from synthgen.publish.card_tables import format_value
from synthgen.publish.figures import read_histogram


def make_content(
    report: Mapping[str, Any], samples: Sequence[Mapping[str, Any]], noun: str, left_out: int
) -> dict[str, Any]:
    """Return the page's data: title, state, facts and sections (id, title, note, blocks).

    Args:
        report: report.json.
        samples: as `synthgen.observe.view.samples.make_sample` returns them.
        left_out: how many more did not fit on the page.
        noun: what the samples are called.
    """
    trust = as_mapping(report.get("trust"))
    sections = [
        _section("summary", "Summary", [*_warnings(trust), *_tiles(report)]),
        _section("funnel", "Funnel", prompt_funnel(report)),
        _section("histograms", "Ratings and margins", _histograms(report)),
        _section("scorers", "Scorers", scorer_blocks(report), "What each gave the completions, and what it cost."),
        _section("models", "Models", model_blocks(report, trust)),
        _section(
            "trust",
            "Trust",
            trust_blocks(trust),
            "How far the judge's ratings can be relied on; docs/trust.md explains each measure.",
        ),
        _section("proofs", "Proofs", _proofs(report), "Whether training on these pairs makes a model better."),
        _section("speed", "Speed", speed_blocks(report)),
        _section("samples", noun.capitalize(), _samples(report, samples, noun, left_out)),
        _section("origin", "Origin", _origin(report)),
    ]
    if noun == "prompts":  # a preview is looked at for its texts
        sections.insert(1, sections.pop([section["id"] for section in sections].index("samples")))
    return {
        "title": _title(report),
        "state": "complete" if report.get("complete") else None,
        "facts": _facts(report),
        "sections": [section for section in sections if section["blocks"]],
        "footer": "The numbers are those of report.json; the data set is in dataset/.",
    }


def _section(id: str, title: str, blocks: Sequence[Block], note: str = "") -> dict[str, Any]:
    return {"id": id, "title": title, "note": note, "blocks": list(blocks)}


def _title(report: Mapping[str, Any]) -> str:
    name = str(report.get("run_dir") or "").rstrip("/").rpartition("/")[2]
    return f"synthgen report: {name}" if name else "synthgen report"


def _facts(report: Mapping[str, Any]) -> list[str]:
    times = []
    if report.get("started_at"):
        times.append(f"started {str(report['started_at']).replace('T', ' ').replace('+00:00', ' UTC')}")
    if isinstance(report.get("elapsed_s"), int | float):
        times.append(f"took {format_duration(report['elapsed_s'])} in the last session")
    models = [f"{name}: {stage.get('model')}" for name, stage in as_mapping(report.get("stages")).items()]
    return [text for text in (str(report.get("run_dir") or ""), ", ".join(times), " · ".join(models)) if text]


def _warnings(trust: Mapping[str, Any]) -> list[Block]:
    found = [str(text) for text in trust.get("warnings") or []]
    heading = "1 warning about the judge" if len(found) == 1 else f"{len(found)} warnings about the judge"
    return [notices(heading, found)] if found else []


def _tiles(report: Mapping[str, Any]) -> list[Block]:
    items = _summary(report)
    return [tiles(items)] if items else []


def _summary(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    prompts, pairs = as_mapping(report.get("prompts")), as_mapping(report.get("pairs"))
    stages = [as_mapping(stage) for stage in as_mapping(report.get("stages")).values()]
    items: list[tuple[str, str, str]] = []
    if "kept" in prompts:
        items.append(("prompts", format_value(prompts["kept"]), ""))
    if "made" in pairs:
        with_pairs = pairs.get("prompts_with_pairs", pairs["made"])
        share = f"from {with_pairs / prompts['kept']:.0%} of the prompts" if prompts.get("kept") else ""
        items.append(("pairs", format_value(pairs["made"]), share))
    if stages:
        failed, rows = (sum(stage.get(key, 0) for stage in stages) for key in ("failed_rows", "rows"))
        items.append(("failed rows", format_value(failed), f"of {rows:,}"))
        tokens = sum(stage.get("output_tokens", 0) for stage in stages)
        read = sum(stage.get("input_tokens", 0) for stage in stages)
        items.append(("output tokens", _compact(tokens), f"{_compact(read)} input tokens"))
        busy = sum(stage.get("busy_s", 0.0) for stage in stages)
        if busy > 0:
            items.append(("output tokens/s", _compact(tokens / busy), "while stages were busy"))
    if isinstance(report.get("elapsed_s"), int | float):
        items.append(("time", format_duration(report["elapsed_s"]), "of the last session"))
    if report.get("gpu_hours"):
        items.append(("GPU hours", format_value(report["gpu_hours"]), "of all sessions"))
    return items


def _proofs(report: Mapping[str, Any]) -> list[Block]:
    proofs = report.get("proofs") or []
    if not proofs:
        return []
    columns, rows = list_proofs(proofs)
    notes = [(str(proof["directory"]), describe_proof(proof)) for proof in proofs]
    return [table("What was proved", columns, rows, numbers=(2, 3)), table("How", ("", ""), notes)]


def _histograms(report: Mapping[str, Any]) -> list[Block]:
    found = dict(as_mapping(report.get("histograms")))
    by_aspect = as_mapping(as_mapping(report.get("trust")).get("histograms"))
    if len(by_aspect) > 1:
        found["ratings"] = by_aspect
    kinds = (
        ("ratings", "Ratings", "rating", "number of ratings"),
        ("scores", "Scores", "score", "completions"),
        ("margins", "Score margins", "score of chosen minus score of rejected", "pairs"),
    )
    blocks = []
    for key, title, x_label, y_label in kinds:
        series = read_histogram(found.get(key))
        if series:
            blocks.append(histogram(title, series, x_label, y_label, width="half"))
    return blocks


def _samples(report: Mapping[str, Any], samples: Sequence[Mapping[str, Any]], noun: str, left_out: int) -> list[Block]:
    if not samples:
        return []
    made = as_mapping(report.get("pairs")).get("made")
    note = ""
    if noun == "pairs" and isinstance(made, int) and made > len(samples):
        note = f"A random {len(samples):,} of {made:,} pairs; all are in dataset/."
    if left_out:
        note += f" {left_out:,} long ones are left out to keep the page small."
    return [{"kind": "samples", "samples": list(samples), "noun": noun, "note": note.strip()}]


def _origin(report: Mapping[str, Any]) -> list[Block]:
    rows = [(str(name), str(version)) for name, version in as_mapping(report.get("versions")).items()]
    rows += [
        (title, str(report[key]))
        for title, key in (("configuration fingerprint", "config_fingerprint"), ("git commit", "git_commit"))
        if report.get(key)
    ]
    blocks = [table("Versions", ("", ""), rows, width="half")] if rows else []
    pools = []
    for pool in as_mapping(report.get("plan")).get("pools") or []:
        engine = as_mapping(pool.get("engine"))
        pools.append(
            (
                str(pool.get("name")),
                ", ".join(map(str, pool.get("stages") or [])),
                format_value(engine.get("replicas")),
                format_value(pool.get("num_gpus")),
                format_value(engine.get("tensor_parallel_size")),
                format_value(engine.get("pipeline_parallel_size")),
            )
        )
    if pools:
        columns = ("pool", "stages", "replicas", "GPUs each", "TP", "PP")
        blocks.append(table("Placement", columns, pools, numbers=range(2, 6), width="half"))
    return blocks


def _compact(value: float) -> str:
    """Return a large count in four characters or so: 950, 12.3k, 4.6M."""
    if value < 10_000:
        return f"{value:,.0f}"
    power = min(3, int(math.log10(value) // 3))
    return f"{value / 1000**power:.3g}{'kMG'[power - 1]}"
