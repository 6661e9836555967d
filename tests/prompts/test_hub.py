"""Prompts from Hub data sets, by the real clients from a Hub on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
from huggingface_hub import constants
from huggingface_hub.utils import close_session
from publish.hub_server import HubServer

from synthgen.config import PromptsConfig
from synthgen.errors import ConfigError
from synthgen.prompts import PromptSource
from synthgen.prompts.hub import HubSource

REPO = "org/questions"
CARD = """\
---
configs:
- config_name: main
  data_files:
  - split: train
    path: train.jsonl
  - split: test
    path: test.jsonl
- config_name: other
  data_files: other.jsonl
---
"""
CARD_OF_PARQUET = """\
---
configs:
- config_name: default
  data_files: train.parquet
---
"""


def to_jsonl(*questions: str) -> bytes:
    return "".join(json.dumps({"question": text, "answer": "42"}) + "\n" for text in questions).encode()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """A Hub that holds one data set of two commits, and clients with empty caches that talk to it."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")

    with HubServer() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", server.token)
        from huggingface_hub import HfApi

        HfApi(endpoint=server.url, token=server.token).create_repo(REPO, repo_type="dataset")
        files = {"README.md": CARD.encode(), "train.jsonl": to_jsonl("a", "b"), "test.jsonl": to_jsonl("c")}
        server.commit(REPO, files | {"other.jsonl": to_jsonl("d")})
        server.commit(REPO, {"train.jsonl": to_jsonl("a", "b", "e")})
        yield server
        close_session()


def read(**options: Any) -> list[str]:
    source = PromptSource(PromptsConfig(**{"path": REPO, "config": "main", **options}))
    rows = [row for table in source.tables(10) for row in table.to_pylist()]
    assert {row["source"] for row in rows} == {REPO}
    return [row["messages"][0]["content"] for row in rows]


def test_hub_gives_the_config_split_and_revision_asked_for(hub: HubServer) -> None:
    assert read() == ["a", "b", "e"]
    assert read(split="test") == ["c"]
    assert read(config="other") == ["d"]
    first = list(hub.repos[REPO].commits)[-2]
    assert read(revision=first) == ["a", "b"]


def test_hub_fingerprint_follows_the_commit(hub: HubServer) -> None:
    def fingerprint(**options: Any) -> str:
        return PromptSource(PromptsConfig(**{"path": REPO, "config": "main", **options})).fingerprint()

    before = fingerprint()
    assert fingerprint(revision="main") == fingerprint(revision=hub.repos[REPO].head.oid) == before
    assert fingerprint(split="test") != before
    hub.commit(REPO, {"train.jsonl": to_jsonl("z")})
    assert fingerprint() != before


def test_hub_gives_messages_of_unequal_keys(hub: HubServer, tmp_path: Path) -> None:
    """`push_to_hub` of `datasets` from 4.7 on writes them as `arrow.json`."""
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?", "name": "Ann"}]
    rows = [{"messages": [*turns, {"role": "user", "content": text}]} for text in ("a", "b")]
    made = datasets.Dataset.from_list(rows, on_mixed_types="use_json")
    assert "Json" in str(made.features["messages"])
    made.to_parquet(tmp_path / "a.parquet")
    hub.commit(REPO, {"train.parquet": (tmp_path / "a.parquet").read_bytes(), "README.md": CARD_OF_PARQUET.encode()})
    source = PromptSource(PromptsConfig(path=REPO))
    messages = [row["messages"] for table in source.tables(10) for row in table.to_pylist()]
    assert [[turn["content"] for turn in one] for one in messages] == [["Hi", "Yes?", "a"], ["Hi", "Yes?", "b"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "org/nothing"}, r"prompts\.path=org/nothing is no file here and no data set"),
        ({"revision": "v9"}, r"prompts\.revision=v9"),
        ({"config": "missing"}, r"prompts\.config=missing.*main"),
        ({"split": "dev"}, r"prompts\.split=dev.*train"),
    ],
)
def test_hub_names_what_is_missing(hub: HubServer, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        read(**options)
    assert "\n" not in str(error.value)


def test_hub_that_is_not_there_is_said_in_one_line(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without a network, where a path that is misspelt looks like a data set's id."""
    nobody = "http://127.0.0.1:9"
    monkeypatch.setattr(constants, "ENDPOINT", nobody)
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", nobody)
    monkeypatch.setattr("huggingface_hub.hf_api.ENDPOINT", nobody, raising=False)
    with pytest.raises(ConfigError, match=r"^prompts\.path=org/none .*the Hub"):
        list(HubSource("org/none", None, "train", None).rows())


def test_hub_out_of_reach_leaves_what_was_read_before(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read() == ["a", "b", "e"]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    close_session()
    assert read() == ["a", "b", "e"]
    assert PromptSource(PromptsConfig(path=REPO, config="main")).fingerprint()
