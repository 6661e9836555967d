"""Publishing to a Hub on loopback with the real client: what arrives, what is sent again, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from exported_runs import export_units
from hub_server import READ_ONLY_TOKEN, HubServer
from small_datasets import CARD, REPORT, read_dataset, write_dataset

from synthgen.config import Config, ExportConfig, PublishConfig
from synthgen.errors import ConfigError
from synthgen.ledger.storage import LocalStorage, Storage
from synthgen.publish.dataset import PublishResult, describe_result, publish_dataset

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=")  # huggingface_hub 2.4 with httpx2

REPO = "org/pairs"


def publish(storage: Storage, **options: Any) -> PublishResult:
    return publish_dataset(storage, PublishConfig(**{"repo_id": REPO, **options}), REPORT)


def remote_files(hub: HubServer, revision: str = "main") -> dict[str, bytes]:
    commit = hub.repos[REPO].resolve(revision)
    assert commit is not None
    return {path: hub.read(REPO, path, revision) for path in commit.files if path != ".gitattributes"}


def test_publish_sends_every_file_in_one_private_commit(hub: HubServer, tmp_path: Path) -> None:
    storage = write_dataset(tmp_path)
    result = publish(storage, tag="v1")
    repo = hub.repos[REPO]
    assert remote_files(hub) == read_dataset(storage)
    assert repo.private
    assert [commit.title for commit in repo.commits.values()] == [
        "initial commit",
        "Publish 7 preference pairs (run 0123456789abcdef)",
    ]
    assert repo.tags == {"v1": result.commit}
    assert result.commit == repo.head.oid
    assert result.target == f"{hub.url}/datasets/{REPO}"
    assert f"commit {repo.head.oid[:8]}, tag v1: 5 files" in describe_result(result)


def test_publish_of_many_parts_arrives_whole(hub: HubServer, tmp_path: Path) -> None:
    hub.part_bytes = 7_000
    storage = write_dataset(tmp_path)
    publish(storage)
    assert hub.count("PUT", r"/storage/\w+/3$") == 3
    assert remote_files(hub) == read_dataset(storage)


def test_publish_again_sends_and_commits_nothing(hub: HubServer, tmp_path: Path) -> None:
    storage = write_dataset(tmp_path)
    first = publish(storage, tag="v1")
    received = hub.received_bytes
    second = publish(storage, tag="v1")
    assert (second.commit, second.sent, second.removed) == (first.commit, (), ())
    assert hub.received_bytes - received < 500  # the body of creating the repository
    assert len(hub.repos[REPO].commits) == 2


def test_publish_of_grown_dataset_sends_only_new_shards(hub: HubServer, tmp_path: Path) -> None:
    publish(write_dataset(tmp_path, shards=8))
    first = hub.received_bytes
    storage = write_dataset(tmp_path, shards=9)
    result = publish(storage)
    assert remote_files(hub) == read_dataset(storage)
    assert 20_000 < hub.received_bytes - first < first / 5
    assert len(result.removed) == 8  # the same shards under their old names


def test_publish_of_grown_export_sends_less_than_a_fifth(hub: HubServer, tmp_path: Path) -> None:
    config = Config(export=ExportConfig(shard_mib=1))

    def make(unit: int, **options: Any) -> Any:
        from exported_runs import make_unit

        return make_unit(unit, prompts=16, words=400, **options)

    export_units(tmp_path, 24, config, make=make)
    card = (tmp_path / "dataset/README.md").read_text()
    tagged = card.replace("---\n", "---\ntags: [synthgen]\n", 1)
    storage = LocalStorage(tmp_path)
    publish_dataset(storage, PublishConfig(repo_id=REPO), REPORT, replaced={"README.md": tagged.encode()})
    first = hub.received_bytes
    export_units(tmp_path, 26, config, make=make)
    publish_dataset(storage, PublishConfig(repo_id=REPO), REPORT, replaced={"README.md": tagged.encode()})
    assert {p: d for p, d in remote_files(hub).items() if p != "README.md"} == {
        p: d for p, d in read_dataset(storage).items() if p != "README.md"
    }
    assert 0 < hub.received_bytes - first < first / 5


def test_publish_removes_gone_files_and_keeps_what_is_not_its_own(hub: HubServer, tmp_path: Path) -> None:
    publish(write_dataset(tmp_path, shards=3))
    hub.commit(REPO, {"LICENSE": b"text", "notes/why.txt": b"text"})
    result = publish(write_dataset(tmp_path, shards=1))
    assert set(remote_files(hub)) == {
        "README.md",
        "LICENSE",
        "notes/why.txt",
        "figures/ratings.png",
        "data/train-00000-of-00001.parquet",
    }
    assert len(result.removed) == 3


def test_publish_to_a_branch_leaves_main_alone(hub: HubServer, tmp_path: Path) -> None:
    publish(write_dataset(tmp_path, shards=1))
    main = hub.repos[REPO].head
    storage = write_dataset(tmp_path, shards=2)
    for _ in range(2):
        publish(storage, revision="next")
    assert hub.repos[REPO].head == main
    assert remote_files(hub, "next") == read_dataset(storage)


def test_publish_with_a_card_replaces_the_stored_one(hub: HubServer, tmp_path: Path) -> None:
    storage = write_dataset(tmp_path)
    card = CARD + "\nMore.\n"
    publish_dataset(storage, PublishConfig(repo_id=REPO), REPORT, replaced={"README.md": card.encode()})
    assert hub.read(REPO, "README.md") == card.encode()


def test_publish_refuses_a_tag_of_another_version_before_sending(hub: HubServer, tmp_path: Path) -> None:
    publish(write_dataset(tmp_path, shards=1), tag="v1")
    commits = len(hub.repos[REPO].commits)
    with pytest.raises(ConfigError, match=r"publish\.tag=v1 is already on another version"):
        publish(write_dataset(tmp_path, shards=2), tag="v1")
    assert len(hub.repos[REPO].commits) == commits
    publish(write_dataset(tmp_path, shards=2), tag="v2")


def test_publish_refuses_to_show_private_data(hub: HubServer, tmp_path: Path) -> None:
    storage = write_dataset(tmp_path)
    publish(storage, private=False)
    assert not hub.repos[REPO].private
    with pytest.raises(ConfigError, match=r"publish\.private=true but org/pairs is public"):
        publish(storage)


def test_publish_refuses_to_overwrite_a_foreign_dataset(hub: HubServer, tmp_path: Path) -> None:
    storage = write_dataset(tmp_path)
    publish(storage)
    hub.commit(REPO, {"README.md": b"---\nlicense: mit\n---\n# Mine\n", "data/train-0.parquet": b"precious"})
    with pytest.raises(ConfigError, match="holds a data set that synthgen did not write"):
        publish(write_dataset(tmp_path, shards=2))
    assert hub.read(REPO, "data/train-0.parquet") == b"precious"


def test_publish_refuses_a_wrong_token_and_missing_rights(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = write_dataset(tmp_path)
    with pytest.raises(ConfigError, match=r"repo_id=forbidden/x: the token may not do that \(403"):
        publish(storage, repo_id="forbidden/x")
    monkeypatch.setenv("HF_TOKEN", READ_ONLY_TOKEN)
    with pytest.raises(ConfigError, match="take a token with write access"):
        publish(storage)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(ConfigError, match=r"does not accept the token \(401, create the repository\); set HF_TOKEN"):
        publish(storage)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ConfigError, match="there is no token for the Hub; set HF_TOKEN or run `hf auth login`"):
        publish(storage)
    assert hub.repos == {}


def test_publish_with_a_read_only_token_to_an_existing_repo_is_refused(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(write_dataset(tmp_path, shards=1))
    before = hub.repos[REPO].head
    monkeypatch.setenv("HF_TOKEN", READ_ONLY_TOKEN)
    with pytest.raises(ConfigError, match=r"\(403, send the files"):
        publish(write_dataset(tmp_path, shards=2))
    assert hub.repos[REPO].head == before


@pytest.mark.parametrize("repo_id", ["name", "a/b/c", "org/na me", "org/..", "org/x.git", "-/x"])
def test_publish_refuses_a_wrong_name_without_a_request(hub: HubServer, tmp_path: Path, repo_id: str) -> None:
    with pytest.raises(ConfigError, match=r"publish\.repo_id="):
        publish(write_dataset(tmp_path), repo_id=repo_id)
    assert hub.requests == []


def test_publish_needs_one_target(tmp_path: Path) -> None:
    storage = write_dataset(tmp_path)
    with pytest.raises(ConfigError, match="neither is given"):
        publish_dataset(storage, PublishConfig(), REPORT)
    with pytest.raises(ConfigError, match="both are given"):
        publish_dataset(storage, PublishConfig(repo_id=REPO, to_dir="x"), REPORT)


@pytest.mark.parametrize("report", [{}, {"complete": False}])
def test_publish_refuses_an_incomplete_run(hub: HubServer, tmp_path: Path, report: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="is not a complete run; finish it with `synthgen run` first"):
        publish_dataset(write_dataset(tmp_path), PublishConfig(repo_id=REPO), report)
    with pytest.raises(ConfigError, match="holds no whole data set"):
        publish_dataset(LocalStorage(tmp_path / "empty"), PublishConfig(repo_id=REPO), REPORT)
    assert hub.requests == []


def test_dry_run_lists_files_and_card_without_network_or_token(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    storage = write_dataset(tmp_path)
    text = describe_result(publish(storage, dry_run=True))
    assert hub.requests == []
    assert "nothing was sent" in text
    assert all(path in text for path in read_dataset(storage))
    assert CARD in text
