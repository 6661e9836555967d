"""`synthgen models`."""

from __future__ import annotations

from collections.abc import Sequence

from synthgen.cli.overrides import take_value
from synthgen.config.compose import compose_config
from synthgen.errors import ConfigError


def main(overrides: Sequence[str], config_dir: str | None) -> int:
    """Print the model catalog, or with `model=<name> cluster=<preset>` the formats of one model that fit there."""
    from synthgen.config.resources import project_path
    from synthgen.planning import format_models, list_models

    name, rest = take_value(overrides, "model")
    if name is not None:
        from synthgen.planning.formats import format_choices, list_formats

        cluster = compose_config(["experiment=echo", *rest], config_dir).cluster
        print(format_choices(list_formats(name, cluster), cluster.name))
        return 0
    if rest:
        raise ConfigError(f"models takes model=<name> and cluster=<preset>, but got {rest[0]!r}")
    print(format_models(list_models(project_path("conf"))))
    return 0
