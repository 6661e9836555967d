"""SIGINT, SIGTERM and SIGHUP during a session. A handler sets a flag; what raises are the places that ask for it.

The first signal asks the run to end in order. A second SIGINT or SIGTERM ends the process at once, and so does a first
one that is not answered in time: a thread sees to that, since the main one may be anywhere, in Ray's C++ code too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from synthgen.errors import RunStoppedError

SAME_S = 0.5
"""Signals within so long of the first are one: `timeout` and `srun` send theirs to the process and to its group."""
IN_ORDER_S = 8.0
"""After the grace, for the end of the replicas and of Ray, before the process is ended at once."""


class Signals:
    """Turns signals into one wish to stop, while the block runs.

    Args:
        grace_s: after the first signal, time to commit what is in flight, s.
        last_words: called before the process ends at once, with the number of the signal and a line about it.
    """

    def __init__(self, grace_s: float, last_words: Callable[[int, str], None]) -> None:
        self._grace_s = grace_s
        self._last_words = last_words
        self._asked: RunStoppedError | None = None
        self._stop: Callable[[RunStoppedError], None] | None = None
        self._previous: dict[int, Any] = {}
        self._terminals = [fd for fd in (1, 2) if os.isatty(fd)]
        self._ended = threading.Event()
        self._noted, self._notes = socket.socketpair()

    def __enter__(self) -> Signals:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) == signal.SIG_IGN:  # `nohup`, or a shell's background job: it stays ignored
                continue
            with contextlib.suppress(ValueError):  # not in the main thread: the caller handles signals
                self._previous[number] = signal.signal(number, self._handle)
        self._wakeup = -1
        if self._previous:
            self._notes.setblocking(False)
            self._wakeup = signal.set_wakeup_fd(self._notes.fileno(), warn_on_full_buffer=False)
            self._thread = threading.Thread(target=self._watch, name="signals", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._previous:
            signal.set_wakeup_fd(self._wakeup)
            self._notes.send(b"\0")
            self._thread.join()
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._noted.close()
        self._notes.close()

    @property
    def asked(self) -> RunStoppedError | None:
        """What a signal asked for, None where there was none."""
        return self._asked

    def check(self) -> None:
        """Raise RunStoppedError once a signal has come, unless somebody else answers to it (`forward_to`)."""
        if self._asked is not None and self._stop is None and not self._ended.is_set():
            raise self._asked

    def check_and_keep(self) -> None:
        """Do as `check`, and take back the handlers, where a library puts its own: Ray's client does, for SIGTERM."""
        for number in self._previous:
            signal.signal(number, self._handle)
        self.check()

    def answered(self) -> None:
        """Let `check` raise no more: the session is ending, and its last files are to be written."""
        self._ended.set()

    def forward_to(self, stop: Callable[[RunStoppedError], None] | None) -> None:
        """Let signals call `stop`, which only takes note, instead of making `check` raise; None: no longer."""
        self._stop = stop
        if stop is not None and self._asked is not None:
            stop(self._asked)

    def _handle(self, number: int, _: Any) -> None:
        if self._asked is None:
            self._asked = _stopped_by(number)
        if self._stop is not None:
            self._stop(self._asked)

    def _watch(self) -> None:
        """Count the signals, which the interpreter notes here whatever the main thread does, and mind the time."""
        first_at: float | None = None
        asked = 0
        while True:
            limit = None if first_at is None else first_at + self._grace_s + IN_ORDER_S - time.monotonic()
            self._noted.settimeout(None if limit is None else max(0.001, limit))
            try:
                notes = self._noted.recv(64)
            except TimeoutError:
                self._end(asked, f"{_name(asked)} received, and what was in flight did not end in time")
                return
            for number in notes:
                if number == 0:
                    return
                if number == signal.SIGHUP:
                    self._forget_terminal()
                if number not in self._previous:
                    continue
                now = time.monotonic()
                if first_at is None:
                    first_at, asked = now, number
                    if self._asked is None:  # the main thread is in C code, and has not heard of it
                        self._asked = _stopped_by(number)
                elif now - first_at > SAME_S and number != signal.SIGHUP:
                    self._end(number, f"{_name(number)} received again: ended at once")
                    return

    def _end(self, number: int, line: str) -> None:
        """End this process and all below it. Nothing that is committed is touched."""
        words = threading.Thread(target=self._last_words, args=(number, line), daemon=True)
        words.start()
        words.join(3.0)
        lines = f"synthgen: {line}\nsynthgen: what was committed is kept; the same command goes on from it\n"
        with contextlib.suppress(OSError):
            os.write(2, (("\x1b[?25h" if 1 in self._terminals else "") + lines).encode())  # the cursor, too
        kill_below()
        os._exit(128 + number)

    def _forget_terminal(self) -> None:
        """Send what would be shown nowhere: writing to a terminal that is gone is an error."""
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for descriptor in self._terminals:
                os.dup2(nowhere, descriptor)
            os.close(nowhere)
        self._terminals = []


def kill_below() -> None:
    """End all processes below this one at once."""
    import psutil

    with contextlib.suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()


def _stopped_by(number: int) -> RunStoppedError:
    error = RunStoppedError(f"{_name(number)} received")
    error.exit_code = 128 + number
    return error


def _name(number: int) -> str:
    return signal.Signals(number).name
