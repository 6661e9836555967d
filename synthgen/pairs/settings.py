"""What the `pairs` group of the configuration must satisfy before anything starts."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from synthgen.config import KtoConfig, PairsConfig
from synthgen.config.stage_names import JUDGE
from synthgen.errors import ConfigError
from synthgen.pairs.combine import resolve_weights
from synthgen.pairs.policies import BY_GENERATOR, ON_POLICY, find_policy


def check_pairs(
    config: PairsConfig,
    generators: Collection[str],
    scorers: Sequence[str] = ("judge",),
    of_prompts: Sequence[str] = (),
) -> None:
    """Raise ConfigError where `pairs.*` cannot work.

    Args:
        generators: names of the run's generators. scorers: of its scorers of completions, the judge first.
        of_prompts: names of its scorers that look at prompts.
    """
    find_policy(config.policy)
    _check_scores(config, scorers, of_prompts)
    if config.min_margin < 0:
        raise ConfigError(f"pairs.min_margin={config.min_margin} must not be negative; use 0 for any margin above 0")
    for key in ("max_margin", "max_score_std"):
        value = getattr(config, key)
        if not (math.isfinite(value) and value >= 0):
            raise ConfigError(f"pairs.{key}={value} must be a number of points, not negative; use 0 for no cap")
    if 0 < config.max_margin < config.min_margin:
        raise ConfigError(
            f"pairs.max_margin={config.max_margin} lies below pairs.min_margin={config.min_margin}: no pair fits both"
        )
    if config.target is not None and config.target < 1:
        raise ConfigError(
            f"pairs.target={config.target} must be at least 1; use null for all pairs that the prompts give"
        )
    if config.max_pairs_per_prompt < 1:
        raise ConfigError(f"pairs.max_pairs_per_prompt={config.max_pairs_per_prompt} must be at least 1")
    if config.max_length_ratio != 0 and config.max_length_ratio < 1:
        raise ConfigError(
            f"pairs.max_length_ratio={config.max_length_ratio} must be at least 1 (longer / shorter); use 0 for no cap"
        )
    if not 0 <= config.max_similarity <= 1:
        raise ConfigError(
            f"pairs.max_similarity={config.max_similarity} must lie in 0..1; use 1 to leave out identical texts only"
        )
    if not 0 < config.max_flip_probability <= 0.5:
        raise ConfigError(
            f"pairs.max_flip_probability={config.max_flip_probability} must be above 0 and at most 0.5 (no limit)"
        )
    if config.max_flip_probability < 0.5 and list(resolve_weights(config, scorers)) != [JUDGE]:
        raise ConfigError(
            f"pairs.max_flip_probability={config.max_flip_probability} is that of the judge's labels, and pairs are "
            "made by other scores; leave it out, or set pairs.score=judge"
        )
    _check_kto(config.kto)
    names = ", ".join(sorted(generators))
    if config.policy == ON_POLICY and config.generator not in generators:
        raise ConfigError(
            f"pairs.generator={config.generator} must name a generator for pairs.policy=on_policy: {names}"
        )
    if config.policy != ON_POLICY and config.generator is not None:
        raise ConfigError(
            f"pairs.generator={config.generator} needs pairs.policy=on_policy (it is {config.policy}); "
            "or leave it out: pairs.generator=null"
        )
    for side in ("chosen", "rejected"):
        name = getattr(config, f"{side}_generator")
        if config.policy == BY_GENERATOR and name not in generators:
            raise ConfigError(
                f"pairs.{side}_generator={name} must name a generator for pairs.policy=by_generator: {names}"
            )
        if config.policy != BY_GENERATOR and name is not None:
            raise ConfigError(
                f"pairs.{side}_generator={name} needs pairs.policy=by_generator, not {config.policy}; or leave it out"
            )
    if config.policy == BY_GENERATOR and config.chosen_generator == config.rejected_generator:
        raise ConfigError(
            f"pairs.chosen_generator and pairs.rejected_generator are both {config.chosen_generator}; name two: {names}"
        )


def _check_scores(config: PairsConfig, scorers: Sequence[str], of_prompts: Sequence[str]) -> None:
    there = ", ".join(scorers) or "none"
    for key in ("prompt_must_pass", "prompt_must_fail"):
        for place, name in enumerate(getattr(config, key)):
            if name not in of_prompts:
                looking = ", ".join(of_prompts) or "none"
                raise ConfigError(
                    f"pairs.{key}[{place}]: {name} is no scorer that looks at prompts (scorers.<name>.reads=prompt); "
                    f"there are: {looking}"
                )
    named = {f"pairs.weights.{name}": name for name in config.weights}
    named |= {"pairs.score": config.score} if config.score is not None else {}
    for key in ("chosen_must_pass", "rejected_must_fail"):
        named |= {f"pairs.{key}[{place}]": name for place, name in enumerate(getattr(config, key))}
    for key, name in named.items():
        if name in of_prompts:
            raise ConfigError(
                f"{key}: {name} looks at prompts, and tells none of their completions apart "
                f"(scorers.{name}.reads=prompt); name it in pairs.prompt_must_pass or pairs.prompt_must_fail"
            )
        if name not in scorers:
            raise ConfigError(f"{key}: {name} is no scorer of this run; there are: {there}")
    if config.weights and config.score is not None:
        raise ConfigError(f"pairs.score={config.score} and pairs.weights both say what scores; leave one out")
    for name, weight in config.weights.items():
        if not math.isfinite(weight):
            raise ConfigError(f"pairs.weights.{name}={weight} must be a number")
    if config.weights and not any(config.weights.values()):
        raise ConfigError(f"pairs.weights={dict(config.weights)}: one weight at least must not be 0")
    if config.max_length_gap < 0:
        raise ConfigError(f"pairs.max_length_gap={config.max_length_gap} must be at least 0 tokens; use 0 for no cap")
    scored = resolve_weights(config, scorers)
    if not scored and len(scorers) > 1:
        raise ConfigError(
            f"pairs.score is not set, and there are several scorers: {there}; name one, or give pairs.weights"
        )
    if scored:
        return
    if config.policy != BY_GENERATOR:
        raise ConfigError(
            f"pairs.policy={config.policy} needs scores, and nothing scores (judge=none, no scorers); choose a judge, "
            "add a scorer with +scorer@scorers.<name>=verifier, or take pairs.policy=by_generator"
        )
    for key in ("length_control", "min_margin", "max_margin", "max_score_std"):
        if getattr(config, key):
            raise ConfigError(f"pairs.{key}={getattr(config, key)} needs scores, and nothing scores; leave it out")


def _check_kto(kto: KtoConfig) -> None:
    if kto.low is not None and kto.high is not None and kto.low >= kto.high:
        raise ConfigError(f"pairs.kto.low={kto.low} must lie below pairs.kto.high={kto.high}")
    for name, share in (("desirable", kto.desirable), ("undesirable", kto.undesirable)):
        if not 0 <= share <= 1:
            raise ConfigError(f"pairs.kto.{name}={share} must be from 0 to 1: a share of the completions")
    if kto.high is None and kto.low is None and kto.desirable + kto.undesirable > 1:
        raise ConfigError(
            f"pairs.kto.desirable={kto.desirable} and pairs.kto.undesirable={kto.undesirable} are more than all "
            "completions; together they may be 1 at most"
        )
