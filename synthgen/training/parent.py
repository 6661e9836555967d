"""Ending with the process that started this one. Imports nothing: packages may be other ones than the project's."""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import suppress

FOLLOW = "SYNTHGEN_FOLLOW_PARENT"
"""In the environment of a process that is to end with its parent: the process that asked for it."""


def follow_parent() -> None:
    """End with the process that started this one, where that asked for it (Linux: prctl(2), PR_SET_PDEATHSIG)."""
    if not os.environ.get(FOLLOW):
        return
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() == 1 and os.environ[FOLLOW] != "1":  # it was gone before; a launcher may stand between the two
        os._exit(1)
