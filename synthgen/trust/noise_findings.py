"""What is said of the noise of scores and labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from synthgen.trust.finding import Finding, percent

MIN_RELIABILITY = 0.5  # below, noise has the larger share of the differences between scores
MAX_REPEATED = 0.95  # what a single order may repeat at most, by its interval, for scores to be called noise
NOISE = "this judge's scores are mostly noise"


def check_noise(report: Mapping[str, Any]) -> Iterator[Finding]:
    """Say which share of the differences between scores comes back; nothing where nothing was judged twice."""
    noise = report.get("noise")  # reports of earlier versions lack it
    if noise is None:
        yield from _check_noise_by_canaries(report)
        return
    low, high = noise["interval"]
    # An interval of no width says no more than that every prompt came out alike.
    reach = f"{percent(low)} to {percent(high)}" if high - low > 5e-4 else f"in each of {noise['prompts']:,} prompts"
    share = f"{percent(noise['reliability'])} ({reach})"
    repeated_high = noise.get("repeated_interval", noise["interval"])[1]
    if noise["reliability"] >= MIN_RELIABILITY or repeated_high > MAX_REPEATED:
        text = f"Of the differences between the scores of a prompt's completions {share} are not noise."
        yield Finding("noise", "fine", text)
        return
    flips = (report["order_flips"] or {}).get("flip_rate")
    turned = f"asked again in another order, it turns {percent(flips)} of its preferences round, and " if flips else ""
    yield Finding(
        "noise",
        "warning",
        f"{NOISE}: {turned}of the differences between the scores of a prompt's completions only {share} come back. "
        "Pairs made from them are close to drawn by lot: take a stronger judge.",
    )


def _check_noise_by_canaries(report: Mapping[str, Any]) -> Iterator[Finding]:
    """With one order: by the completions that were judged a second time beside a planted text."""
    flips = report.get("flips")
    if flips is None or flips["source"] != "canaries":
        return
    share = f"{percent(flips['reliability'])} (by {flips['prompts']} prompts with a planted text)"
    if flips["reliability"] >= MIN_RELIABILITY:
        text = f"Of the differences between the scores of a prompt's completions {share} are not noise."
        yield Finding("noise", "fine", text)
        return
    yield Finding(
        "noise",
        "warning",
        f"{NOISE}: of the differences between the scores of a prompt's completions only {share} come back when they "
        "are judged again. Pairs made from them are close to drawn by lot: take a stronger judge.",
    )


def check_labels(report: Mapping[str, Any]) -> Iterator[Finding]:
    """How large a margin makes a label that would come out the same again."""
    flips = report.get("flips")
    if flips is None:
        return  # the check of the order says so
    known = [(share, margin) for share, margin in flips["margins"].items() if margin is not None]
    if not known:
        yield Finding("labels", "fine", "No margin makes a label that would come out the same when judged again.")
        return
    margins = ", ".join(f"{margin:.2f} points for fewer than {float(share):.0%}" for share, margin in known)
    yield Finding("labels", "fine", f"Labels that turn round when judged again: a margin of {margins}.")
