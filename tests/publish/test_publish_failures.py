"""Everything that can go wrong on the way to the Hub.

It ends in success after a retry, or in one line and a safe second try; and never in a version that is there in part.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import HubServer
from small_datasets import REPORT, read_dataset, write_dataset

from synthgen.config import PublishConfig
from synthgen.errors import ConfigError, PublishError, SynthgenError
from synthgen.ledger.storage import Storage
from synthgen.publish.dataset import PublishResult, publish_dataset

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=")  # huggingface_hub 2.4 with httpx2

REPO = "org/pairs"
STEPS = {
    "create the repository": ("POST", "/api/repos/create"),
    "read the repository": ("GET", "/api/datasets/org/pairs$"),
    "list the tags": ("GET", "/refs$"),
    "read the branch": ("GET", "/revision/main$"),
    "list the files": ("GET", "/tree/"),
    "ask how to send": ("POST", "/preupload/"),
    "ask where to send": ("POST", "/objects/batch$"),
    "send": ("PUT", "/storage/"),
    "check what was sent": ("POST", "/verify/"),
    "check the card": ("POST", "/api/validate-yaml$"),
    "commit": ("POST", "/commit/"),
    "tag": ("POST", "/tag/"),
}


def publish(storage: Storage) -> PublishResult:
    return publish_dataset(storage, PublishConfig(repo_id=REPO, tag="v1"), REPORT)


def assert_published(hub: HubServer, storage: Storage) -> None:
    """Exactly the data set, in one commit, which the tag is on."""
    repo = hub.repos[REPO]
    assert {path: hub.read(REPO, path) for path in repo.head.files if path != ".gitattributes"} == read_dataset(storage)  # type: ignore[arg-type]
    assert [commit.title for commit in repo.commits.values()][1:] == [
        "Publish 7 preference pairs (run 0123456789abcdef)"
    ]
    assert repo.tags == {"v1": repo.head.oid}


def assert_untouched(hub: HubServer) -> None:
    """No version of the data set is there, not even a part of one."""
    repo = hub.repos.get(REPO)
    assert repo is None or (set(repo.head.files) == {".gitattributes"} and not repo.tags)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", ["500", "429", "503 html", "cut", "answer lost"])
def test_publish_survives_one_failure_at_each_step(
    hub: HubServer, tmp_path: Path, waits: list[float], step: str, kind: str
) -> None:
    method, path = STEPS[step]
    if kind == "cut":
        hub.fail(method, path, when="cut")
    elif kind == "answer lost":
        hub.fail(method, path, when="after")
    elif kind == "429":
        hub.fail(method, path, status=429, headers={"Retry-After": "7"})
    elif kind == "503 html":
        hub.fail(method, path, status=503, body="<html>down</html>", headers={"Content-Type": "text/html"})
    else:
        hub.fail(method, path, status=500)
    storage = write_dataset(tmp_path)
    publish(storage)
    assert_published(hub, storage)
    assert waits[:1] in ([[7.0], [8.0]] if kind == "429" else [[1.0]])  # the client adds a second to Retry-After


@pytest.mark.parametrize("step", STEPS)
def test_publish_gives_up_with_one_line_and_a_safe_second_try(
    hub: HubServer, tmp_path: Path, waits: list[float], step: str
) -> None:
    method, path = STEPS[step]
    hub.fail(method, path, status=500, times=50)
    storage = write_dataset(tmp_path)
    with pytest.raises(PublishError, match=r"^publish\.repo_id=org/pairs: .*start the same command again") as caught:
        publish(storage)
    assert "\n" not in str(caught.value)
    assert sum(waits) < 120
    if step != "tag":
        assert_untouched(hub)
    hub.failures.clear()
    sent = hub.count("PUT", "/storage/")
    publish(storage)
    assert_published(hub, storage)
    if step in ("check the card", "commit", "tag"):
        assert hub.count("PUT", "/storage/") == sent  # what the Hub held already was not sent again


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (401, r"the Hub does not accept the token \(401"),
        (402, r"the Hub refused \(402"),
        (403, r"the token may not do that \(403"),
        (404, r"not found \(404"),
    ],
)
@pytest.mark.parametrize("step", ["create the repository", "ask how to send", "ask where to send", "commit", "tag"])
def test_publish_does_not_retry_a_refusal(
    hub: HubServer, tmp_path: Path, waits: list[float], step: str, status: int, line: str
) -> None:
    hub.fail(*STEPS[step], status=status, body='{"error": "because\\nof this"}')
    storage = write_dataset(tmp_path)
    with pytest.raises(SynthgenError, match=line) as caught:
        publish(storage)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ConfigError) == (status != 402)
    assert waits == []
    publish(storage)
    assert_published(hub, storage)


def test_publish_waits_for_a_commit_that_is_under_way(hub: HubServer, tmp_path: Path, waits: list[float]) -> None:
    hub.fail("POST", "/commit/", status=409, times=3)
    storage = write_dataset(tmp_path)
    publish(storage)
    assert_published(hub, storage)
    assert waits == [1.0, 2.0, 4.0]


def test_publish_commits_on_top_of_a_commit_that_came_between(
    hub: HubServer, tmp_path: Path, waits: list[float]
) -> None:
    # After the branch was read and before the commit, so the server itself answers 412.
    hub.fail("POST", "/validate-yaml", when="never", action=lambda: hub.commit(REPO, {"LICENSE": b"text"}))
    storage = write_dataset(tmp_path)
    publish(storage)
    assert hub.count("POST", "/commit/") == 2
    assert hub.count("PUT", "/storage/") == 4  # each file once
    repo = hub.repos[REPO]
    files = {path: hub.read(REPO, path) for path in repo.head.files if path != ".gitattributes"}
    assert files == {"LICENSE": b"text", **read_dataset(storage)}
    assert repo.tags == {"v1": repo.head.oid}


def test_publish_does_not_bury_a_foreign_dataset_that_came_between(
    hub: HubServer, tmp_path: Path, waits: list[float]
) -> None:
    foreign = {"README.md": b"# Mine\n", "data/train-0.parquet": b"precious"}
    hub.fail("POST", "/validate-yaml", when="never", action=lambda: hub.commit(REPO, foreign))
    with pytest.raises(ConfigError, match="holds a data set that synthgen did not write"):
        publish(write_dataset(tmp_path))
    assert hub.read(REPO, "data/train-0.parquet") == b"precious"


def test_publish_says_when_to_come_back_instead_of_waiting_for_long(
    hub: HubServer, tmp_path: Path, waits: list[float]
) -> None:
    hub.fail("POST", "/commit/", status=429, headers={"Retry-After": "3600"})
    with pytest.raises(PublishError, match=r"rate limit is used up \(429, commit\); in 3600 s start the same command"):
        publish(write_dataset(tmp_path))
    assert waits == []


def test_publish_reads_the_hubs_own_rate_limit_header(hub: HubServer, tmp_path: Path, waits: list[float]) -> None:
    hub.fail("POST", "/commit/", status=429, headers={"RateLimit": '"api";r=0;t=55'})
    publish(write_dataset(tmp_path))
    assert waits == [56.0]


def test_publish_claims_nothing_when_what_arrived_differs(hub: HubServer, tmp_path: Path, waits: list[float]) -> None:
    storage = write_dataset(tmp_path)
    path = "data/train-00001-of-00003.parquet"

    def corrupt() -> None:
        commit = hub.repos[REPO].head
        if path in commit.files:
            commit.files[path] = commit.files["data/train-00000-of-00003.parquet"]

    hub.fail("GET", "/tree/", when="never", times=9, action=corrupt)
    with pytest.raises(PublishError, match=rf"1 files of commit \w+ are not what was sent \({path}\)"):
        publish(storage)
    assert hub.repos[REPO].tags == {}
    hub.failures.clear()
    publish(storage)
    assert hub.read(REPO, path) == read_dataset(storage)[path]
    assert hub.repos[REPO].tags == {"v1": hub.repos[REPO].head.oid}


def test_publish_notices_a_file_that_changes_while_it_is_sent(
    hub: HubServer, tmp_path: Path, waits: list[float]
) -> None:
    storage = write_dataset(tmp_path)
    path = "data/train-00001-of-00003.parquet"
    before = read_dataset(storage)[path]

    def rewrite() -> None:
        storage.replace(f"dataset/{path}", before[::-1])

    hub.fail("POST", "/preupload/", when="never", action=rewrite)
    with pytest.raises(PublishError, match=rf"are not what was sent \({path}\)"):
        publish(storage)
    assert hub.repos[REPO].tags == {}
    publish(storage)
    assert hub.read(REPO, path) == before[::-1]


def test_publish_says_that_the_hub_cannot_be_reached(
    hub: HubServer, tmp_path: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the discard port: nobody listens
    with pytest.raises(PublishError, match=r"no answer from the Hub .* check the network"):
        publish(write_dataset(tmp_path))
    assert len(waits) == 5


def test_publish_says_that_the_client_is_offline(
    hub: HubServer, tmp_path: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE is set"):
        publish(write_dataset(tmp_path))


def test_publish_refuses_a_card_that_the_hub_refuses(hub: HubServer, tmp_path: Path, waits: list[float]) -> None:
    card = "---\ntags:\n- synthgen\nsize_categories: [huge]\n---\n"
    with pytest.raises(PublishError, match=r"refused \(400, commit: .*size_categories"):
        publish(write_dataset(tmp_path, card=card))
    assert_untouched(hub)


_SCRIPT = """
import json, logging, sys, traceback
logging.basicConfig(level=logging.DEBUG)
from synthgen.config import PublishConfig
from synthgen.publish.dataset import describe_result, publish_dataset
from synthgen.ledger.storage import LocalStorage
report = json.loads(sys.argv[2])
try:
    config = PublishConfig(repo_id="org/pairs", tag="v1")
    print(describe_result(publish_dataset(LocalStorage(sys.argv[1]), config, report)))
except Exception:
    traceback.print_exc()
"""


@pytest.mark.parametrize("status", [None, 401, 403, 400])
def test_publish_shows_the_token_nowhere(hub: HubServer, tmp_path: Path, status: int | None) -> None:
    storage = write_dataset(tmp_path / "run")
    if status:
        # A server (or a proxy) that repeats what it was sent.
        hub.fail("POST", "/commit/", status=status, body=json.dumps({"error": f"Bearer {hub.token} is bad"}))
    environment = {
        **os.environ,
        "HF_HUB_DISABLE_XET": "1",
        "HF_DEBUG": "1",
        "HF_HUB_VERBOSITY": "debug",
        "HF_HOME": str(tmp_path / "home"),
    }
    assert environment["HF_TOKEN"] == hub.token
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(storage.root), json.dumps(REPORT)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ("published http" in done.stdout) == (status is None)
    assert (f"({status}, commit" in done.stderr) == (status is not None)
    texts = [done.stdout, done.stderr, *(file.read_text("latin-1") for file in tmp_path.rglob("*") if file.is_file())]
    texts += [str(commit.files) for commit in hub.repos[REPO].commits.values()]
    assert not any(hub.token in text for text in texts)


def test_publish_logs_the_token_nowhere(
    hub: HubServer, tmp_path: Path, waits: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    hub.fail("POST", "/commit/", status=500, body=json.dumps({"error": hub.token}))
    publish(write_dataset(tmp_path))
    assert "trying again in 1 s" in caplog.text
    assert hub.token not in caplog.text
