"""Overrides that a command takes for itself, out of those that Hydra gets."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from synthgen.config import Config


def compose_for(overrides: Sequence[str], config_dir: str | None, *, reuse: bool = False) -> Config:
    """Return the configuration of a command line, or of the run directory that it names with the rest put over it.

    Args:
        reuse: say what the run directory holds of it already, where it is gone on with.
    """
    from synthgen.runtime.goes_on import compose_started, describe_reuse

    started = compose_started(overrides, config_dir)
    if said := started.describe():
        lines = [said, *([describe_reuse(started.config)] if reuse else [])]
        print("".join(f"synthgen: {line}\n" for line in lines), end="", file=sys.stderr, flush=True)
    return started.config


def take_run_dir(overrides: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the value of `run_dir=` (or `run.dir=`), and the other overrides."""
    return take_value(overrides, "run_dir", "run.dir")


def take_value(overrides: Sequence[str], *names: str) -> tuple[str | None, list[str]]:
    """Return the value of the override that has one of `names` as its key, and the other overrides."""
    found: str | None = None
    rest: list[str] = []
    for override in overrides:
        key, _, value = override.partition("=")
        if key in names:
            found = value.strip("'\"")
        else:
            rest.append(override)
    return found, rest
