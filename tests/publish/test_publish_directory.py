"""Publishing to a directory and to an object store: only what changed, read back, the card last."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_datasets import REPORT, read_dataset, write_dataset

from synthgen.config import PublishConfig
from synthgen.errors import ConfigError, PublishError
from synthgen.ledger.storage import LocalStorage, Storage, open_storage
from synthgen.publish.dataset import PublishResult, describe_result, publish_dataset
from synthgen.publish.directory import MARKER
from tests.object_stores import make_bucket


@pytest.fixture(params=["local", "s3"])
def target(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place to publish to, that does not exist yet."""
    if request.param == "local":
        return str(tmp_path / "out" / "data set")
    return make_bucket(request.getfixturevalue("s3_endpoint"), monkeypatch) + "/some/data"


def publish(storage: Storage, to_dir: str) -> PublishResult:
    return publish_dataset(storage, PublishConfig(to_dir=to_dir), REPORT)


def files_at(url: str) -> dict[str, bytes]:
    storage = open_storage(url)
    return {path: storage.read(path) for path in storage.list("")}


def test_copy_then_grow_then_shrink(target: str, tmp_path: Path) -> None:
    storage = write_dataset(tmp_path / "run", shards=2)
    result = publish(storage, target)
    assert files_at(target) == read_dataset(storage)
    assert len(result.sent) == 4
    assert "4 new or changed" in describe_result(result)

    assert publish(storage, target).sent == ()

    open_storage(target).replace("NOTES.txt", b"mine")
    storage = write_dataset(tmp_path / "run", shards=1)
    result = publish(storage, target)
    assert files_at(target) == {"NOTES.txt": b"mine", **read_dataset(storage)}
    assert result.removed == ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet")


def test_copy_from_an_object_store(s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_bucket(s3_endpoint, monkeypatch) + "/run"
    local = write_dataset(tmp_path / "run")
    for path, data in read_dataset(local).items():
        open_storage(run).replace(f"dataset/{path}", data)
    publish(open_storage(run), str(tmp_path / "out"))
    assert files_at(str(tmp_path / "out")) == read_dataset(local)


def test_a_cut_copy_has_no_card_and_the_same_command_finishes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, out = write_dataset(tmp_path / "run", shards=1), tmp_path / "out"
    publish(storage, str(out))
    storage = write_dataset(tmp_path / "run", shards=3)
    written: list[str] = []
    original = LocalStorage.replace

    def fail_at_second_shard(self: LocalStorage, path: str, data: bytes) -> None:
        written.append(path)
        if path.endswith("00001-of-00003.parquet"):
            raise OSError(28, "No space left on device")
        original(self, path, data)

    monkeypatch.setattr(LocalStorage, "replace", fail_at_second_shard)
    with pytest.raises(
        PublishError, match=r"publish\.to_dir=.*No space left on device; mend that, then start the same"
    ):
        publish(storage, str(out))
    assert "README.md" not in files_at(str(out))
    assert MARKER in files_at(str(out))
    monkeypatch.undo()
    publish(storage, str(out))
    assert files_at(str(out)) == read_dataset(storage)


def test_a_file_that_arrives_changed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = write_dataset(tmp_path / "run")
    original = LocalStorage.replace

    def flip(self: LocalStorage, path: str, data: bytes) -> None:
        original(self, path, data[::-1] if path.endswith("00001-of-00003.parquet") else data)

    monkeypatch.setattr(LocalStorage, "replace", flip)
    with pytest.raises(PublishError, match=r"train-00001-of-00003\.parquet is not what was written there"):
        publish(storage, str(tmp_path / "out"))
    assert not (tmp_path / "out/README.md").exists()


@pytest.mark.parametrize("card", [None, b"# Mine\n", b"---\ntags: other\n---\n", b"---\n: [\n---\n"])
def test_a_directory_that_holds_something_else_is_left_alone(tmp_path: Path, card: bytes | None) -> None:
    out = LocalStorage(tmp_path / "out")
    out.replace("data/x.parquet", b"precious")
    if card is not None:
        out.replace("README.md", card)
    with pytest.raises(ConfigError, match="is not empty and holds no data set of synthgen; choose an empty directory"):
        publish(write_dataset(tmp_path / "run"), str(tmp_path / "out"))
    assert out.read("data/x.parquet") == b"precious"


def test_a_run_directory_is_no_target(tmp_path: Path) -> None:
    storage = write_dataset(tmp_path)
    storage.replace("stages/judge-0/unit-000000.parquet", b"work of days")
    with pytest.raises(ConfigError, match=r"publish\.to_dir="):
        publish(storage, str(tmp_path))
    assert storage.exists("stages/judge-0/unit-000000.parquet")


def test_an_unknown_kind_of_url_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"publish\.to_dir='nope://x'"):
        publish(write_dataset(tmp_path), "nope://x")


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    storage = write_dataset(tmp_path / "run")
    config = PublishConfig(to_dir=str(tmp_path / "out"), dry_run=True)
    assert "nothing was sent" in describe_result(publish_dataset(storage, config, REPORT))
    assert not (tmp_path / "out").exists()
