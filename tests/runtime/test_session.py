"""A session of a run directory: signals at the worst moments, and what a driver may do that has lost its lease."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from synthgen.config import Config
from synthgen.errors import ConfigError, RunFailedError, RunStoppedError
from synthgen.ledger.lease import LEASE, Lease
from synthgen.ledger.run_dir import RunDir
from synthgen.ledger.storage import LocalStorage
from synthgen.runtime.session import Session
from synthgen.runtime.signals import Signals


def no_words(number: int, line: str) -> None:
    raise AssertionError(line)


def test_signal_raises_only_where_it_is_asked_for() -> None:
    before = signal.getsignal(signal.SIGTERM)  # Ray's, where a test before this one started it
    with Signals(60.0, no_words) as signals:
        signals.check()
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.asked is not None
        with pytest.raises(RunStoppedError, match="SIGTERM received") as stopped:
            signals.check()
        assert stopped.value.exit_code == 128 + signal.SIGTERM
        signals.answered()
        signals.check()
    assert signal.getsignal(signal.SIGTERM) is before


def test_signal_goes_to_the_executor_while_there_is_one() -> None:
    told: list[RunStoppedError] = []
    with Signals(60.0, no_words) as signals:
        signals.forward_to(told.append)
        os.kill(os.getpid(), signal.SIGHUP)
        signals.check()
        signals.forward_to(None)
        with pytest.raises(RunStoppedError):
            signals.check()
    assert [error.exit_code for error in told] == [128 + signal.SIGHUP]


def test_signal_that_came_before_the_executor_is_told_to_it() -> None:
    told: list[RunStoppedError] = []
    with Signals(60.0, no_words) as signals:
        os.kill(os.getpid(), signal.SIGINT)
        signals.forward_to(told.append)
    assert [error.exit_code for error in told] == [128 + signal.SIGINT]


def test_signal_that_was_ignored_stays_so() -> None:
    """`nohup synthgen run …` outlives its terminal."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals(60.0, no_words) as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            signals.check()
    finally:
        signal.signal(signal.SIGHUP, before)


def make_config(directory: Path) -> Config:
    config = Config()
    config.run.dir = str(directory / "run")
    return config


def test_signal_while_a_unit_is_decoded_leaves_the_unit_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    RunDir(str(tmp_path / "run")).commit_unit("stages/x-1", 0, pa.table({"prompt_id": ["a"]}))
    read_table = pq.read_table

    def read_and_be_stopped(*args: object, **kwargs: object) -> pa.Table:
        os.kill(os.getpid(), signal.SIGTERM)
        return read_table(*args, **kwargs)

    monkeypatch.setattr("synthgen.ledger.run_dir.pq.read_table", read_and_be_stopped)

    def read_twice(session: Session) -> None:
        session.run_dir.read_unit("stages/x-1", 0)
        session.run_dir.read_unit("stages/x-1", 0)

    with pytest.raises(RunStoppedError), Session(make_config(tmp_path), quiet=True) as session:
        read_twice(session)
    assert not (tmp_path / "run/failures").exists()
    assert (tmp_path / "run/stages/x-1/unit-000000.parquet").exists()
    assert RunDir(str(tmp_path / "run")).read_json("status.json")["state"] == "stopped"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ZeroDivisionError("a bug"), KeyError("x")])
def test_state_says_how_the_session_ended_whatever_ended_it(tmp_path: Path, error: Exception) -> None:

    def export(session: Session) -> None:
        session.view.write_status("exporting")
        raise error

    with pytest.raises(type(error)), Session(make_config(tmp_path), quiet=True) as session:
        export(session)
    status = RunDir(str(tmp_path / "run")).read_json("status.json")
    assert status["state"] == "failed"
    assert type(error).__name__ in status["message"]
    assert json.loads((tmp_path / "run" / LEASE).read_text())["released"]


def test_first_cause_is_shown_and_not_the_failure_of_the_clean_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bool:
        raise OSError(5, "Input/output error")

    def export() -> None:
        monkeypatch.setattr(LocalStorage, "swap", fail)
        raise RunFailedError("the cause")

    with pytest.raises(RunFailedError, match="the cause"), Session(make_config(tmp_path), quiet=True):
        export()


def test_second_driver_leaves_the_status_of_the_first_alone(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    with Session(config, quiet=True) as first:
        first.view.write_status("exporting")
        before = (tmp_path / "run/status.json").read_bytes()
        with pytest.raises(ConfigError, match="in use by pid"), Session(config, quiet=True):
            pass
        assert (tmp_path / "run/status.json").read_bytes() == before


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
    assert RunDir(str(tmp_path / "run")).read_json("status.json") is None
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
