"""`synthgen prove`."""

from __future__ import annotations

from collections.abc import Sequence

from synthgen.config.compose import key_of
from synthgen.errors import ConfigError

SHORT = {"train": "prove.train", "steps": "prove.steps", "model": "model@prove.model"}
"""What may be given without its group."""
TAKEN = ("prove.", "cluster.", "storage.", "run.", "plan.")
"""What may be given: how it is proved, and on which machines."""
GROUPS = ("cluster", "experiment", "run_dir", "prove")


def main(overrides: Sequence[str], config_dir: str | None) -> int:
    """Prove whether a finished run's data makes a model better, and print what changed."""
    from synthgen.cli.overrides import compose_for

    config = compose_for([_settle(override) for override in overrides], config_dir)
    from rich.console import Console

    from synthgen.proof import prove, render_proof
    from synthgen.runtime.prepare import prepare_models

    proof = prove(prepare_models(config))
    Console(soft_wrap=False).print(render_proof(proof, config.run.dir))
    return 0


def _settle(override: str) -> str:
    """Return the override in full.

    Raises:
        ConfigError: it says what makes the data, which is there already.
    """
    key, given, value = override.partition("=")
    if given and key in SHORT:
        return f"{SHORT[key]}={value}"
    name = key_of(override)
    if not name.startswith(TAKEN) and name not in GROUPS and "@prove." not in name:
        raise ConfigError(
            f"{override}: what made the data cannot be changed in its proof; give keys of prove, cluster and run"
        )
    return override
