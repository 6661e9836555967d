"""Overrides that a command takes for itself, out of those that Hydra gets."""

from __future__ import annotations

from collections.abc import Sequence


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
