"""What is said of places: of what is left of them in the scores, and of a liking that does not add."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import log
from typing import Any

from synthgen.trust.finding import DEFAULT_SCALE, MIN_PROMPTS, Finding

PLACE_CHANCE = 0.015  # with the two below and the length's: at most one sound judge in twenty is warned of
SPREAD_CHANCE = 0.005
MIN_PLACE_SHARE = 0.0125  # of the scale, 0.05 of 1 to 5; a smaller one is found in large runs, and changes nothing
MIN_SPREAD, MAX_SPREAD = 0.8, 1.25


def check_position(report: Mapping[str, Any]) -> Iterator[Finding]:
    """Say what is left of the places in the scores, and whether the judge's liking for them adds: one finding each."""
    known = [slot for slot in report["position"] or [] if slot["interval"] is not None]
    if not known:
        yield Finding("position", "unknown", "Completions were shown one at a time: there is no position to prefer.")
        return
    if report["prompts"] < MIN_PROMPTS:
        text = f"Too few prompts to tell whether the judge prefers a place: {report['prompts']} of {MIN_PROMPTS}."
        yield Finding("position", "unknown", text)
        return
    place = report.get("place") or {}  # reports of earlier versions lack it
    left, uneven = _find_left(report, place), _find_uneven(place)
    yield from (Finding("position", "warning", text) for text in (left, uneven) if text is not None)
    if left is None and uneven is None:
        largest = max(known, key=lambda slot: abs(slot["effect"]))
        text = f"No place is preferred: the largest effect is {largest['effect']:+.2f} points."
        if place.get("taken_out"):
            text = f"What is shown in place {largest['slot']} is rated {largest['effect']:+.2f} points for the place; "
            text += f"that is taken out of the scores{_describe_rest(place)}."
        yield Finding("position", "fine", text)


def _find_left(report: Mapping[str, Any], place: Mapping[str, Any]) -> str | None:
    """Return the sentence on what is left of the places in the scores, None where that is nothing to speak of."""
    if not place:
        return _find_effect(report)
    if place.get("chance") is None or place["chance"] > PLACE_CHANCE:
        return None
    if not place["left"]:
        return None
    largest = max(place["left"], key=lambda slot: abs(slot["effect"]))
    if abs(largest["effect"]) < MIN_PLACE_SHARE * (report.get("scale") or DEFAULT_SCALE):
        return None
    low, high = largest["interval"]
    mend = "as many orders as completions even it out (judge.orders)"
    if not place["corrected"]:
        mend = "judge.correct_place=true takes it out"
    return (
        f"What was shown in place {largest['slot']} scores {largest['effect']:+.2f} points ({low:+.2f} to {high:+.2f}) "
        f"against what was not, for the place alone; {mend}."
    )


def _find_effect(report: Mapping[str, Any]) -> str | None:
    """Return the sentence on the ratings' places, in a report that does not say what is left in the scores."""
    largest = max((s for s in report["position"] if s["interval"] is not None), key=lambda slot: abs(slot["effect"]))
    low, high = largest["interval"]
    if low <= 0 <= high or abs(largest["effect"]) < MIN_PLACE_SHARE * DEFAULT_SCALE:
        return None
    return (
        f"The judge rates what it is shown in place {largest['slot']} by {largest['effect']:+.2f} points "
        f"({low:+.2f} to {high:+.2f}) for the place alone; judge.correct_place=true takes it out."
    )


def _find_uneven(place: Mapping[str, Any]) -> str | None:
    """Return the sentence on a liking for places that does not add, None where there is none to speak of."""
    evenness = place.get("evenness") or {}
    if evenness.get("chance") is None or evenness["chance"] > SPREAD_CHANCE:
        return None
    spread: list[float] = evenness["spread"]
    worst = max(range(len(spread)), key=lambda slot: abs(log(max(spread[slot], 1e-9))))
    if MIN_SPREAD < spread[worst] < MAX_SPREAD:
        return None
    mend = "judge.mode=pointwise has no places, and judge.orders as many as completions treats all alike"
    if place.get("even"):
        mend = "every completion stood in every place as often, so that none gains by it"
    return (
        f"The place changes more than the level of the ratings: in place {worst + 1} the judge tells completions apart "
        f"{spread[worst]:.2f} times as much as elsewhere, which no correction takes out; {mend}."
    )


def _describe_rest(place: Mapping[str, Any]) -> str:
    if place.get("even"):
        return ", and every completion stood in every place as often"
    if not place.get("left"):
        return ""
    largest = max(place["left"], key=lambda slot: abs(slot["effect"]))
    low, high = largest["interval"]
    return f", and {largest['effect']:+.2f} ({low:+.2f} to {high:+.2f}) is left of it at most"
