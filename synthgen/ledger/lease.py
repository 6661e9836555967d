"""One writer: the lease of a run directory. Its driver holds and renews it; a dead holder's is taken over.

`lease.json` names the holder. Every change of it is a compare-and-swap of the file, so two drivers cannot both win.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from dataclasses import dataclass
from typing import Any

from synthgen.errors import ConfigError, RunFailedError
from synthgen.ledger.storage import Storage

LEASE = "lease.json"


class Lease:
    """The right to write to a run directory, renewed by a thread every third of `lease_s`.

    Args:
        storage: of the run directory.
        lease_s: a holder that has not renewed for so long counts as dead, s.

    Raises:
        ConfigError: another living driver holds it; the message names its host, pid and age.
    """

    def __init__(self, storage: Storage, lease_s: float) -> None:
        self._storage = storage
        self._lease_s = lease_s
        self._token = uuid.uuid4().hex
        self._started = time.time()
        self._stop = threading.Event()
        self._lost = False
        self._lock = threading.Lock()
        self._renewed_at = _clock()
        self._bytes = self._acquire()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> bool:
        """Whether another driver has taken the run directory over, as far as this one knows."""
        return self._lost

    def check(self) -> None:
        """Raise RunFailedError where another driver has taken the run directory over.

        A process that was suspended for longer than the lease (its renewing thread with it) asks the storage first.
        """
        if not self._lost and _clock() - self._renewed_at > self._lease_s:
            try:
                self._swap()
            except Exception as error:
                raise RunFailedError(
                    f"run.dir={self._storage.url}: its lease could not be renewed for run.lease_s={self._lease_s:g} s: "
                    f"{str(error).strip()[:200]}; what was committed is kept, start the same command again"
                ) from error
        if self._lost:
            raise RunFailedError(
                f"run.dir={self._storage.url} was taken over by another driver; this one stops and changes nothing more"
            )

    def release(self) -> None:
        """Give the lease up, if it is still held. Safe to call twice."""
        self._stop.set()
        self._thread.join()
        if not self._lost and self._storage.swap(LEASE, self._bytes, self._record(released=True)):
            self._lost = True

    def _acquire(self) -> bytes:
        mine = self._record()
        for _ in range(20):
            if self._storage.create(LEASE, mine):
                return mine
            try:
                old = self._storage.read(LEASE)
            except FileNotFoundError:
                continue
            holder = _parse(old)
            if holder.get("token") == self._token:  # it was written, and only the answer was lost
                return old
            if not _is_dead(holder, self._lease_s):
                age = max(0.0, time.time() - float(holder.get("started_at", 0)))
                raise ConfigError(
                    f"run.dir={self._storage.url} is in use by pid {holder.get('pid')} on {holder.get('host')}, "
                    f"started {age:.0f} s ago; stop that run, or choose another run.dir"
                )
            if self._storage.swap(LEASE, old, mine):
                return mine
        raise ConfigError(f"run.dir={self._storage.url}: {LEASE} keeps changing hands; start one run at a time")

    def _renew(self) -> None:
        while not self._stop.wait(self._lease_s / 3) and not self._lost:
            # Storage that is away for a moment is not a lost lease; after `lease_s` the next change asks for itself.
            with contextlib.suppress(Exception):
                self._swap()

    def _swap(self) -> None:
        """Renew the lease, or learn that it is lost. Raises what the storage raises."""
        with self._lock:
            asked_at = _clock()
            new = self._record()
            if not self._storage.swap(LEASE, self._bytes, new):
                found = self._storage.read(LEASE)
                if _parse(found).get("token") != self._token:
                    self._lost = True
                    return
                new = found  # an earlier renewal was written, and only the answer was lost
            self._bytes, self._renewed_at = new, asked_at

    def _record(self, *, released: bool = False) -> bytes:
        record = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "process_started_at": _process_start(os.getpid()),
            "started_at": self._started,
            "renewed_at": time.time(),
            "lease_s": self._lease_s,
            "token": self._token,
            "released": released,
        }
        return json.dumps(record).encode()


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds, or held last, a run directory: its host and pid, and how long ago it renewed its lease, s.

    `dead`: it gave the lease up, its process is gone from this host, or it has been silent for longer than the lease.
    """

    host: str
    pid: int
    silent_s: float
    released: bool
    dead: bool


def read_holder(storage: Storage, lease_s: float) -> Holder | None:
    """Return the holder of the run directory, None where there never was one.

    Args:
        lease_s: of a holder that does not say its own.
    """
    try:
        record = _parse(storage.read(LEASE))
    except FileNotFoundError:
        return None
    return Holder(
        host=str(record.get("host", "")),
        pid=int(record.get("pid", 0)),
        silent_s=max(0.0, time.time() - float(record.get("renewed_at", 0))),
        released=bool(record.get("released")),
        dead=_is_dead(record, float(record.get("lease_s") or lease_s)),
    )


def _clock() -> float:
    """Return seconds that also pass while the machine is suspended, where the system counts them."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _parse(data: bytes) -> dict[str, Any]:
    try:
        record = json.loads(data)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _is_dead(holder: dict[str, Any], lease_s: float) -> bool:
    if not holder or holder.get("released"):
        return True
    if holder.get("host") == socket.gethostname():
        started = _process_start(int(holder.get("pid", 0)))
        if started is None or abs(started - float(holder.get("process_started_at") or 0)) > 1.0:
            return True
    return time.time() - float(holder.get("renewed_at", 0)) > lease_s


def _process_start(pid: int) -> float | None:
    """Return the Unix time at which a process of this host started, None where there is none or a zombie."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return None
