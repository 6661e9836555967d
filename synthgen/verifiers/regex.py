"""Whether a regular expression is found in the completion.

    value = 1 if re.search(pattern, completion) else 0

Python's re (https://docs.python.org/3/library/re.html); `^` and `$` are the ends of the whole text, and a dot is any
character but a line's end. An expression that backtracks for ever ends at `timeout_s`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from synthgen.verifiers.cases import Case, Verdict, Verify, decide


def make(settings: Mapping[str, Any]) -> Verify:
    """Return the verifier of `pattern` and `ignore_case`."""
    pattern = re.compile(settings["pattern"], re.IGNORECASE if settings["ignore_case"] else 0)

    def check(case: Case) -> Verdict:
        found = pattern.search(case.completion)
        return decide(found is not None, f"found {found[0][:80]!r}" if found else "not found")

    return check


def find_problems(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield (after the scorer's key) what cannot work."""
    if not settings["pattern"]:
        yield ".pattern is not set; give the regular expression that a completion must hold"
        return
    try:
        re.compile(settings["pattern"])
    except re.error as error:
        yield f".pattern={settings['pattern']!r} is not a regular expression: {error}"
