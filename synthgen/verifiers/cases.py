"""What a verifier is given and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

NO_REFERENCE = "no_reference"
"""Why a kind that compares with a right answer has no verdict: the prompt has none."""


@dataclass(frozen=True, slots=True)
class Case:
    """One completion to check.

    Attributes:
        prompt: the conversation. completion: its answer. reference: the right answer, None where there is none.
        metadata: the other columns of the prompt's row, and its `tools` in OpenAI's form.
        tool_calls: what the completion calls, in OpenAI's form, the arguments as objects.
    """

    prompt: Sequence[Mapping[str, str]]
    completion: str
    reference: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tool_calls: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a check.

    Attributes:
        value: higher is better; None: no verdict. reason: why there is none, a slug.
        detail: what was seen, for people.
    """

    value: float | None
    reason: str | None = None
    detail: str = ""


class CheckError(Exception):
    """The check itself failed: that says nothing of the completion, and its row gets the error `reason`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


Verify = Callable[[Case], Verdict]
"""A verifier with its settings. It raises CheckError, or anything else (the reason is then `raised`)."""


def decide(passed: bool, detail: str = "") -> Verdict:
    """Return 1 for what passed, else 0."""
    return Verdict(1.0 if passed else 0.0, detail=detail)
