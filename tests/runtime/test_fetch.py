"""`synthgen fetch` fills the caches, from a Hub on loopback; afterwards no network is needed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest
from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.utils import close_session
from publish.hub_server import HubServer

from synthgen.cli import run_command
from synthgen.config import PromptsConfig
from synthgen.prompts import PromptSource

MODEL = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": b"weights",
    "pytorch_model.bin": b"the same weights",
    "original/consolidated.safetensors": b"and again",
    "tokenizer.json": b"{}",
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-login"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    with HubServer() as server:
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", server.token)
        api = HfApi(endpoint=server.url, token=server.token)
        for repo in ("org/model", "org/adapter", "org/questions"):
            api.create_repo(repo)
        server.commit("org/model", dict(MODEL))
        server.commit("org/adapter", {"adapter_config.json": b"{}", "adapter_model.safetensors": b"small"})
        rows = "".join(json.dumps({"question": text}) + "\n" for text in ("a", "b"))
        server.commit("org/questions", {"train.jsonl": rows.encode()})
        yield server
        close_session()


def test_what_was_fetched_is_there_without_a_network(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "experiment=single",
        "model@generators.main.model=org/model",
        "generators.main.model.lora=org/adapter",
        "model@judge.model=echo",
        "prompts.path=org/questions",
        f"run.dir={tmp_path / 'run'}",
    ]
    assert run_command(["fetch", *command]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("generators.main.model=")
    assert said[1] == "prompts.path=org/questions: in the cache of data sets, split train"
    assert "HF_HUB_OFFLINE=1" in said[2]
    first = hub.count("GET", "resolve")
    assert run_command(["fetch", *command]) == 0
    assert hub.count("GET", "resolve") == first, "nothing is fetched twice"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    asked = len(hub.requests)
    path = Path(snapshot_download("org/model", ignore_patterns="*"))  # as vLLM does without a network
    names = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
    assert names >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert not names & {"pytorch_model.bin", "original/consolidated.safetensors"}, "no weights that nobody reads"
    assert (
        Path(snapshot_download("org/adapter", ignore_patterns="*")) / "adapter_model.safetensors"
    ).read_bytes() == b"small"
    tables = PromptSource(PromptsConfig(path="org/questions")).tables(10)
    assert [row["messages"][0]["content"] for table in tables for row in table.to_pylist()] == ["a", "b"]
    assert len(hub.requests) == asked
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_had_is_one_line(hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["model@generators.main.model=org/none", "model@judge.model=echo", f"run.dir={tmp_path}"]
    assert run_command(["fetch", *command]) == 2
    assert "model.id=org/none cannot be fetched from the Hub (" in capsys.readouterr().err
