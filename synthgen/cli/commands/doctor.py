"""`synthgen doctor`."""

from __future__ import annotations

from collections.abc import Sequence

from synthgen.config.compose import compose_config


def main(overrides: Sequence[str], config_dir: str | None) -> int:
    """Print what this machine or cluster can run; the exit status is 1 where something that is needed is missing."""
    from synthgen.doctor import examine, format_checks

    chooses_models = any(override.startswith(("experiment=", "model@")) for override in overrides)
    config = compose_config(overrides if chooses_models else ["experiment=echo", *overrides], config_dir)
    found = []
    for check in examine(config):
        found.append(check)
        print(format_checks([check]), flush=True)
    return int(any(check.verdict == "missing" for check in found))
