"""A process that runs checks: JSON lines in, JSON lines out. `python -m synthgen.verifiers.worker`.

`{"load": check, "as": name}` prepares a check (synthgen.verifiers.settings.Check.dump) and answers `{}` or `{"failed":
message}`; `{"run": name, "case": {…}}` answers `{"value", "reason", "detail"}` or `{"error": slug, "message"}`. Whoever
started it ends it when a check takes too long. It ends with its parent, whatever it is at.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
from importlib import import_module
from typing import Any

from synthgen.verifiers.cases import Case, CheckError, Verify

NICENESS = 10
"""Checks give way to engines on the same CPUs."""
MEMORY_GIB = 4
"""Most memory for checks of our own kinds (10**10**10 in an answer is a number too). The user's code has no limit."""
DETAIL = 500
"""Characters of a detail or a message that are kept."""


def main() -> None:
    """Serve checks until the input ends."""
    _follow_parent()
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a check prints goes to the log
    checks: dict[str, tuple[Verify, bool]] = {}
    for line in sys.stdin.buffer:
        job: dict[str, Any] = json.loads(line)
        answer = _load(checks, job) if "load" in job else _run(checks, job)
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def _load(checks: dict[str, tuple[Verify, bool]], job: dict[str, Any]) -> dict[str, Any]:
    check = json.loads(job["load"])
    own = check["module"] == "synthgen.verifiers.own"
    _limit_memory(not own)
    try:
        checks[job["as"]] = (import_module(check["module"]).make(check["settings"]), own)
    except BaseException as error:
        return {"failed": f"{type(error).__name__}: {error}"[:DETAIL]}
    return {}


def _run(checks: dict[str, tuple[Verify, bool]], job: dict[str, Any]) -> dict[str, Any]:
    verify, own = checks[job["run"]]
    _limit_memory(not own)
    try:
        verdict = verify(Case(**job["case"]))
    except CheckError as error:
        return {"error": error.reason, "message": str(error)[:DETAIL]}
    except BaseException as error:  # a user's sys.exit() too: this process goes on
        return {"error": "raised", "message": f"{type(error).__name__}: {error}"[:DETAIL]}
    return {"value": verdict.value, "reason": verdict.reason, "detail": verdict.detail[:DETAIL]}


def _limit_memory(limited: bool) -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_GIB << 30 if limited else hard, hard))


def _follow_parent() -> None:
    """End with the process that started this one, also in the middle of a check (Linux: prctl(2), PR_SET_PDEATHSIG)."""
    parent = os.getppid()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before
        os._exit(1)


if __name__ == "__main__":
    main()
