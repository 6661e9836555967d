"""A trust report in, what it says in words out: one finding per check, fine or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal["fine", "warning", "unknown"]

MIN_VALID_SHARE = 0.99
MAX_COMMONEST_SHARE = 0.8
MAX_SCORE_TIE_RATE = 0.4
MIN_POSITION_EFFECT = 0.05  # rating points; a smaller one is found in large runs, and changes nothing
MAX_FLIP_RATE = 0.25
MIN_ALPHA = 0.667  # Krippendorff's lowest for tentative conclusions
CHANCE_ALPHA = 0.1
MIN_RELIABILITY = 0.5  # below, noise has the larger share of the differences between scores
MIN_LENGTH_EFFECT = 0.1  # rating points per doubling of the length
MAX_ASPECT_CORRELATION = 0.95
MIN_CANARY_SHARE = 0.8
MIN_CANARIES = 5  # fewer tell nothing
NOISE = "this judge's scores are mostly noise"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check says: `text` is one plain sentence. `unknown`: the run holds nothing to tell it by."""

    check: str
    verdict: Verdict
    text: str


def list_findings(report: Mapping[str, Any]) -> list[Finding]:
    """Return one finding or more per check, in the order of the report.

    Args:
        report: what `measure_trust` returned, with or without its `warnings`.
    """
    return [finding for check in _CHECKS for finding in check(report)]


def find_noise(report: Mapping[str, Any]) -> str | None:
    """Return the sentence that says that the scores are mostly noise, None where they are not or it cannot be told."""
    return next((finding.text for finding in _check_noise(report) if finding.verdict == "warning"), None)


def _check_validity(report: Mapping[str, Any]) -> Iterator[Finding]:
    validity = report["validity"]
    if validity is None:
        yield Finding("validity", "unknown", "There are no judgements.")
        return
    share, total = validity["valid_share"], validity["judgements"]
    verdict: Verdict = "fine" if share >= MIN_VALID_SHARE else "warning"
    yield Finding("validity", verdict, f"{_percent(share)} of {total:,} judgements could be read in full.")


def _check_scale(report: Mapping[str, Any]) -> Iterator[Finding]:
    for aspect, spread in report["ratings"].items():
        commonest, share = spread["commonest"], spread["commonest_share"]
        uses = f"{_percent(share)} of the ratings are {commonest} (entropy {spread['entropy_bits']:.2f} bits)"
        if share > MAX_COMMONEST_SHARE:
            yield Finding("scale", "warning", f"{aspect}: the judge hardly tells completions apart: {uses}.")
        else:
            yield Finding("scale", "fine", f"{aspect}: the judge uses its scale: {uses}.")


def _check_ties(report: Mapping[str, Any]) -> Iterator[Finding]:
    ties = report["ties"]
    if ties is None:
        yield Finding("ties", "unknown", "No prompt has two rated completions.")
        return
    text = f"{_percent(ties['score_tie_rate'])} of the pairs of completions tie by score"
    if ties["broken_share"] is not None:
        text += (
            f"; expected ratings break {_percent(ties['broken_share'])} of the {ties['rating_ties']:,} ties by rating"
        )
    yield Finding("ties", "fine" if ties["score_tie_rate"] <= MAX_SCORE_TIE_RATE else "warning", f"{text}.")


def _check_position(report: Mapping[str, Any]) -> Iterator[Finding]:
    known = [slot for slot in report["position"] or [] if slot["interval"] is not None]
    if not known:
        yield Finding("position", "unknown", "Completions were shown one at a time: there is no position to prefer.")
        return
    biased = [s for s in known if not _holds(s["interval"], 0) and abs(s["effect"]) >= MIN_POSITION_EFFECT]
    mend = "judge.orders=2 averages this out" if report["order_flips"] is None else "averaging over orders takes it out"
    for slot in biased:
        low, high = slot["interval"]
        yield Finding(
            "position",
            "warning",
            f"The judge rates what it is shown in place {slot['slot']} by {slot['effect']:+.2f} points "
            f"({low:+.2f} to {high:+.2f}) for the place alone; {mend}.",
        )
    if not biased:
        largest = max(known, key=lambda slot: abs(slot["effect"]))
        yield Finding(
            "position", "fine", f"No place is preferred: the largest effect is {largest['effect']:+.2f} points."
        )


def _check_order(report: Mapping[str, Any]) -> Iterator[Finding]:
    flips = report["order_flips"]
    if flips is None or flips["flip_rate"] is None:
        yield Finding("order", "unknown", "Nothing was judged in two orders; judge.orders=2 would tell.")
        return
    text = f"In another order {_percent(flips['flip_rate'])} of the preferences turn round"
    if flips["interval"] is not None and flips["interval"][1] >= 0.5:
        yield Finding("order", "warning", f"{text}: no better than a coin.")
    elif flips["flip_rate"] > MAX_FLIP_RATE:
        yield Finding("order", "warning", f"{text}: many hang on the order alone.")
    else:
        yield Finding("order", "fine", f"{text}.")


def _check_agreement(report: Mapping[str, Any]) -> Iterator[Finding]:
    agreement = report["agreement"]
    if agreement is None or agreement["alpha_overall"] is None:
        yield Finding("agreement", "unknown", "Nothing was rated twice and differently; judge.orders=2 would tell.")
        return
    alpha = agreement["alpha_overall"]
    text = f"Between repetitions Krippendorff's alpha is {alpha:.2f}"
    if alpha < CHANCE_ALPHA:
        yield Finding("agreement", "warning", f"{text}: the judge agrees with itself as chance would.")
    elif alpha < MIN_ALPHA:
        yield Finding("agreement", "warning", f"{text}, below {MIN_ALPHA}: single ratings are not reliable.")
    else:
        yield Finding("agreement", "fine", f"{text}: the judge agrees with itself.")


def _check_noise(report: Mapping[str, Any]) -> Iterator[Finding]:
    noise = report.get("noise")  # reports of earlier versions lack it
    if noise is None:
        return
    low, high = noise["interval"]
    share = f"{_percent(noise['reliability'])} ({_percent(low)} to {_percent(high)})"
    if high >= MIN_RELIABILITY:
        text = f"Of the differences between the scores of a prompt's completions {share} are not noise."
        yield Finding("noise", "fine", text)
        return
    flips = (report["order_flips"] or {}).get("flip_rate")
    turned = f"asked again in another order, it turns {_percent(flips)} of its preferences round, and " if flips else ""
    yield Finding(
        "noise",
        "warning",
        f"{NOISE}: {turned}of the differences between the scores of a prompt's completions only {share} come back. "
        "Pairs made from them are close to drawn by lot: take a stronger judge.",
    )


def _check_length(report: Mapping[str, Any]) -> Iterator[Finding]:
    length = report["length"]
    if length is None or length["slope_interval"] is None:
        yield Finding("length", "unknown", "No prompt has scored completions of two lengths.")
        return
    per_doubling, share = length["points_per_doubling"], length["longer_chosen_share"]
    text = f"A completion twice as long scores {per_doubling:+.2f} points"
    if share is not None:
        text += f", and the best is longer than the worst in {_percent(share)} of the prompts"
    if _holds(length["slope_interval"], 0) or abs(per_doubling) < MIN_LENGTH_EFFECT:
        yield Finding("length", "fine", f"{text}.")
    else:
        yield Finding("length", "warning", f"{text}: see whether it is merit; pairs.max_length_ratio caps it.")


def _check_aspects(report: Mapping[str, Any]) -> Iterator[Finding]:
    known = [pair for pair in report["aspect_correlation"] or [] if pair["spearman"] is not None]
    if not known:
        return
    alike = [pair for pair in known if pair["spearman"] > MAX_ASPECT_CORRELATION]
    for pair in alike:
        yield Finding(
            "aspects",
            "warning",
            f"{pair['aspect']} and {pair['other']} say the same (correlation {pair['spearman']:.2f}): one would do.",
        )
    if not alike:
        highest = max(known, key=lambda pair: pair["spearman"])
        yield Finding("aspects", "fine", f"The aspects differ: no correlation is above {highest['spearman']:.2f}.")


def _check_generators(report: Mapping[str, Any]) -> Iterator[Finding]:
    judge = report["judge_model"]
    own = [name for name, model in report["generator_models"].items() if model == judge]
    if own:
        yield Finding(
            "generators",
            "warning",
            f"The judge {judge} also generates ({', '.join(own)}): judges tend to prefer their own completions.",
        )
    else:
        yield Finding("generators", "fine", "The judge is none of the generators.")


def _check_canaries(report: Mapping[str, Any]) -> Iterator[Finding]:
    if not report["canaries"]:
        yield Finding("canaries", "unknown", "No canary was planted; judge.canary_fraction above 0 plants some.")
    for kind, canary in report["canaries"].items():
        conclusive, share = canary["conclusive"], canary["share"]
        text = f"The judge handled {canary['handled']} of {conclusive} conclusive canaries of the kind {kind}"
        if conclusive < MIN_CANARIES:
            yield Finding("canaries", "unknown", f"{text}: too few to tell.")
        else:
            yield Finding("canaries", "fine" if share >= MIN_CANARY_SHARE else "warning", f"{text}.")


_CHECKS = (
    _check_validity,
    _check_noise,
    _check_scale,
    _check_ties,
    _check_position,
    _check_order,
    _check_agreement,
    _check_length,
    _check_aspects,
    _check_generators,
    _check_canaries,
)


def _holds(interval: tuple[float, float] | list[float], value: float) -> bool:
    return interval[0] <= value <= interval[1]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"
