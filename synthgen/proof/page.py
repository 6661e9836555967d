"""`proof.html`: one self-contained page with the verdict, the figures, the trainings' curves and answers to read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synthgen.observe.progress import format_duration
from synthgen.observe.view import make_sample, render_page
from synthgen.observe.view.blocks import Block, findings, intervals, lines, table, tiles
from synthgen.proof.answers import AFTER, BEFORE, CONTROL
from synthgen.publish.card_proofs import (
    describe_proof,
    format_change,
    format_level,
    format_wins,
    is_share,
    list_figures,
)

NAMES = {BEFORE: "before training", AFTER: "trained on the pairs", CONTROL: "trained on random sides"}


def make_page(proof: Mapping[str, Any]) -> str:
    """Return the page of `proof.json`."""
    sections = [
        _section("verdict", "Verdict", _verdict(proof), describe_proof(proof)),
        _section("figures", "Held-out prompts", _figures(proof, proof["figures"])),
        _section("side", "Prompts of another kind", _side(proof), "What training changed where it was not meant to."),
        _section("judges", "At equal length", _judges(proof), "Longer answers please many judges: what is left of it."),
        _section("training", "Training", _curves(proof)),
        _section("samples", "Answers", _samples(proof)),
        _section("origin", "How it was made", _origin(proof)),
    ]
    content = {
        "title": f"synthgen proof: {proof['verdict']['text']}",
        "state": None,
        "facts": [str(proof["directory"]), str(proof["made_at"]).replace("T", " ").replace("+00:00", " UTC")],
        "sections": [section for section in sections if section["blocks"]],
        "footer": "The numbers are those of proof.json. Intervals are 95%, over prompts, of these trainings.",
    }
    return render_page(content)


def _section(id: str, title: str, blocks: list[Block], note: str = "") -> dict[str, Any]:
    return {"id": id, "title": title, "note": note, "blocks": blocks}


def _verdict(proof: Mapping[str, Any]) -> list[Block]:
    decides = proof["settings"]["decides"]
    entry = proof["figures"]["scorers"].get(decides) or {}
    effect, as_share = entry.get("effect"), is_share(entry)
    items = [
        ("before", format_level(effect, "base", as_share), decides),
        ("after", format_level(effect, "other", as_share), decides),
        (
            "difference",
            format_change(effect, as_share).partition(" ")[0],
            "points of percent" if as_share else "points",
        ),
        ("wins, ties, losses", format_wins(effect), "prompts"),
    ]
    verdict = proof["verdict"]
    said = [
        (
            "fine" if verdict["helps"] else "unknown",
            "these pairs",
            f"{verdict['text']}: {'; '.join(verdict['reasons'])}",
        )
    ]
    if proof.get("control_verdict"):
        control = proof["control_verdict"]
        said.append(("unknown", "the same with random sides", f"{control['text']}: {'; '.join(control['reasons'])}"))
    worse = proof.get("got_worse") or []
    said.append(
        ("warning", "side effects", f"got worse: {', '.join(worse)}")
        if worse
        else ("fine", "side effects", "nothing that is watched got worse by more than chance")
    )
    return [findings(said), tiles(items), *_dots(entry, as_share)]


def _dots(entry: Mapping[str, Any], as_share: bool) -> list[Block]:
    labels = {"effect": "after minus before", "control": "control minus before", "over_control": "after minus control"}
    rows: list[dict[str, Any]] = []
    for key, label in labels.items():
        change = entry.get(key)
        if change and change["low"] is not None:
            rows.append({"label": label, "text": format_change(change, as_share), **_range(change, as_share)})
    if not rows:
        return []
    reach = max(abs(row[key]) for row in rows for key in ("low", "high")) or 1.0
    unit = "points of percent" if as_share else "points"
    scale = (f"{-reach:.0f}" if as_share else f"{-reach:.2f}", "0", f"{reach:.0f}" if as_share else f"{reach:.2f}")
    return [
        intervals(
            "Differences", rows, low=-reach, high=reach, reference=0.0, scale=scale, note=f"In {unit}; ranges: 95%."
        )
    ]


def _range(change: Mapping[str, Any], as_share: bool) -> dict[str, float]:
    scale = 100 if as_share else 1
    return {key: scale * change[key] for key in ("value", "low", "high")}


def _figures(proof: Mapping[str, Any], measured: Mapping[str, Any]) -> list[Block]:
    columns, rows = list_figures(measured, controlled=proof["settings"]["control"] != "none")
    return [table("Before and after", columns, rows, numbers=range(1, len(columns)))]


def _side(proof: Mapping[str, Any]) -> list[Block]:
    return _figures(proof, proof["side"]) if proof.get("side") else []


def _judges(proof: Mapping[str, Any]) -> list[Block]:
    rows = []
    for name, entry in proof["figures"]["scorers"].items():
        wins = entry.get("win_rate")
        if wins is None:
            continue
        rows.append(
            (
                name,
                format_change(entry.get("effect"), False),
                format_change(entry.get("at_equal_length"), False),
                f"{100 * wins['raw']:.1f}%",
                f"{100 * wins['rate']:.1f}% ({100 * wins['low']:.1f}% to {100 * wins['high']:.1f}%)",
            )
        )
    columns = ("judge", "difference (95%)", "at equal length (95%)", "win rate", "win rate at equal length (95%)")
    return [table("Judges", columns, rows, numbers=range(1, 5))] if rows else []


def _curves(proof: Mapping[str, Any]) -> list[Block]:
    blocks = []
    for key, title in (
        ("loss", "Loss"),
        ("rewards/margins", "Reward margin"),
        ("rewards/accuracies", "Reward accuracy"),
    ):
        series = {
            NAMES[name]: [(point["step"], point[key]) for point in one.get("curve") or [] if key in point]
            for name, one in proof["training"].items()
        }
        shown = {name: points for name, points in series.items() if len(points) > 1}
        if shown:
            blocks.append(lines(title, shown, "step", title.lower(), timed=False))
    return blocks


def _samples(proof: Mapping[str, Any]) -> list[Block]:
    samples = [
        make_sample(
            {
                "prompt": one["prompt"],
                "source": "held out" if one["held_out"] else "another kind",
                "completions": [
                    {"role": NAMES[name], "text": answer["text"], "score": answer["value"], "tokens": answer["tokens"]}
                    for name, answer in one["answers"].items()
                ],
            }
        )
        for one in proof["samples"]
    ]
    return [{"kind": "samples", "samples": samples, "noun": "prompts", "note": ""}] if samples else []


def _origin(proof: Mapping[str, Any]) -> list[Block]:
    rows = [
        (name.replace("_", " "), _plain(value))
        for name, value in proof["settings"].items()
        if value not in (None, [], {})
    ]
    rows += [("last start took", format_duration(proof["seconds"])), ("load of the machine", f"{proof['load']:.1f}")]
    rows += [
        (f"training, {NAMES[name]}", f"{one['steps']} steps, {one['seconds_per_step']} s each")
        for name, one in proof["training"].items()
    ]
    return [table("Settings", ("", ""), rows)]


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items() if item not in (None, [], {}))
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
