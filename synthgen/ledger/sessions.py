"""The sessions of a run: a file for each start that ran units, `sessions/<when>-<token>.json`, kept while it runs.

A start that finds everything committed writes none: exporting again changes nothing of what making the data took.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from synthgen.errors import SynthgenError
from synthgen.ledger.run_dir import RunDir, describe_os_error

logger = logging.getLogger(__name__)

SESSIONS = "sessions"
EARLIER = "0-earlier"
"""Name of what went before, where the last report is of a version that kept no sessions."""

PATIENCE_S = 5.0
"""For a store that stumbles, s: the executor waits meanwhile, and the next write says the same and more."""

WRITE_EVERY_S = 10.0
"""A driver that is killed loses so much of its GPU-hours, s."""

_LISTED = ("session", "started_at", "elapsed_s", "gpu_hours")
_OF_ONE = ("started_at", "elapsed_s", "replicas", "throughput", "notes")


class SessionLog:
    """Writes the file of the session that runs now.

    Args:
        run_dir: where to.
        config: the session's configuration as YAML, without secrets.
    """

    def __init__(self, run_dir: RunDir, config: str) -> None:
        now = datetime.now(UTC)
        self._run_dir = run_dir
        self._path = f"{SESSIONS}/{now:%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex[:8]}.json"
        self._record: dict[str, Any] = {"started_at": now.isoformat(timespec="seconds"), "config": config}
        self._began = time.monotonic()
        self._written_at: float | None = None

    def observe(self, gpu_hours: float, replicas: Sequence[Mapping[str, Any]]) -> None:
        """Take in how far the session is, and write it if it is time to."""
        if self._written_at is None or time.monotonic() - self._written_at >= WRITE_EVERY_S:
            self.write(gpu_hours, replicas)

    def write(
        self,
        gpu_hours: float,
        replicas: Sequence[Mapping[str, Any]],
        throughput: Sequence[Mapping[str, Any]] = (),
        notes: Sequence[str] = (),
    ) -> None:
        """Write what the session has come to; `notes` are lines that the terminal showed."""
        self._written_at = time.monotonic()
        numbers = {"elapsed_s": round(self._written_at - self._began, 2), "gpu_hours": round(gpu_hours, 6)}
        lists = {"replicas": list(replicas), "throughput": list(throughput), "notes": list(notes)}
        try:
            record = {**self._record, **numbers, **lists}
            self._run_dir.write_json(self._path, record, patience_s=PATIENCE_S)
        except SynthgenError as error:  # the lease is lost: whoever waits for the executor learns it there
            logger.warning("%s was not written: %s", self._path, error)
        except Exception as error:  # of a disk that is full or a store that is away: no reason to end a run
            logger.warning("%s was not written: %s", self._path, describe_os_error(error))


def read_sessions(run_dir: RunDir, report: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """Return the run's sessions, the oldest first: `session` (its name), started_at, elapsed_s, gpu_hours, replicas, …

    Args:
        report: the last report, whose list of sessions stands in for files that are damaged or gone.
    """
    last = report or {}
    known = {str(entry["session"]): dict(entry) for entry in last.get("sessions") or [] if "session" in entry}
    if "sessions" not in last and last.get("gpu_hours") is not None:
        known[EARLIER] = {"session": EARLIER, **{key: last.get(key) for key in ("gpu_hours", *_OF_ONE)}}
    for path in run_dir.storage.list(SESSIONS):
        name = path.removeprefix(f"{SESSIONS}/").removesuffix(".json")
        record = _parse(run_dir.read_or(b"", path))
        if record is not None:
            known[name] = {"session": name, **record}
        elif name not in known:
            logger.warning("%s/%s is damaged: its GPU-hours are missing from the total", run_dir.url, path)
    return [session for _, session in sorted(known.items())]


def describe_sessions(sessions: Sequence[Mapping[str, Any]], report: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what the report says of how the data was made: GPU-hours of all sessions, the rest of the last one.

    Args:
        report: the last report, for what the file of a session no longer tells.
    """
    if not sessions:
        return {"gpu_hours": 0.0, "sessions": [], "replicas": [], "throughput": [], "notes": []}
    last, before = sessions[-1], report or {}
    same = before.get("started_at") == last.get("started_at")
    return {
        "gpu_hours": round(sum(float(session.get("gpu_hours") or 0) for session in sessions), 4),
        "sessions": [{key: session.get(key) for key in _LISTED} for session in sessions],
        **{key: last.get(key, before.get(key) if same else None) for key in _OF_ONE},
    }


def _parse(data: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(data)
        return record if isinstance(record, dict) and float(record["gpu_hours"]) >= 0 else None
    except (ValueError, TypeError, KeyError):
        return None
