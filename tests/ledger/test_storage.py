"""One commit rule on a local disk and on a real S3-speaking server on loopback."""

from __future__ import annotations

import errno
import inspect
import json
import os
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from synthgen.errors import ConfigError, RunFailedError
from synthgen.ledger.lease import Lease, renew_record
from synthgen.ledger.storage import GuardedStorage, LocalStorage, Storage, open_storage
from tests.object_stores import make_bucket


@pytest.fixture(params=["local", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    if request.param == "local":
        return open_storage(str(tmp_path / "run"))
    return open_storage(make_bucket(request.getfixturevalue("s3_endpoint"), monkeypatch) + "/some/run")


def test_create_first_commit_wins(storage: Storage) -> None:
    assert storage.create("stages/x/unit-000000.parquet", b"first")
    assert not storage.create("stages/x/unit-000000.parquet", b"second")
    assert storage.read("stages/x/unit-000000.parquet") == b"first"


def test_create_from_many_threads_has_one_winner(storage: Storage) -> None:
    wins: list[bytes] = []
    start = threading.Barrier(8)

    def write(data: bytes) -> None:
        start.wait()
        if storage.create("unit", data):
            wins.append(data)

    threads = [threading.Thread(target=write, args=(f"{i}".encode(),)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wins) == 1
    assert storage.read("unit") == wins[0]


def test_list_read_replace_delete(storage: Storage) -> None:
    storage.create("a/b/1", b"1")
    storage.replace("a/2", b"2")
    storage.replace("a/2", b"two")
    assert storage.list("a") == ["a/2", "a/b/1"]
    assert storage.list("missing") == []
    assert storage.read("a/2") == b"two"
    assert storage.exists("a/2")
    storage.delete("a/2")
    storage.delete("a/2")
    assert not storage.exists("a/2")
    with pytest.raises(FileNotFoundError):
        storage.read("a/2")
    storage.delete_tree("a")
    assert storage.list("") == []


def test_swap_needs_the_old_bytes(storage: Storage) -> None:
    assert not storage.swap("lease", b"old", b"new")
    storage.create("lease", b"old")
    assert storage.swap("lease", b"old", b"new")
    assert not storage.swap("lease", b"old", b"newer")
    assert storage.read("lease") == b"new"


def test_create_where_hard_links_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    storage = open_storage(str(tmp_path))
    assert storage.create("a/unit", b"first")
    assert not storage.create("a/unit", b"second")
    assert storage.read("a/unit") == b"first"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["unit"]


def test_create_passes_on_what_is_not_about_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(OSError, match="input/output"):
        open_storage(str(tmp_path)).create("unit", b"data")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("way", ["create", "replace"])
def test_bytes_are_on_the_disk_before_the_name_is_and_the_name_before_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """What a power cut may take: fsync of the file comes before its name, fsync of the directory behind it."""
    happened: list[str] = []
    for name in ("fsync", "link", "replace"):
        real = getattr(os, name)

        def note(*arguments: Any, name: str = name, real: Any = real) -> Any:
            what = "directory" if name == "fsync" and stat.S_ISDIR(os.fstat(arguments[0]).st_mode) else "file"
            happened.append(f"{name} {what}" if name == "fsync" else name)
            return real(*arguments)

        monkeypatch.setattr(os, name, note)
    getattr(open_storage(str(tmp_path)), way)("unit", b"data")
    assert happened == ["fsync file", "link" if way == "create" else "replace", "fsync directory"]


def test_create_leaves_nothing_but_the_file(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.create("d/unit", b"x")
    storage.create("d/unit", b"y")
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["unit"]


def test_lease_refuses_a_second_driver_and_names_the_first(storage: Storage) -> None:
    import os
    import socket

    lease = Lease(storage, 30)
    with pytest.raises(ConfigError, match=f"pid {os.getpid()} on {socket.gethostname()}"):
        Lease(storage, 30)
    lease.release()
    Lease(storage, 30).release()


def test_lease_of_a_dead_holder_is_taken_over(storage: Storage) -> None:
    lease = Lease(storage, 30)
    dead = lease.record | {"pid": 2**22 + 1}  # the same boot and pid namespace: there is no such process
    lease.release()
    storage.replace("lease.json", json.dumps(dead).encode())
    Lease(storage, 30).release()


def test_lease_of_a_reused_pid_is_taken_over(storage: Storage) -> None:
    lease = Lease(storage, 30)
    other = lease.record
    lease.release()
    storage.replace("lease.json", json.dumps(other | {"process_started_ticks": 1}).encode())
    Lease(storage, 30).release()


@pytest.mark.parametrize("place", ["boot_id", "pid_namespace"])
def test_fresh_lease_from_another_container_of_the_same_host_name_is_respected(storage: Storage, place: str) -> None:
    """Its pid means nothing here: pids are counted anew in every container, and on every machine."""
    lease = Lease(storage, 30)
    elsewhere = lease.record | {"pid": 2**22 + 1, place: "another"}
    lease.release()
    storage.replace("lease.json", json.dumps(elsewhere).encode())
    with pytest.raises(ConfigError, match="in use by pid"):
        Lease(storage, 30)


def test_lease_is_respected_for_as_long_as_its_holder_says(storage: Storage) -> None:
    """A driver with a long lease renews it seldom: a second start with a short one finds it silent, and alive."""
    lease = Lease(storage, 60)
    silent = lease.record | {"renewed_at_boot_s": lease.record["renewed_at_boot_s"] - 15}
    storage.replace("lease.json", json.dumps(silent).encode())
    with pytest.raises(ConfigError, match="in use by pid"):
        Lease(storage, 3)
    lease.release()


def test_lease_on_this_machine_outlives_a_step_of_the_wall_clock(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = Lease(storage, 30)
    now = time.time()
    for step in (7200.0, -7200.0):
        monkeypatch.setattr("synthgen.ledger.lease.time.time", lambda step=step: now + step)
        with pytest.raises(ConfigError, match="in use by pid"):
            Lease(storage, 30)
    monkeypatch.undo()
    lease.release()


def test_lease_of_a_holder_on_another_machine_whose_clock_is_behind_is_respected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks silent by our clock, and renews while it is watched."""
    storage = LocalStorage(tmp_path)
    record = {"host": "elsewhere", "pid": 1, "token": "theirs", "renewed_at": time.time() - 7200}
    storage.create("lease.json", json.dumps(record).encode())
    reads = 0
    read = storage.read

    def read_while_it_renews(path: str) -> bytes:
        nonlocal reads
        reads += 1
        if reads == 2:
            storage.replace("lease.json", json.dumps(record | {"renewed_at": time.time() - 7100}).encode())
        return read(path)

    monkeypatch.setattr(storage, "read", read_while_it_renews)
    with pytest.raises(ConfigError, match="pid 1 on elsewhere"):
        Lease(storage, 3)


def test_lease_of_a_silent_holder_on_another_host_is_taken_over(storage: Storage) -> None:
    alive = {"host": "elsewhere", "pid": 1, "renewed_at": time.time()}
    storage.create("lease.json", json.dumps(alive).encode())
    with pytest.raises(ConfigError, match="pid 1 on elsewhere"):
        Lease(storage, 3)
    storage.replace("lease.json", json.dumps(alive | {"renewed_at": time.time() - 31}).encode())
    Lease(storage, 3).release()


@pytest.mark.parametrize("data", [b"", b"null", b'"text"', b"[1]", b'{"host": "x", "pid": null, "renewed_at": "no"}'])
def test_lease_file_of_any_content_is_taken_over(tmp_path: Path, data: bytes) -> None:
    storage = LocalStorage(tmp_path)
    storage.replace("lease.json", data)
    Lease(storage, 1).release()


def test_lease_that_another_process_renewed_is_kept_and_given_up(storage: Storage) -> None:
    lease = Lease(storage, 300)
    assert renew_record(storage, lease.record)
    lease._swap()
    lease.check()
    assert renew_record(storage, lease.record)
    lease.release()
    assert json.loads(storage.read("lease.json"))["released"]
    assert not renew_record(storage, lease.record), "given up is given up"


def test_lease_notices_that_it_was_taken_over(storage: Storage) -> None:
    from synthgen.errors import RunFailedError

    lease = Lease(storage, 0.3)
    storage.replace("lease.json", b'{"host": "elsewhere"}')
    lease._thread.join(timeout=10)
    with pytest.raises(RunFailedError, match="taken over"):
        lease.check()
    lease.release()
    assert storage.read("lease.json") == b'{"host": "elsewhere"}'


def test_lease_that_cannot_be_renewed_for_a_moment_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(str(tmp_path))
    lease = Lease(storage, 30, retry_s=30.0)
    lease._renewed_at -= 100.0  # this process slept
    swap, failures = lease._swap, [OSError("out of reach"), OSError("out of reach")]

    def stumble() -> None:
        if failures:
            raise failures.pop()
        swap()

    monkeypatch.setattr(lease, "_swap", stumble)
    monkeypatch.setattr(lease, "_lease_s", 0.3)
    lease.check()
    assert failures == []
    lease.release()
    with pytest.raises(RunFailedError, match="stops and changes nothing more"):
        lease.check()  # what was given up is not held


def test_guard_is_asked_before_every_change_and_every_read(tmp_path: Path) -> None:
    """A driver that has lost its lease must change nothing more, whatever it was about to do."""
    asked: list[str] = []

    class Recorder:
        root, url = tmp_path, str(tmp_path)

        def __getattr__(self, name: str) -> Any:
            return lambda *args, **kwargs: asked.append(name)

    guarded = GuardedStorage(Recorder(), lambda: asked.append("change?"), lambda: asked.append("read?"))  # type: ignore[arg-type]
    calls = [name for name, one in vars(GuardedStorage).items() if callable(one) and name[0] != "_"]
    calls.remove("hurried")
    changes = {"create", "replace", "swap", "delete", "delete_tree", "replace_directory"}
    assert changes < set(calls)
    for name in calls:
        asked.clear()
        parameters = inspect.signature(getattr(GuardedStorage, name)).parameters.values()
        wanted = [one for one in parameters if one.name != "self" and one.default is one.empty]
        getattr(guarded, name)(*["x" for one in wanted if one.kind is one.POSITIONAL_OR_KEYWORD],
                               **{one.name: () for one in wanted if one.kind is one.KEYWORD_ONLY})  # fmt: skip
        assert asked == ["change?" if name in changes else "read?", name]
