"""The trust report's part of the page: what it finds in words, its main measures as pictures, all of it as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from synthgen.observe.view.blocks import Block, bars, findings, intervals, table
from synthgen.publish.card_tables import format_value
from synthgen.records import name_generations
from synthgen.trust import list_findings


def model_blocks(report: Mapping[str, Any], trust: Mapping[str, Any]) -> list[Block]:
    """Return the comparison of the generators: what each wrote, how often it won, its Bradley-Terry strength."""
    generators: Mapping[str, Any] = trust.get("generators") or {}
    rows = []
    stages: Mapping[str, Any] = report.get("stages") or {}
    for name in trust.get("generator_models") or {}:
        numbers = stages.get(name_generations(name))
        if numbers:
            good = (numbers.get("rows") or 0) - (numbers.get("failed_rows") or 0)
            mean = format_value(round((numbers.get("output_tokens") or 0) / good)) if good else "–"
            counts = (format_value(numbers.get("rows")), format_value(numbers.get("failed_rows")), mean)
            rows.append((name, str(numbers.get("model") or ""), *counts))
    columns = ("generator", "model", "completions", "failed", "tokens each")
    blocks = [table("What each wrote", columns, rows, numbers=(2, 3, 4))] if rows else []
    if len(generators) > 1:
        blocks.append(
            intervals(
                "How often each wins",
                [_generator_row(name, one, "win_rate", "{:.1%}") for name, one in generators.items()],
                low=0.0,
                high=1.0,
                reference=0.5,
                scale=("0%", "50%", "100%"),
                note="Against completions of other generators to the same prompt; a tie is half a win. Ranges: 95%.",
                width="half",
            )
        )
        strengths = [_generator_row(name, one, "strength", "{:+.2f}") for name, one in generators.items()]
        note = "Log odds of winning (Bradley-Terry), 0 on average. Ranges: 95%."
        blocks.append(_around_zero("Strength", strengths, note))
    return blocks


def trust_blocks(trust: Mapping[str, Any]) -> list[Block]:
    """Return the blocks of the trust report; measures that it does not hold are left out."""
    if not trust:
        return []
    blocks = [*_findings(trust), *_shares(trust)]
    blocks += _positions(trust)
    blocks += _canaries(trust)
    blocks += _aspects(trust)
    rest = {key: value for key, value in trust.items() if key not in ("warnings", "histograms")}
    numbers = [(name, format_value(value)) for name, value in _flatten(rest)]
    return [*blocks, table("", ("measure", "value"), numbers, numbers=(1,), summary="All numbers")]


def _findings(trust: Mapping[str, Any]) -> list[Block]:
    try:
        found = list_findings(trust)
    except (KeyError, TypeError):  # a report of another version, which lacks a measure or has it in another shape
        return []
    return [findings((one.verdict, one.check, one.text) for one in found)]


def _shares(trust: Mapping[str, Any]) -> list[Block]:
    """Measures between 0 and 1, with where chance alone would put them."""
    validity, ties = trust.get("validity") or {}, trust.get("ties") or {}
    flips, length, agreement = (trust.get(key) or {} for key in ("order_flips", "length", "agreement"))
    found = (
        ("judgements read in full", "all is best", validity.get("valid_share"), None),
        ("completions that tie", "by score, within a prompt", ties.get("score_tie_rate"), None),
        ("preferences turned round", "by another order; a coin: 50%", flips.get("flip_rate"), flips.get("interval")),
        (
            "the longer one is the best",
            "no preference: 50%",
            length.get("longer_chosen_share"),
            length.get("longer_chosen_interval"),
        ),
        ("same rating again", "in another order", agreement.get("exact_share"), None),
    )
    rows = [
        {"label": label, "note": note, "value": value, "text": f"{value:.1%}", **_range(interval, "{:.1%}")}
        for label, note, value, interval in found
        if value is not None
    ]
    if not rows:
        return []
    return [intervals("Shares", rows, low=0.0, high=1.0, reference=0.5, scale=("0%", "50%", "100%"), width="half")]


def _positions(trust: Mapping[str, Any]) -> list[Block]:
    rows = [
        {
            "label": f"place {slot['slot']}",
            "value": slot["effect"],
            "text": f"{slot['effect']:+.3f}",
            **_range(slot.get("interval"), "{:+.3f}"),
        }
        for slot in trust.get("position") or []
    ]
    note = "Rating points for the place alone where a completion is shown. Ranges: 95%, all places together."
    return [_around_zero("Effect of the place", rows, note)] if rows else []


def _canaries(trust: Mapping[str, Any]) -> list[Block]:
    rows = [
        {
            "label": kind.replace("_", " "),
            "value": canary["share"],
            "text": f"{canary['share']:.0%}",
            "small": f"{canary['handled']} of {canary.get('conclusive', canary['planted'])}",
        }
        for kind, canary in (trust.get("canaries") or {}).items()
        if canary.get("share") is not None
    ]
    note = "Planted completions that a judge should see through, and how often this one did."
    return [bars("Canaries handled", rows, top=1.0, note=note, width="half")] if rows else []


def _aspects(trust: Mapping[str, Any]) -> list[Block]:
    alpha = (trust.get("agreement") or {}).get("alpha") or {}
    rows = [
        (
            aspect,
            *(format_value(spread.get(key)) for key in ("ratings", "mean", "entropy_bits", "commonest")),
            format_value(alpha.get(aspect)),
        )
        for aspect, spread in (trust.get("ratings") or {}).items()
    ]
    columns = ("aspect", "ratings", "mean", "entropy, bits", "commonest", "alpha")
    blocks = [table("Aspects", columns, rows, numbers=range(1, 6), width="half")] if rows else []
    pairs = [
        (f"{pair['aspect']} and {pair['other']}", format_value(pair["spearman"]))
        for pair in trust.get("aspect_correlation") or []
    ]
    if pairs:
        blocks.append(table("Aspects that agree", ("aspects", "rank correlation"), pairs, numbers=(1,), width="half"))
    return blocks


def _generator_row(name: str, generator: Mapping[str, Any], key: str, form: str) -> dict[str, Any]:
    value = generator[key]
    interval = generator.get(f"{key}_interval")
    return {
        "label": name,
        "note": generator.get("model"),
        "value": value,
        "text": form.format(value),
        **_range(interval, form),
    }


def _range(interval: Sequence[float] | None, form: str) -> dict[str, Any]:
    if not interval:
        return {"low": None, "high": None, "small": ""}
    low, high = interval
    return {"low": low, "high": high, "small": f"{form.format(low)} to {form.format(high)}"}


def _around_zero(title: str, rows: Sequence[Mapping[str, Any]], note: str) -> Block:
    ends = [abs(row[key]) for row in rows for key in ("value", "low", "high") if row[key] is not None]
    top = max(0.1, *ends) * 1.05
    scale = (f"−{top:.2g}", "0", f"+{top:.2g}")
    return intervals(title, rows, low=-top, high=top, reference=0.0, scale=scale, note=note, width="half")


def _flatten(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flatten(item, (*path, str(key)))
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        for number, item in enumerate(value, start=1):
            yield from _flatten(item, (*path, str(number)))
    elif value is not None and value != []:
        yield " · ".join(path).replace("_", " "), value
