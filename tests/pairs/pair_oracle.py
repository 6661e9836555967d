"""The pairing rules once more, one prompt at a time and in plain Python: what the tests hold `pair_unit` against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from rapidfuzz.distance import Indel

from synthgen.config import PairsConfig


@dataclass(frozen=True)
class Scored:
    """A completion as the rules see it; `draw` breaks ties and samples."""

    completion_id: str
    text: str | None
    score: float | None
    fault: str | None
    generator: str
    tokens: int | None
    draw: int


Pair = tuple[Scored, Scored]


def pair_prompt(completions: Sequence[Scored], config: PairsConfig) -> tuple[list[tuple[str, str]], str]:
    """Return the (chosen, rejected) completion ids of one prompt and, if there are none, the prompt's bucket."""
    with_text = [c for c in completions if c.text is not None]
    whole = [c for c in with_text if config.reject_cut_off or c.fault != "chosen_cut_off"]
    scored = sorted((c for c in whole if c.score is not None), key=lambda c: (-c.score, c.draw))
    if len(with_text) < 2:
        return [], "few_completions"
    if len(whole) < 2:
        return [], "cut_off"
    if len(scored) < 2:
        return [], "few_scores"
    if config.policy == "on_policy" and all(c.generator != config.generator for c in scored):
        return [], "generator_absent"
    if scored[0].score == scored[-1].score:
        return [], "tie"
    candidates = _propose(scored, config)
    if not candidates:
        return [], next(c.fault for c in scored if c.fault)
    for reason, passes in (("below_min_margin", _is_wide), ("length_ratio", _is_even), ("too_similar", _is_distinct)):
        candidates = [pair for pair in candidates if passes(pair, config)]
        if not candidates:
            return [], reason
    pairs = candidates[: config.max_pairs_per_prompt]
    return [(chosen.completion_id, rejected.completion_id) for chosen, rejected in pairs], ""


def _propose(scored: list[Scored], config: PairsConfig) -> list[Pair]:
    ordered = [(c, r) for c in scored if not c.fault for r in scored if c.score > r.score]
    ordered.sort(key=lambda pair: (-_margin(pair), pair[0].draw, pair[1].draw))
    if config.policy == "all_pairs":
        return ordered
    if config.policy == "on_policy":
        return [pair for pair in ordered if config.generator in (pair[0].generator, pair[1].generator)]
    best = next((c for c in scored if not c.fault), None)
    worse = [c for c in scored if best and c.score < best.score]
    if not worse:
        return []
    if config.policy == "best_worst":
        return [(best, worse[-1])]
    if config.policy == "best_random":
        return [(best, c) for c in sorted(worse, key=lambda c: c.draw)]
    scores = [c.score for c in scored]
    target = fmean(scores) - 2 * pstdev(scores)
    return [(best, min(worse, key=lambda c: (round(abs(c.score - target), 6), c.draw)))]


def _margin(pair: Pair) -> float:
    return round(pair[0].score - pair[1].score, 6)


def _is_wide(pair: Pair, config: PairsConfig) -> bool:
    return _margin(pair) >= config.min_margin


def _is_even(pair: Pair, config: PairsConfig) -> bool:
    tokens = [c.tokens for c in pair]
    if not config.max_length_ratio or None in tokens:
        return True
    return max(*tokens, 1) / max(min(tokens), 1) <= config.max_length_ratio


def _is_distinct(pair: Pair, config: PairsConfig) -> bool:
    left, right = pair[0].text, pair[1].text
    return left != right and Indel.normalized_similarity(left, right) <= config.max_similarity
