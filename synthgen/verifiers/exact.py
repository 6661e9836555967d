"""Whether the completion is the reference, or holds it where `extract` looks.

    value = 1 if normalise(answer) = normalise(reference) else 0

The answer is the whole completion, or the last match of `extract` (its first group, where it has one). `normalise`
drops white space at both ends and makes one space of the others, as SQuAD's exact match does (arXiv 1606.05250), but
keeps articles and punctuation. Without a reference there is no verdict.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from synthgen.verifiers.cases import NO_REFERENCE, Case, Verdict, Verify, decide


def make(settings: Mapping[str, Any]) -> Verify:
    """Return the verifier of `extract` and `ignore_case`."""
    flags = re.IGNORECASE if settings["ignore_case"] else 0
    extract = re.compile(settings["extract"], flags) if settings["extract"] else None

    def normalise(text: str) -> str:
        text = " ".join(text.split())
        return text.casefold() if settings["ignore_case"] else text

    def check(case: Case) -> Verdict:
        if case.reference is None:
            return Verdict(None, NO_REFERENCE)
        answer = case.completion
        if extract is not None:
            found = list(extract.finditer(case.completion))
            if not found:
                return decide(False, "extract finds nothing")
            last = found[-1]
            answer = (last[1] if extract.groups else last[0]) or ""
        return decide(normalise(answer) == normalise(case.reference), f"answer {answer[:80]!r}")

    return check


def find_problems(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield (after the scorer's key) what cannot work."""
    try:
        re.compile(settings["extract"])
    except re.error as error:
        yield f".extract={settings['extract']!r} is not a regular expression: {error}"
