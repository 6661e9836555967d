"""A trust report in, what it says in words out: one finding per check, fine or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from synthgen.trust.families import find_family
from synthgen.trust.finding import DEFAULT_SCALE, MIN_PROMPTS, Finding, Verdict, percent
from synthgen.trust.intervals import wilson_interval
from synthgen.trust.noise_findings import check_labels, check_noise
from synthgen.trust.place_findings import check_position

MIN_VALID_SHARE = 0.99
MAX_SPLIT_SHARE = 0.05
MAX_COMMONEST_SHARE = 0.8
MAX_SCORE_TIE_RATE = 0.4
MAX_FLIP_RATE = 0.25
MIN_FLIP_COMPARISONS = 30
MIN_ALPHA = 0.667  # Krippendorff's lowest for tentative conclusions
CHANCE_ALPHA = 0.1
MIN_LENGTH_SHARE = 0.025  # of the scale per doubling of the length, 0.1 of 1 to 5
MAX_ASPECT_CORRELATION = 0.95
MIN_CANARY_SHARE = 0.8
MIN_CANARIES = 5  # fewer tell nothing


def list_findings(report: Mapping[str, Any]) -> list[Finding]:
    """Return one finding or more per check, in the order of the report.

    Args:
        report: what `measure_trust` returned, with or without its `warnings`.
    """
    return [finding for check in _CHECKS for finding in check(report)]


def find_noise(report: Mapping[str, Any]) -> str | None:
    """Return the sentence that says that the scores are mostly noise, None where they are not or it cannot be told."""
    return next((finding.text for finding in check_noise(report) if finding.verdict == "warning"), None)


def find_verdict(report: Mapping[str, Any]) -> str:
    """Return in one sentence how far the judge can be trusted: what comes first in the report and at a run's end."""
    if (noise := find_noise(report)) is not None:
        return noise
    findings = list_findings(report)
    warnings = [finding for finding in findings if finding.verdict == "warning"]
    noise_known = any(finding.check == "noise" for finding in findings)
    if report["validity"] is None:
        return "nothing was judged"
    if warnings:
        more = f" ({len(warnings) - 1} more in the report)" if len(warnings) > 1 else ""
        return f"look at this judge before you train: {warnings[0].text}{more}"
    if not noise_known:
        return "nothing speaks against this judge, but too little was judged twice to tell how much of it is noise"
    share = next(finding.text for finding in findings if finding.check == "noise")
    return f"nothing speaks against this judge. {share}"


def _check_validity(report: Mapping[str, Any]) -> Iterator[Finding]:
    validity = report["validity"]
    if validity is None:
        yield Finding("validity", "unknown", "There are no judgements.")
        return
    share, total = validity["valid_share"], validity["judgements"]
    verdict: Verdict = "fine" if share >= MIN_VALID_SHARE else "warning"
    yield Finding("validity", verdict, f"{percent(share)} of {total:,} judgements could be read in full.")


def _check_split(report: Mapping[str, Any]) -> Iterator[Finding]:
    split = report.get("split")
    if not split:
        return
    share = split["prompts"] / max(1, report["prompts"])
    text = (
        f"Of {split['prompts']:,} prompts ({percent(share)}) the completions were too long for one judge prompt and "
        f"were judged in {split['requests']:,} smaller groups"
    )
    if share > MAX_SPLIT_SHARE:
        yield Finding("split", "warning", f"{text}: raise judge.model.max_model_len, so that they are compared.")
    else:
        yield Finding("split", "fine", f"{text}.")


def _check_scale(report: Mapping[str, Any]) -> Iterator[Finding]:
    for aspect, spread in report["ratings"].items():
        commonest, share = spread["commonest"], spread["commonest_share"]
        uses = f"{percent(share)} of the ratings are {commonest} (entropy {spread['entropy_bits']:.2f} bits)"
        if share > MAX_COMMONEST_SHARE:
            yield Finding("scale", "warning", f"{aspect}: the judge hardly tells completions apart: {uses}.")
        else:
            yield Finding("scale", "fine", f"{aspect}: the judge uses its scale: {uses}.")


def _check_ties(report: Mapping[str, Any]) -> Iterator[Finding]:
    ties = report["ties"]
    if ties is None:
        yield Finding("ties", "unknown", "No prompt has two rated completions.")
        return
    text = f"{percent(ties['score_tie_rate'])} of the pairs of completions tie by score"
    if ties["broken_share"] is not None:
        text += (
            f"; expected ratings break {percent(ties['broken_share'])} of the {ties['rating_ties']:,} ties by rating"
        )
    yield Finding("ties", "fine" if ties["score_tie_rate"] <= MAX_SCORE_TIE_RATE else "warning", f"{text}.")


def _check_order(report: Mapping[str, Any]) -> Iterator[Finding]:
    flips = report["order_flips"]
    if flips is None or flips["flip_rate"] is None:
        yield Finding("order", "unknown", "Nothing was judged in two orders; judge.orders=2 would tell.")
        return
    text = f"In another order {percent(flips['flip_rate'])} of the preferences turn round"
    if flips["decided_in_both"] < MIN_FLIP_COMPARISONS:
        yield Finding("order", "unknown", f"{text}, of {flips['decided_in_both']}: too few to tell.")
    elif flips["flip_rate"] > MAX_FLIP_RATE and flips["interval"] is not None and flips["interval"][1] >= 0.5:
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


def _check_length(report: Mapping[str, Any]) -> Iterator[Finding]:
    length = report["length"]
    if length is None or length["slope_interval"] is None:
        yield Finding("length", "unknown", "No prompt has scored completions of two lengths.")
        return
    prompts = length.get("prompts", report["prompts"])
    if prompts < MIN_PROMPTS:
        text = f"Too few prompts to tell whether what is longer scores higher: {prompts} of {MIN_PROMPTS}."
        yield Finding("length", "unknown", text)
        return
    per_doubling, share = length["points_per_doubling"], length["longer_chosen_share"]
    least = MIN_LENGTH_SHARE * (report.get("scale") or DEFAULT_SCALE)
    text = f"A completion twice as long scores {per_doubling:+.2f} points"
    if share is not None:
        text += f", and the best is longer than the worst in {percent(share)} of the prompts"
    if _holds(length["slope_interval"], 0) or abs(per_doubling) < least:
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
    judge, family = report["judge_model"], find_family(report["judge_model"])
    own = [name for name, model in report["generator_models"].items() if model == judge]
    related = [
        f"{name}: {model}"
        for name, model in report["generator_models"].items()
        if model != judge and find_family(model) == family
    ]
    tendency = "judges tend to prefer their own completions"
    if own:
        yield Finding("generators", "warning", f"The judge {judge} also generates ({', '.join(own)}): {tendency}.")
    if related:
        text = f"The judge {judge} is of one family with a generator ({', '.join(related)}): {tendency}."
        yield Finding("generators", "warning", text)
    if not own and not related:
        yield Finding("generators", "fine", "The judge is none of the generators, nor of their families.")


def _check_canaries(report: Mapping[str, Any]) -> Iterator[Finding]:
    planted = sum(canary["planted"] for canary in report["canaries"].values())
    if not planted:
        yield Finding(
            "canaries", "unknown", "No canary was planted: there are too few prompts, or judge.canaries=none."
        )
    handled = conclusive = 0
    for kind, canary in report["canaries"].items():
        handled, conclusive = handled + canary["handled"], conclusive + canary["conclusive"]
        text = f"The judge handled {canary['handled']} of {canary['conclusive']} conclusive canaries of the kind {kind}"
        if canary["conclusive"] >= MIN_CANARIES:
            yield _judge_share(text, canary["handled"], canary["conclusive"])
    few = [kind for kind, canary in report["canaries"].items() if canary["conclusive"] < MIN_CANARIES]
    if few:
        text = f"The judge handled {handled} of {conclusive} conclusive canaries of all kinds"
        if conclusive < MIN_CANARIES:
            yield Finding("canaries", "unknown", f"{text}: too few to tell.")
        else:
            yield _judge_share(text, handled, conclusive)


def _judge_share(text: str, handled: int, conclusive: int) -> Finding:
    interval = wilson_interval(handled, conclusive, 0.9)  # one side of it: 5%
    if handled >= MIN_CANARY_SHARE * conclusive:
        return Finding("canaries", "fine", f"{text}.")
    if interval is not None and interval[1] >= MIN_CANARY_SHARE:
        return Finding("canaries", "unknown", f"{text}: too few to tell.")
    return Finding("canaries", "warning", f"{text}.")


LENGTH_AND_PLACES = (check_position, _check_length)
"""The checks that test a hypothesis: what chance alone may warn of."""

_CHECKS = (
    _check_validity,
    _check_split,
    check_noise,
    check_labels,
    _check_scale,
    _check_ties,
    check_position,
    _check_order,
    _check_agreement,
    _check_length,
    _check_aspects,
    _check_generators,
    _check_canaries,
)


def _holds(interval: tuple[float, float] | list[float], value: float) -> bool:
    return interval[0] <= value <= interval[1]
