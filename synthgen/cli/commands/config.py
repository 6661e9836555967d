"""`synthgen config`."""

from __future__ import annotations

from collections.abc import Sequence

from synthgen.config.compose import compose_tree


def main(overrides: Sequence[str], config_dir: str | None) -> int:
    """Print the composed configuration."""
    from omegaconf import OmegaConf

    print(OmegaConf.to_yaml(compose_tree(overrides, config_dir)), end="")
    return 0
