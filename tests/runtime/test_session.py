"""A session of a run directory: signals at the worst moments, and what a driver may do that has lost its lease."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from synthgen.config import Config
from synthgen.errors import RunFailedError, RunStoppedError
from synthgen.ledger.lease import LEASE, Lease
from synthgen.ledger.run_dir import RunDir
from synthgen.ledger.storage import LocalStorage
from synthgen.runtime.session import Session, _Signals


def start_ray(signals: _Signals, reached: list[str], *, own_handler: bool) -> None:
    """Receive SIGTERM where `ray.init` runs, with or without the handler that it installs."""
    with signals.held():
        if own_handler:
            signal.signal(signal.SIGTERM, lambda number, _: exit(number))
        os.kill(os.getpid(), signal.SIGTERM)
        reached.append("the end of ray.init")


def test_signal_while_ray_starts_ends_the_run_after_it() -> None:
    reached: list[str] = []
    with _Signals() as signals, pytest.raises(RunStoppedError, match="SIGTERM received") as stopped:
        start_ray(signals, reached, own_handler=False)
    assert reached, "Ray would have swallowed the exception"
    assert stopped.value.exit_code == 128 + signal.SIGTERM


def test_handler_that_ray_installs_does_not_change_the_exit_status() -> None:
    with _Signals() as signals:
        with pytest.raises(RunStoppedError) as stopped:
            start_ray(signals, [], own_handler=True)
        assert stopped.value.exit_code == 128 + signal.SIGTERM
        with pytest.raises(RunStoppedError):  # ours is back
            os.kill(os.getpid(), signal.SIGINT)


def take_over(run_dir: Path) -> None:
    """Let another driver hold the lease."""
    (run_dir / LEASE).write_text(json.dumps({"host": "other", "pid": 1, "renewed_at": 2e9, "token": "other"}))


def test_driver_that_slept_through_a_takeover_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config()
    config.run.dir = str(tmp_path / "run")
    config.run.lease_s = 1000.0

    def export() -> None:
        with Session(config, quiet=True) as session:
            session.run_dir.storage.replace("dataset/data/train.parquet", b"mine")
            take_over(tmp_path / "run")  # its renewing thread sleeps, as the whole process did
            now = time.clock_gettime(time.CLOCK_BOOTTIME)
            monkeypatch.setattr("synthgen.ledger.lease._clock", lambda: now + 5000.0)
            session.run_dir.storage.replace("dataset/data/train.parquet", b"late")

    with pytest.raises(RunFailedError, match="taken over by another driver"):
        export()
    assert (tmp_path / "run/dataset/data/train.parquet").read_bytes() == b"mine"
    assert RunDir(str(tmp_path / "run")).read_json("status.json") == {}
    assert json.loads((tmp_path / "run" / LEASE).read_text())["token"] == "other"


class LosesAnswers(LocalStorage):
    """Writes, and then the connection breaks."""

    broken = False

    def swap(self, path: str, old: bytes, new: bytes) -> bool:
        done = super().swap(path, old, new)
        if self.broken:
            self.broken = False
            raise TimeoutError("no answer")
        return done


def test_lease_whose_renewal_was_written_but_not_answered_is_kept(tmp_path: Path) -> None:
    storage = LosesAnswers(tmp_path)
    lease = Lease(storage, 1000.0)
    storage.broken = True
    with pytest.raises(TimeoutError):
        lease._swap()
    lease._swap()
    lease.check()
    assert not lease.lost
    lease.release()
    assert json.loads(storage.read(LEASE))["released"]
