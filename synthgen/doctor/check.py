"""One line of `doctor`'s answer, and what all of its checks ask of a configuration."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from synthgen.config import Config, ModelConfig
from synthgen.planning.workload import list_models_used

Verdict = Literal["ok", "warning", "missing"]

WIDTH = 100


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the answer: what was looked at, how it is, and what to do about it.

    `warning`: it works, but not well or not for everything. `missing`: the run cannot work so.
    """

    name: str
    verdict: Verdict
    text: str
    mend: str = ""


def models_used(config: Config) -> list[ModelConfig]:
    """Return the models of all generators and of the judge."""
    return [model for _, model in list_models_used(config).values()]


def format_checks(checks: Sequence[Check]) -> str:
    """Return the checks as lines for a terminal; the mend stands below what it mends."""
    lines: list[str] = []
    for check in checks:
        head = f"{check.verdict:<8} {check.name:<12} "
        indent = " " * len(head)
        lines += textwrap.wrap(check.text, WIDTH, initial_indent=head, subsequent_indent=indent, break_on_hyphens=False)
        if check.mend:
            lines += textwrap.wrap(
                check.mend, WIDTH, initial_indent=f"{indent}→ ", subsequent_indent=f"{indent}  ",
                break_long_words=False, break_on_hyphens=False,
            )  # fmt: skip
    return "\n".join(lines)
