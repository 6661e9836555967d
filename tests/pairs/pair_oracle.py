"""The pairing rules once more, one prompt at a time and in plain Python: what the tests hold `pair_unit` against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    completions = [replace(c, fault=c.fault or _find_gate(c, config)) for c in completions]
    by_score = config.policy != "by_generator"
    with_text = [c for c in completions if c.text is not None]
    whole = [c for c in with_text if config.reject_cut_off or c.fault != "chosen_cut_off"]
    known = [c for c in whole if c.score is not None or not by_score]
    scored = sorted(known, key=lambda c: (c.score is None, -(c.score or 0), c.draw))
    if len(with_text) < 2:
        return [], "few_completions"
    if len(whole) < 2:
        return [], "cut_off"
    if len(scored) < 2:
        return [], "few_scores"
    if config.policy == "on_policy" and all(c.generator != config.generator for c in scored):
        return [], "generator_absent"
    if not by_score and not {config.chosen_generator, config.rejected_generator} <= {c.generator for c in scored}:
        return [], "generator_absent"
    if by_score and scored[0].score == scored[-1].score:
        return [], "tie"
    known_scores = [c.score for c in scored if c.score is not None]
    if config.max_score_std and known_scores and round(pstdev(known_scores), 6) > config.max_score_std:
        return [], "scores_too_far"
    candidates = _propose(scored, config)
    if not candidates:
        mine = [c for c in scored if by_score or c.generator == config.chosen_generator]
        return [], next((c.fault for c in mine if c.fault), "rejected_passed")
    gates = (
        ("below_min_margin", _is_wide),
        ("above_max_margin", _is_moderate),
        ("length_gap", _is_near),
        ("length_ratio", _is_even),
        ("too_similar", _is_distinct),
    )
    for reason, passes in gates:
        candidates = [pair for pair in candidates if passes(pair, config)]
        if not candidates:
            return [], reason
    pairs = candidates[: config.max_pairs_per_prompt]
    return [(chosen.completion_id, rejected.completion_id) for chosen, rejected in pairs], ""


def _propose(scored: list[Scored], config: PairsConfig) -> list[Pair]:
    bad = [c for c in scored if not config.rejected_must_fail or (c.score is not None and c.score <= config.kto.low)]
    if config.policy == "by_generator":
        chosen = [c for c in scored if not c.fault and c.generator == config.chosen_generator]
        rejected = [c for c in bad if c.generator == config.rejected_generator]
        rejected.sort(key=lambda c: (c.score is None, c.score or 0, c.draw))
        return [(chosen[0], rejected[0])] if chosen and rejected else []
    ordered = [(c, r) for c in scored if not c.fault for r in bad if c.score > r.score]
    ordered.sort(key=lambda pair: (-_margin(pair), pair[0].draw, pair[1].draw))
    if config.policy == "all_pairs":
        return ordered
    if config.policy == "on_policy":
        return [pair for pair in ordered if config.generator in (pair[0].generator, pair[1].generator)]
    best = next((c for c in scored if not c.fault), None)
    worse = [c for c in bad if best and c.score < best.score]
    if not worse:
        return []
    if config.policy == "best_worst":
        return [(best, worse[-1])]
    if config.policy == "best_random":
        return [(best, c) for c in sorted(worse, key=lambda c: c.draw)]
    scores = [c.score for c in scored]
    target = fmean(scores) - 2 * pstdev(scores)
    return [(best, min(worse, key=lambda c: (round(abs(c.score - target), 6), c.draw)))]


def _find_gate(completion: Scored, config: PairsConfig) -> str | None:
    """The judge as a gate: it passes what scores `pairs.kto.high` or more."""
    passes = completion.score is not None and completion.score >= config.kto.high
    return "chosen_failed" if config.chosen_must_pass and not passes else None


def _margin(pair: Pair) -> float:
    return round(pair[0].score - pair[1].score, 6)


def _is_wide(pair: Pair, config: PairsConfig) -> bool:
    if config.policy == "by_generator" and not config.min_margin:
        return True
    return None not in (pair[0].score, pair[1].score) and _margin(pair) >= config.min_margin


def _is_moderate(pair: Pair, config: PairsConfig) -> bool:
    return not config.max_margin or None in (pair[0].score, pair[1].score) or _margin(pair) <= config.max_margin


def _is_near(pair: Pair, config: PairsConfig) -> bool:
    tokens = [c.tokens for c in pair]
    return not config.max_length_gap or None in tokens or abs(tokens[0] - tokens[1]) <= config.max_length_gap


def _is_even(pair: Pair, config: PairsConfig) -> bool:
    tokens = [c.tokens for c in pair]
    if not config.max_length_ratio or None in tokens:
        return True
    return max(*tokens, 1) / max(min(tokens), 1) <= config.max_length_ratio


def _is_distinct(pair: Pair, config: PairsConfig) -> bool:
    left, right = pair[0].text, pair[1].text
    return left != right and Indel.normalized_similarity(left, right) <= config.max_similarity
