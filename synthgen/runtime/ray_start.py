"""Starting Ray and ending it: in a thread that can be waited for, in sessions that signals to our group do not reach.

`ray.init` may hold the interpreter's lock for half a minute: then no thread of this process renews the lease or says a
word. A small process beside it does (`python -m synthgen.runtime.ray_start`, which `watch_start` runs).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import select
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from synthgen.errors import SynthgenError
from synthgen.ledger.lease import Lease, renew_record
from synthgen.ledger.storage import open_storage

CHECK_EVERY_S = 0.02
"""Ray's client installs a SIGTERM handler that ends the process with a dump: ours is put back as soon as this."""
SAY_AFTER_S = 20.0
SAY_EVERY_S = 60.0
PATIENCE_S = 6.0
"""For a Ray that still starts when the run is asked to stop, and for one that shuts down."""
LAST_RESORT_S = 45.0
"""Ray's own waits with the interpreter's lock held end within 30 s."""

_forking = threading.local()


class RayThread:
    """Holds Ray from its start to its end.

    One thread does both: the kernel ends Ray's processes with the thread that started them (PR_SET_PDEATHSIG).

    Args:
        address: of a cluster, None for Ray on this machine, which gets `num_cpus` logical CPUs.
    """

    def __init__(self, address: str | None, num_cpus: int) -> None:
        self._address = address
        self._num_cpus = num_cpus
        self._up = threading.Event()
        self._leave = threading.Event()
        self._down = threading.Event()
        self._error: BaseException | None = None
        self._others = _children()
        self._thread = threading.Thread(target=self._hold, name="ray", daemon=True)

    def start(self, timeout_s: float, check: Callable[[], None]) -> None:
        """Wait until Ray is there.

        Raises:
            TimeoutError: it is not in `timeout_s`. Whatever `check` or `ray.init` raises.
        """
        deadline = time.monotonic() + timeout_s
        self._thread.start()
        try:
            while not self._up.wait(CHECK_EVERY_S):
                check()
                if time.monotonic() > deadline:
                    raise TimeoutError
            check()  # after Ray's last word
        except BaseException:
            if not isinstance(sys.exception(), TimeoutError):
                self._up.wait(PATIENCE_S)  # a Ray that is whole ends in order
            self.stop()
            raise
        if self._error is not None:
            self._kill()
            if time.monotonic() > deadline:
                raise TimeoutError from self._error
            raise self._error

    def stop(self) -> None:
        """End Ray, in order if that goes quickly, and all of its processes in any case."""
        self._leave.set()
        if self._up.is_set():
            self._down.wait(PATIENCE_S)
        self._kill()
        self._down.wait(1.0)

    def _hold(self) -> None:
        import ray

        _forking.apart = True
        try:
            self._init()
        except BaseException as error:
            self._error = error
        finally:
            _forking.apart = False
            self._up.set()
        self._leave.wait()
        with contextlib.suppress(Exception):
            ray.shutdown()
        self._down.set()

    def _init(self) -> None:
        import ray

        logging.getLogger("ray._private.worker").addFilter(_is_news)
        if self._address:
            ray.init(address=self._address, log_to_driver=False, logging_level=logging.WARNING, configure_logging=False)
            return
        # A new local cluster has token authentication on by default, and Ray announces that at every start.
        logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
        _give_token()
        _fork_into_sessions()
        ray.init(
            address="local",
            num_cpus=self._num_cpus,
            # Ray 2.60 hands this path to a shell as it is (runtime_env/context.py): it may hold spaces.
            runtime_env={"py_executable": shlex.quote(sys.executable)},
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.WARNING,
            configure_logging=False,
        )

    def _kill(self) -> None:
        """End what Ray started on this machine and has not ended itself."""
        import psutil

        for child in _children() - self._others:
            with contextlib.suppress(psutil.Error):
                below = child.children(recursive=True)
                child.kill()
                for process in below:
                    with contextlib.suppress(psutil.Error):
                        process.kill()


def _children() -> set[Any]:
    import psutil

    return set(psutil.Process().children())


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a warning of Ray's is one: that its SIGTERM handler is not set is what we want."""
    return "SIGTERM handler is not set" not in record.getMessage()


def _give_token() -> None:
    """Name the token of Ray's own authentication where Ray cannot keep one in `~/.ray`.

    A container of OpenShift runs as a user that nobody knows, whose home may be `/`: `ray.init` would end there.
    """
    if any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        return
    try:
        directory = Path.home() / ".ray"
        if (directory / "auth_token").is_file():
            return
        directory.mkdir(parents=True, exist_ok=True)
        if os.access(directory, os.W_OK):
            return
    except (OSError, RuntimeError):  # no such user, no such home
        pass
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _fork_into_sessions() -> None:
    """Give each process that Ray's thread starts a session of its own.

    Ctrl-C, `timeout`, a closed terminal and others signal the whole process group. Ray's processes would die of that
    before the driver has brought in what they are working on. Ray passes a `preexec_fn`, so that Python runs the hooks
    for forks in the child.
    """
    if not getattr(_fork_into_sessions, "done", False):
        _fork_into_sessions.done = True  # type: ignore[attr-defined]
        os.register_at_fork(after_in_child=_leave_session)


def _leave_session() -> None:
    if getattr(_forking, "apart", False):
        os.setsid()


@contextlib.contextmanager
def watch_start(address: str | None, timeout_s: float, lease: Lease | None) -> Iterator[None]:
    """Have a process beside this one say what is waited for, mind the time and renew the lease, while the block runs.

    Past `timeout_s` it ends the processes that Ray has started, which `ray.init` then reports as an error.
    """
    task = {
        "what": f"Ray at {address}" if address else "Ray to start on this machine",
        "timeout_s": timeout_s,
        "url": lease.storage.url if lease else None,
        "record": lease.record if lease else None,
        "embedded": address is None,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "synthgen.runtime.ray_start"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    )
    assert process.stdin is not None
    try:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
        yield
    finally:
        process.kill()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.wait()


def _watch(task: dict[str, Any], driver: int) -> None:
    """Do what `watch_start` promises, until standard input ends."""
    began = time.monotonic()
    limit = began + task["timeout_s"]
    say_at = began + SAY_AFTER_S
    storage = open_storage(task["url"], retry_s=0.0) if task["url"] else None
    every_s = task["record"]["lease_s"] / 3 if task["record"] else 10.0
    renew_at = began + every_s
    killed = False
    while not select.select([sys.stdin], [], [], 0.5)[0] and os.getppid() == driver:
        now = time.monotonic()
        if storage is not None and now >= renew_at:
            renew_at = now + every_s
            with contextlib.suppress(OSError, SynthgenError):
                renew_record(storage, task["record"])
        if now >= say_at and not killed:
            say_at += SAY_EVERY_S
            line = (
                f"waiting for {task['what']}: {now - began:.0f} s of cluster.ray_start_timeout_s={task['timeout_s']:g}"
            )
            print(f"synthgen: {line}", file=sys.stderr, flush=True)
        if now >= limit and not killed:
            killed = True
            _kill_siblings(driver)
        if now >= limit + LAST_RESORT_S:
            _end_driver(storage, task, driver)
            return


def _kill_siblings(driver: int) -> None:
    import psutil

    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(driver).children():
            if child.pid != os.getpid():
                with contextlib.suppress(psutil.Error):
                    child.kill()


def _end_driver(storage: Any, task: dict[str, Any], driver: int) -> None:
    """The driver does not come back from `ray.init`: say so in its place, and end it."""
    why = f"Ray did not come up in cluster.ray_start_timeout_s={task['timeout_s']:g} s, and its client hung"
    if storage is not None:
        with contextlib.suppress(OSError, SynthgenError):
            storage.replace("status.json", json.dumps({"state": "failed", "message": why}).encode())
    print(f"synthgen: {why}; what was committed is kept, start the same command again", file=sys.stderr, flush=True)
    os.kill(driver, signal.SIGKILL)


if __name__ == "__main__":
    _watch(json.loads(sys.stdin.readline()), os.getppid())
