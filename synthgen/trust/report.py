"""A run's judgements in, how far they can be trusted out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from synthgen.pairs import Estimates
from synthgen.pairs.flips import PROBABILITIES
from synthgen.pairs.place import PlaceEffects
from synthgen.trust.agreement import measure_agreement
from synthgen.trust.aspects import measure_aspects
from synthgen.trust.comparisons import list_comparisons
from synthgen.trust.findings import list_findings
from synthgen.trust.generators import measure_generators
from synthgen.trust.length import measure_length
from synthgen.trust.noise import measure_noise
from synthgen.trust.observations import CanaryCount, Observations
from synthgen.trust.place import measure_evenness, measure_left
from synthgen.trust.position import measure_flips, measure_position
from synthgen.trust.reduction import observe
from synthgen.trust.spread import count_ratings, measure_spread, measure_ties
from synthgen.trust.validity import measure_validity


def measure_trust(
    units: Iterable[tuple[pa.Table, pa.Table]],
    *,
    use_expected: bool,
    seed: int,
    judge_model: str,
    generator_models: Mapping[str, str],
    scale: float | None = None,
    estimates: Estimates | None = None,
    split: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Return the trust report as plain JSON values; docs/trust.md describes every number.

    Metrics that the run holds nothing for are None, or empty. The same judgements and seed give the same report.

    Args:
        units: GENERATIONS_SCHEMA (all generators) and JUDGEMENTS_SCHEMA per unit, one unit in memory at a time.
        use_expected: score by expected ratings where they exist (`judge.expected`).
        seed: of resampling and of random tie-breaks (`run.seed`).
        judge_model: id of the judge's model.
        generator_models: model id by generator.
        scale: points between an aspect's lowest and highest rating; None: 4.
        estimates: of the run's first part, which the scores are made with; None: places are not taken out.
        split: `requests` that were asked because a longer one did not fit, and the `prompts` they are of.
    """
    place = None if estimates is None else estimates.place
    seen = observe(units, use_expected=use_expected, place=place)
    left, right = list_comparisons(seen.prompt, seed)
    histograms = count_ratings(seen)
    report = {
        "judge_model": judge_model,
        "generator_models": dict(generator_models),
        "prompts": seen.prompts,
        "completions": len(seen.prompt),
        "scale": scale,
        "scored_by": "expected rating where known" if use_expected else "rating",
        "validity": measure_validity(seen.requests),
        "split": {"prompts": split.get("prompts", 0), "requests": split.get("requests", 0)} if split else None,
        "histograms": histograms,
        "ratings": measure_spread(histograms),
        "ties": measure_ties(seen, left, right),
        "position": measure_position(seen, seed),
        "place": _describe_place(seen, place, seed),
        "order_flips": measure_flips(seen, left, right, seed),
        "agreement": measure_agreement(seen, seed),
        "noise": measure_noise(seen, seed),
        "flips": None if estimates is None else _describe_flips(estimates),
        "length": measure_length(seen, seed),
        "aspect_correlation": measure_aspects(seen, seed),
        "generators": measure_generators(seen, left, right, generator_models, seed),
        "canaries": _share_canaries(seen.canaries),
    }
    warnings = [finding.text for finding in list_findings(report) if finding.verdict == "warning"]
    return {**report, "warnings": warnings}


def _describe_place(seen: Observations, place: PlaceEffects | None, seed: int) -> dict[str, Any] | None:
    """Return what is taken out of the scores for the place, and what is left of it; None where there are no places."""
    left = measure_left(seen, seed)
    if left is None:
        return None
    taken_out: dict[str, dict[str, list[float]]] = {}
    for (aspect, size), points in (place.points if place else {}).items():
        taken_out.setdefault(aspect, {})[str(size)] = [float(point) for point in points]
    return {"corrected": place is not None, "taken_out": taken_out, **left, "evenness": measure_evenness(seen, seed)}


def _describe_flips(estimates: Estimates) -> dict[str, Any] | None:
    """Return how likely a label turns round if it is judged again: the curve, and the margins at some probabilities."""
    flips = estimates.flips
    if flips is None:
        return None
    margins = {str(probability): flips.margin(probability) for probability in PROBABILITIES}
    return {**asdict(flips), "estimated_on_prompts": estimates.prompts, "margins": margins}


def _share_canaries(canaries: Mapping[str, CanaryCount]) -> dict[str, dict[str, Any]]:
    return {
        kind: asdict(count) | {"share": count.handled / count.conclusive if count.conclusive else None}
        for kind, count in sorted(canaries.items())
    }
