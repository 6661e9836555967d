"""An object store that stumbles, by a proxy before a real S3-speaking server: every fault at every kind of request."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator

import pytest

from benchmarks.fault_proxy import FAULTS, KINDS, FaultProxy
from synthgen.errors import ConfigError, StorageError
from synthgen.ledger.lease import Lease
from synthgen.ledger.run_dir import RunDir
from synthgen.ledger.storage import Storage, open_storage
from tests.object_stores import create_bucket, point_at

HARMLESS = ("latency", "slow")
PASSING = ("503", "429", "reset_before", "reset_after", "cut")


@pytest.fixture
def proxy(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    with FaultProxy(s3_endpoint) as proxy:
        point_at(proxy.url, monkeypatch)
        # The pauses between tries are as short as they can be: what is tested is that there are tries.
        monkeypatch.setattr("synthgen.ledger.object_store.FIRST_PAUSE_S", 0.001)
        yield proxy


@pytest.fixture
def url(s3_endpoint: str, proxy: FaultProxy) -> str:
    return create_bucket(s3_endpoint) + "/run"


def fail_first(kind: str, fault: str, times: int = 2) -> Callable[[str, str], str | None]:
    """Return a plan in which the first `times` requests of a kind meet a fault."""
    left = times

    def plan(asked: str, path: str) -> str | None:
        nonlocal left
        if asked != kind or left == 0:
            return None
        left -= 1
        return fault

    return plan


OPERATIONS: dict[str, Callable[[Storage], object]] = {
    "get": lambda storage: storage.read("there"),
    "head": lambda storage: storage.exists("there"),
    "list": lambda storage: storage.list("d"),
    "put": lambda storage: storage.replace("put", b"put"),
    "create": lambda storage: storage.create("new", b"new"),
    "swap": lambda storage: storage.swap("there", b"data", b"swapped"),
    "delete": lambda storage: storage.delete_tree("d"),
}
EXPECTED: dict[str, object] = {
    "get": b"data",
    "head": True,
    "list": ["d/1", "d/2"],
    "put": None,
    "create": True,
    "swap": True,
    "delete": None,
}
AFTERWARDS = {"put": ("put", b"put"), "create": ("new", b"new"), "swap": ("there", b"swapped")}


@pytest.mark.parametrize("fault", [*HARMLESS, *PASSING])
@pytest.mark.parametrize("kind", KINDS)
def test_fault_that_passes_is_tried_again(proxy: FaultProxy, url: str, kind: str, fault: str) -> None:
    storage = open_storage(url)
    for path in ("there", "d/1", "d/2"):
        storage.replace(path, b"data")
    proxy.plan = fail_first(kind, fault)
    assert OPERATIONS[kind](storage) == EXPECTED[kind]
    assert proxy.done[kind, fault] >= (1 if fault in (*HARMLESS, "reset_after", "cut") else 2)
    proxy.plan = fail_first("none", fault)
    if kind in AFTERWARDS:
        path, data = AFTERWARDS[kind]
        assert storage.read(path) == data
    if kind == "delete":
        assert storage.list("d") == []


@pytest.mark.parametrize("kind", KINDS)
def test_refusal_is_one_line_at_once_that_names_key_file_and_mend(proxy: FaultProxy, url: str, kind: str) -> None:
    storage = open_storage(url)
    for path in ("there", "d/1", "d/2"):
        storage.replace(path, b"data")
    proxy.plan = lambda asked, path: "403" if asked == kind else None
    with pytest.raises(StorageError) as refused:
        OPERATIONS[kind](storage)
    message = str(refused.value)
    assert message.startswith(f"run.dir={url}: ")
    assert "403 Forbidden" in message
    assert "Debug source" not in message
    assert "\n" not in message
    assert proxy.done[kind, "403"] == 1, "what is refused is not asked again"
    assert isinstance(pickle.loads(pickle.dumps(refused.value)), StorageError), "it travels from replicas"


def test_every_fault_is_tested() -> None:
    assert {*HARMLESS, *PASSING, "403"} == set(FAULTS)
    assert set(OPERATIONS) == set(KINDS)


def test_store_that_stays_away_ends_after_the_time_that_it_was_given(proxy: FaultProxy, url: str) -> None:
    storage = open_storage(url, retry_s=0.2)
    proxy.plan = lambda kind, path: "503"
    with pytest.raises(StorageError, match=r"there could not be read in storage.retry_s=0.2 s: 503 Service"):
        storage.read("there")
    assert proxy.done["get", "503"] > 1


def test_create_whose_answer_was_lost_is_not_read_as_a_loss(proxy: FaultProxy, url: str) -> None:
    storage = open_storage(url)
    proxy.plan = fail_first("create", "reset_after", times=1)
    assert storage.create("unit", b"mine")
    assert not storage.create("unit", b"mine"), "a second commit of equal bytes comes second"


def test_create_that_was_overtaken_while_it_was_tried_again_is_a_loss(proxy: FaultProxy, url: str) -> None:
    storage = open_storage(url)
    storage.replace("unit", b"theirs")
    proxy.plan = fail_first("create", "reset_before", times=1)
    assert not storage.create("unit", b"mine")
    assert storage.read("unit") == b"theirs"


def test_swap_whose_answer_was_lost_is_not_read_as_a_loss(proxy: FaultProxy, url: str) -> None:
    storage = open_storage(url)
    storage.replace("lease", b"old")
    proxy.plan = fail_first("swap", "reset_after", times=1)
    assert storage.swap("lease", b"old", b"new")
    assert not storage.swap("lease", b"old", b"new")


def test_missing_bucket_is_one_line(proxy: FaultProxy) -> None:
    with pytest.raises(ConfigError, match=r"run.dir=s3://nowhere-1/run cannot be written: 404 Not Found"):
        RunDir("s3://nowhere-1/run").check_writable()


def test_lease_is_kept_through_an_outage_that_is_longer_than_it(proxy: FaultProxy, url: str) -> None:
    lease = Lease(open_storage(url), 0.3, retry_s=60.0)
    proxy.plan = lambda kind, path: "503" if proxy.done["get", "503"] < 6 else None
    lease._thread.join(0.9)  # a few renewals fail
    lease.check()
    lease.release()


def test_check_writable_leaves_the_state_of_another_driver_alone(proxy: FaultProxy, url: str) -> None:
    run_dir = RunDir(url)
    run_dir.write_json("status.json", {"state": "exporting"})
    run_dir.check_writable()
    assert run_dir.read_json("status.json") == {"state": "exporting"}
    assert run_dir.storage.list("") == ["status.json"]
    paths: list[str] = []
    proxy.plan = lambda kind, path: paths.append(path) if kind in ("put", "create") else None  # type: ignore[func-returns-value]
    run_dir.check_writable()
    assert len(paths) == 1
    assert not paths[0].endswith("status.json")


def test_run_dir_takes_its_patience_to_the_replicas(proxy: FaultProxy, url: str) -> None:
    run_dir = pickle.loads(pickle.dumps(RunDir(url, retry_s=0.1)))
    proxy.plan = lambda kind, path: "503"
    with pytest.raises(StorageError, match=r"storage.retry_s=0.1 s"):
        run_dir.storage.read("there")


def test_first_of_two_large_files_wins_too(url: str) -> None:
    """In parts no condition would hold for the whole of it."""
    storage = open_storage(url)
    first, second = (bytes([byte]) * (12 << 20) for byte in (1, 2))
    assert storage.create("large", first)
    assert not storage.create("large", second)
    assert storage.read("large") == first


def test_files_are_deleted_one_by_one_where_some_are_gone_already(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import obstore

    storage = open_storage(url)
    names = [f"d/{number}" for number in range(3)]
    for name in names:
        storage.replace(name, b"x")
    real, asked = obstore.delete, []

    def delete(store: object, paths: list[str]) -> None:
        asked.append(list(paths))
        if len(paths) > 1 or paths == ["d/1"]:
            raise FileNotFoundError(paths[0])
        real(store, paths)  # type: ignore[arg-type]

    monkeypatch.setattr(obstore, "delete", delete)
    storage.delete_tree("d")
    assert asked[-3:] == [[name] for name in names]
    assert storage.list("d") == ["d/1"]
