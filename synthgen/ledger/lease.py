"""One writer: the lease of a run directory. Its driver holds and renews it; a dead holder's is taken over.

`lease.json` names the holder. Every change of it is a compare-and-swap of the file, so two drivers cannot both win.

One file because every change of the lease must be seen beside all others.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthgen.errors import ConfigError, RunFailedError, StorageError
from synthgen.ledger.storage import Storage

logger = logging.getLogger(__name__)

LEASE = "lease.json"


class Lease:
    """The right to write to a run directory, renewed by a thread every third of `lease_s`.

    Args:
        storage: of the run directory.
        lease_s: a holder that has not renewed for so long counts as dead, s.
        retry_s: how long `check` waits for a storage that does not answer, s; 0: for one try.

    Raises:
        ConfigError: another living driver holds it; the message names its host, pid and age.
    """

    def __init__(self, storage: Storage, lease_s: float, retry_s: float = 0.0) -> None:
        # A renewal that waited for minutes would say an old time: rather the next one.
        self.storage = self._storage = storage.hurried(lease_s / 3)
        self._lease_s = lease_s
        self._retry_s = retry_s
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

    @property
    def record(self) -> dict[str, Any]:
        """What `lease.json` says of this holder; `renew_record` renews it from another process."""
        return self._record()

    def check(self) -> None:
        """Raise RunFailedError where another driver has taken the run directory over.

        A process that was suspended for longer than the lease (its renewing thread with it) asks the storage first.
        """
        since = _clock()
        while not self._lost and _clock() - self._renewed_at > self._lease_s:
            try:
                self._swap()
            except (OSError, StorageError) as error:
                if _clock() - since < self._retry_s and not self._stop.wait(min(1.0, self._lease_s / 3)):
                    continue
                raise RunFailedError(
                    f"run.dir={self._storage.url}: its lease could not be renewed for run.lease_s={self._lease_s:g} s: "
                    f"{str(error).strip()[:200]}; what was committed is kept, start the same command again"
                ) from error
        if self._lost:
            raise RunFailedError(
                f"run.dir={self._storage.url} was taken over by another driver; this one stops and changes nothing more"
            )

    def release(self) -> None:
        """Give the lease up, if it is still held. Safe to call twice. Raises what the storage raises."""
        self._stop.set()
        self._thread.join()
        with self._lock:
            for _ in range(3):
                if self._lost or self._storage.swap(LEASE, self._bytes, _encode(self._record(released=True))):
                    break
                self._adopt()  # another process renewed it for this one (`renew_record`)
            self._lost = True

    def _acquire(self) -> bytes:
        mine = _encode(self._record())
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
            theirs_s = _number(holder, "lease_s") or self._lease_s  # they renew by their own, whatever ours is
            if _is_alive(holder, theirs_s) or (_is_only_silent(holder) and self._changes_soon(old, theirs_s)):
                age = max(0.0, time.time() - _number(holder, "started_at"))
                raise ConfigError(
                    f"run.dir={self._storage.url} is in use by pid {holder.get('pid')} on {holder.get('host')}, "
                    f"started {age:.0f} s ago; stop that run, or choose another run.dir"
                )
            if self._storage.swap(LEASE, old, mine):
                return mine
        raise ConfigError(f"run.dir={self._storage.url}: {LEASE} keeps changing hands; start one run at a time")

    def _changes_soon(self, old: bytes, lease_s: float) -> bool:
        """Watch a lease that looks old for the time in which its holder would renew it: clocks of hosts may differ."""
        logger.warning(
            "run.dir=%s: its last driver, on another machine, seems to be gone; it is taken over if it stays silent "
            "for another %.0f s",
            *(self._storage.url, lease_s / 2),
        )
        deadline = _clock() + lease_s / 2
        while _clock() < deadline:
            if self._stop.wait(min(1.0, lease_s / 10)):
                break
            try:
                if self._storage.read(LEASE) != old:
                    return True
            except FileNotFoundError:
                return False
        return False

    def _renew(self) -> None:
        while not self._stop.wait(self._lease_s / 3) and not self._lost:
            # Storage that is away for a moment is not a lost lease; after `lease_s` the next change asks for itself.
            with contextlib.suppress(OSError, StorageError):
                self._swap()

    def _swap(self) -> None:
        """Renew the lease, or learn that it is lost. Raises what the storage raises."""
        with self._lock:
            asked_at = _clock()
            new = _encode(self._record())
            if self._storage.swap(LEASE, self._bytes, new):
                self._bytes, self._renewed_at = new, asked_at
            else:
                self._adopt()

    def _adopt(self) -> None:
        """Take what the file says where it is still ours: a renewal that was not answered, or another process's."""
        asked_at = _clock()
        try:
            found = self._storage.read(LEASE)
        except FileNotFoundError:
            found = b""
        if _parse(found).get("token") != self._token:
            self._lost = True
            return
        self._bytes, self._renewed_at = found, asked_at

    def _record(self, *, released: bool = False) -> dict[str, Any]:
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            **_place(),
            "process_started_ticks": _process_start(os.getpid()),
            "started_at": self._started,
            "renewed_at": time.time(),
            "renewed_at_boot_s": _clock(),
            "lease_s": self._lease_s,
            "token": self._token,
            "released": released,
        }


def renew_record(storage: Storage, record: Mapping[str, Any]) -> bool:
    """Renew a lease for its holder from another process, which runs while the holder's threads cannot.

    Returns:
        whether the lease is still that holder's.
    """
    found = storage.read(LEASE)
    holder = _parse(found)
    if holder.get("token") != record["token"] or holder.get("released"):
        return False
    storage.swap(LEASE, found, _encode({**record, "renewed_at": time.time(), "renewed_at_boot_s": _clock()}))
    return True


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds, or held last, a run directory: its host and pid, and how long ago it renewed its lease, s.

    `dead`: it gave the lease up, its process is gone from this machine, or it was silent for longer than the lease.
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
        pid=int(_number(record, "pid")),
        silent_s=max(0.0, _silent_s(record)),
        released=bool(record.get("released")),
        dead=not _is_alive(record, _number(record, "lease_s") or lease_s),
    )


def _clock() -> float:
    """Return seconds that also pass while the machine is suspended, where the system counts them."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _encode(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record).encode()


def _parse(data: bytes) -> dict[str, Any]:
    try:
        record = json.loads(data)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _number(record: Mapping[str, Any], key: str) -> float:
    """Return a number of a record that may hold anything; 0 where it is none."""
    value = record.get(key)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0


def _is_alive(holder: Mapping[str, Any], lease_s: float) -> bool:
    """Whether a holder works still, as far as one look can tell.

    That its process is not here says something only where processes of its kind would be seen: the same boot of the
    same kernel, and the same pid namespace. A container of the same host name has pids of its own.
    """
    if not holder or holder.get("released"):
        return False
    if _shares_processes(holder):
        started = _process_start(int(_number(holder, "pid")))
        if started is None or started != holder.get("process_started_ticks"):
            return False
    return abs(_silent_s(holder)) <= lease_s


def _is_only_silent(holder: Mapping[str, Any]) -> bool:
    """Whether nothing but clocks of different machines speaks for the death of a holder."""
    boot = _place()["boot_id"]
    return bool(holder) and not holder.get("released") and not (boot and holder.get("boot_id") == boot)


def _silent_s(holder: Mapping[str, Any]) -> float:
    """Return how long ago a holder renewed: by the machine's own clock where both share it, which no one sets."""
    boot = _place()["boot_id"]
    if boot and holder.get("boot_id") == boot:
        return _clock() - _number(holder, "renewed_at_boot_s")
    return time.time() - _number(holder, "renewed_at")


def _shares_processes(holder: Mapping[str, Any]) -> bool:
    place = _place()
    return all(place[key] and holder.get(key) == place[key] for key in ("boot_id", "pid_namespace"))


def _place() -> dict[str, str]:
    """Return where this process's pid means something: the boot of the machine and the pid namespace; "": unknown."""
    place = {"boot_id": "", "pid_namespace": ""}
    with contextlib.suppress(OSError):
        place["boot_id"] = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    with contextlib.suppress(OSError):
        place["pid_namespace"] = os.readlink("/proc/self/ns/pid")
    return place


def _process_start(pid: int) -> int | None:
    """Return when a process started, in ticks since the boot (which no set clock changes); None: gone, or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])
