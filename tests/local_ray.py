"""A Ray cluster on this machine for tests: a head node with a token, on ports of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
SUBMIT = ROOT / "jobs" / "submit.sh"
LIMIT_S = 300.0


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str], what: str) -> None:
    """Wait for a condition while a process lives."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert process.poll() is None, f"ended before {what}"
        assert time.monotonic() < deadline, f"no {what} in {LIMIT_S} s"
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end(process: subprocess.Popen[str]) -> None:
    """Ask a process and everything below it to end, and see to it."""
    family: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    process.terminate()
    _, alive = psutil.wait_procs(family, timeout=20)
    for survivor in alive:
        survivor.kill()
    process.wait()


@dataclass(frozen=True)
class Head:
    """A head node with a token, as `ray start --head` makes one."""

    environment: dict[str, str]
    address: str

    def submit(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run jobs/submit.sh to its end."""
        return subprocess.run(
            [SUBMIT, *arguments], capture_output=True, text=True, env={**self.environment, **environment}, check=False
        )


@contextlib.contextmanager
def start_head() -> Iterator[Head]:
    """Start a head node, as `ray start --head` does, and end it with everything that it started."""
    directory = Path(tempfile.mkdtemp(prefix="ray-"))  # a short path: Ray's sockets are named below it
    (directory / "token").write_text("0123456789abcdef" * 2, encoding="utf-8")
    port, dashboard, agent = free_port(), free_port(), free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(directory / "token"),
        "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    command = ["ray", "start", "--head", "--block", "--num-cpus=2", f"--port={port}", f"--temp-dir={directory}/ray"]
    command += [f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
    log = directory / "log"

    def start() -> subprocess.Popen[str]:
        with log.open("w", encoding="utf-8") as output:
            return subprocess.Popen(command, stdout=output, stderr=output, env=environment, text=True)

    process = start()
    try:
        with contextlib.suppress(AssertionError):  # Ray gives its own start 30 s, which a busy machine may not keep
            wait_until(lambda: "block forever" in log.read_text(encoding="utf-8"), process, "a head node")
        if process.poll() is not None:
            process = start()
            wait_until(lambda: "block forever" in log.read_text(encoding="utf-8"), process, "a head node")
        yield Head(environment, f"127.0.0.1:{port}")
    finally:
        end(process)
        shutil.rmtree(directory, ignore_errors=True)
