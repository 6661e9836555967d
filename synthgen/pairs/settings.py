"""What the `pairs` group of the configuration must satisfy before anything starts."""

from __future__ import annotations

from collections.abc import Collection

from synthgen.config import PairsConfig
from synthgen.errors import ConfigError
from synthgen.pairs.policies import ON_POLICY, find_policy


def check_pairs(config: PairsConfig, generators: Collection[str]) -> None:
    """Raise ConfigError where `pairs.*` cannot work.

    Args:
        generators: names of the run's generators.
    """
    find_policy(config.policy)
    if config.min_margin < 0:
        raise ConfigError(f"pairs.min_margin={config.min_margin} must not be negative; use 0 for any margin above 0")
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
    if config.kto.low >= config.kto.high:
        raise ConfigError(f"pairs.kto.low={config.kto.low} must lie below pairs.kto.high={config.kto.high}")
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
