"""Proofs as tables: what the card, the report and the terminal say of them, in the same words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from synthgen.config.public_names import public_location

Row = tuple[str, ...]

COLUMNS = (
    "trained", "scorer", "before", "after", "difference (95%)", "over random sides (95%)", "wins, ties, losses",
    "verdict",
)  # fmt: skip


def list_proofs(proofs: Iterable[Mapping[str, Any]]) -> tuple[Row, list[Row]]:
    """Return the columns and a row per proof: the figure of the scorer that decides."""
    rows = []
    for proof in proofs:
        settings, decides = proof["settings"], proof["settings"]["decides"]
        entry = proof["figures"]["scorers"].get(decides) or {}
        effect = entry.get("effect")
        as_share = is_share(entry)
        figures = [format_level(effect, key, as_share) for key in ("base", "other")]
        rows.append(
            (
                f"{public_location(settings['model'])}, {settings['method'].upper()}, {settings['steps']} steps",
                decides,
                *figures,
                format_change(effect, as_share),
                format_change(entry.get("over_control"), as_share),
                format_wins(effect),
                proof["verdict"]["text"],
            )
        )
    return COLUMNS, rows


def describe_proof(proof: Mapping[str, Any]) -> str:
    """Return how a proof was made, in a sentence or two."""
    settings = proof["settings"]
    control = (
        "the control is the same training where chance says which side was chosen"
        if settings["control"] != "none"
        else "there was no control"
    )
    no_part = ", ".join(settings["had_no_part"])
    part = f"{no_part} had no part in making the data" if no_part else "it also had a part in making the data"
    return (
        f"{public_location(settings['model'])} was trained with {settings['method'].upper()}"
        f"{' (LoRA)' if settings['lora'] else ''} for {settings['steps']} steps on {proof['rows']:,} rows of "
        f"{proof['prompts']:,} prompts, and answered {proof['held_out']:,} held-out prompts "
        f"{settings['answers_per_prompt']} times each, before and after; {control}. {settings['decides']} decides; "
        f"{part}."
    )


def is_share(entry: Mapping[str, Any]) -> bool:
    """Return whether a figure is a share: all of its means lie between 0 and 1."""
    found = [entry[key] for key in ("effect", "control") if entry.get(key)]
    return bool(found) and all(0 <= one[side] <= 1 for one in found for side in ("base", "other"))


def format_level(change: Mapping[str, Any] | None, key: str, as_share: bool) -> str:
    """Return a mean: a share in percent, anything else with two digits."""
    if not change:
        return "–"
    return f"{100 * change[key]:.1f}%" if as_share else f"{change[key]:.2f}"


def format_change(change: Mapping[str, Any] | None, as_share: bool) -> str:
    """Return a difference with its interval: `+38.0 (30.1 to 45.9)`, of shares in points of percent."""
    if not change:
        return "–"
    scale = 100 if as_share else 1
    digits = 1 if as_share else 2
    if change["low"] is None:
        return f"{scale * change['value']:+.{digits}f}"
    low, high = (f"{scale * change[key]:+.{digits}f}" for key in ("low", "high"))
    return f"{scale * change['value']:+.{digits}f} ({low} to {high})"


def format_wins(change: Mapping[str, Any] | None) -> str:
    """Return on how many prompts it got better, stayed equal, got worse."""
    return "–" if not change else f"{change['wins']}, {change['ties']}, {change['losses']}"


def list_figures(measured: Mapping[str, Any], *, controlled: bool) -> tuple[Row, list[Row]]:
    """Return the columns and a row per scorer and trait of a proof's `figures` or `side`."""
    columns = ("figure", "before", "after", *(["control"] if controlled else []), "difference (95%)")
    more: Sequence[str] = ("control minus before (95%)",) if controlled else ()
    rows = []
    for name, entry in {**measured["scorers"], **measured["traits"]}.items():
        effect, control = entry.get("effect"), entry.get("control")
        as_share = is_share(entry)
        row = [name, format_level(effect, "base", as_share), format_level(effect, "other", as_share)]
        row += [format_level(control, "other", as_share)] if controlled else []
        row += [format_change(effect, as_share)]
        row += [format_change(control, as_share)] if controlled else []
        rows.append(tuple(row))
    return (*columns, *more), rows
