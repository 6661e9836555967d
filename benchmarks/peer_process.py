"""A peer in a process of its own, which loads once and is then measured pass by pass (see benchmarks.passes)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.passes import PassReader, open_pass

LIMIT_S, END_S = 300.0, 60.0
POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Peer:
    """A contender.

    Attributes:
        name: as in the table.
        module: what runs it.
        tokens_column: where its own files hold a row's output tokens; dots lead into structs.
        target: what our speed over its should be at least.
        batch_size: what its user would set.
        warm_up: rows of the first pass, which is not measured: whole batches that fill the engine.
        options: further settings, for `module`.
    """

    name: str
    module: str
    tokens_column: str
    target: float
    batch_size: int
    warm_up: int
    options: Mapping[str, Any]


class PeerProcess:
    """A running peer; ends with the block."""

    def __init__(self, peer: Peer, directory: Path, work: Mapping[str, Any]) -> None:
        """Start it; it loads until its first pass begins.

        Args:
            directory: a new one, for its files.
            work: what it is to do (see benchmarks.peers.describe_work).
        """
        self.peer = peer
        self._directory = directory
        self._passes = [work["passes"][0][: peer.warm_up], *work["passes"][1:]]
        self._next = 0
        self._files: set[Path] = set()
        if any(len(rows) % peer.batch_size for rows in self._passes[:-1]):
            raise ValueError(f"{peer.name}: a batch of {peer.batch_size} would wait for rows of the next pass")
        self._n: int = work["n"]
        directory.mkdir(parents=True)
        path = directory / "work.json"
        described = {"directory": str(directory), "batch_size": peer.batch_size, **work, "passes": self._passes}
        path.write_text(json.dumps({**described, **peer.options}), encoding="utf-8")
        self._log = (directory / "log").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, "-m", peer.module, str(path)],
            env={**os.environ, **work["environment"]},
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that it can be ended together with the processes that it starts
        )

    def __enter__(self) -> PeerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self._next == len(self._passes) - 1:
            open_pass(self._directory, self._next)  # one row, upon which the tool ends by itself
        else:
            self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        self._signal(signal.SIGKILL)  # whatever it has left behind
        self._process.wait()
        self._log.close()

    def run_pass(self) -> float:
        """Return the output tokens per second of the next pass."""
        number, self._next = self._next, self._next + 1
        rows = len(self._passes[number]) * self._n
        found = PassReader(self._directory, number, self.peer.tokens_column, known=self._files)
        open_pass(self._directory, number)
        while time.time() < found.opened_at + LIMIT_S and self._process.poll() is None:
            time.sleep(POLL_S)
            found.read_new()
            if found.rows == rows:
                return found.output_tokens / found.find_elapsed_s()
        self._log.seek(0)
        raise RuntimeError(
            f"{self.peer.name}: pass {number} gave {found.rows} of {rows} rows: {self._log.read()[-3000:]}"
        )

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
