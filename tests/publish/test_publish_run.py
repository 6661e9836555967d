"""Publishing a run: the card is made anew for the place where the data set goes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from exported_runs import export_units
from hub_server import HubServer

from synthgen.config import Config, ExportConfig, GeneratorConfig, ModelConfig, PublishConfig
from synthgen.config.compose import compose_config
from synthgen.config.saved import dump_config
from synthgen.errors import ConfigError
from synthgen.export.dataset_info import DATASET_INFO
from synthgen.export.manifest import MANIFEST_NAME, Manifest
from synthgen.export.swap import commit_export, stage_export
from synthgen.ledger.storage import LocalStorage
from synthgen.publish.card import make_card, read_card_dataset
from synthgen.publish.dataset import publish_run

MODEL = ModelConfig(name="echo", id="echo", engine="echo")
REPORT = {"complete": True, "pairs": {"made": 3}}


def make_run(directory: Path, *formats: str) -> tuple[LocalStorage, Config, Manifest]:
    """A finished run whose stored card knows of no repository."""
    config = Config(generators={"main": GeneratorConfig(model=MODEL)}, export=ExportConfig(formats=list(formats)))
    config.judge.model = MODEL
    config.prompts.path = "builtin:examples"
    storage = LocalStorage(directory)
    with stage_export(storage) as staged:
        assert staged.root is not None
        result = export_units(staged.root, 1, config)
        staged.replace("dataset/README.md", make_card(REPORT, config, result.dataset).encode())
        manifest = commit_export(
            storage, staged, config=dump_config(config), stages={}, dataset=result.dataset, report=REPORT
        )
    return storage, config, manifest


def test_publish_run_names_the_repository_in_the_card(hub: HubServer, tmp_path: Path) -> None:
    storage, config, manifest = make_run(tmp_path)
    stored = storage.read("dataset/README.md").decode()
    config.publish.repo_id = "org/pairs"
    config.publish.license = "cc-by-4.0"
    publish_run(storage, manifest, config)
    card = hub.read("org/pairs", "README.md").decode()
    assert 'load_dataset("org/pairs")' in card
    assert "license: cc-by-4.0" in card
    assert read_card_dataset(card) == read_card_dataset(stored) != {}
    assert storage.read("dataset/README.md").decode() == stored


def test_publish_run_to_a_directory_keeps_the_card_general(tmp_path: Path) -> None:
    storage, config, manifest = make_run(tmp_path / "run")
    config.publish.to_dir = str(tmp_path / "out")
    publish_run(storage, manifest, config)
    assert (tmp_path / "out/README.md").read_bytes() == storage.read("dataset/README.md")
    assert not (tmp_path / "out" / MANIFEST_NAME).exists()


def test_publish_run_tells_llamafactory_where_the_data_set_is(hub: HubServer, tmp_path: Path) -> None:
    storage, config, manifest = make_run(tmp_path / "run", "sharegpt", "kto_conversations")
    config.publish.repo_id = "org/pairs"
    publish_run(storage, manifest, config)
    stored = json.loads(storage.read(f"dataset/{DATASET_INFO}"))
    there = json.loads(hub.read("org/pairs", DATASET_INFO))
    assert list(there) == list(stored) == ["pairs", "kto"]
    for name, entry in there.items():
        assert entry == {"hf_hub_url": "org/pairs", **{k: v for k, v in stored[name].items() if k != "script_url"}}
    card = hub.read("org/pairs", "README.md").decode()
    assert "| sharegpt | LLaMA-Factory | DPO | dataset_dir: REMOTE:org/pairs, dataset: pairs |" in card
    config.publish.repo_id, config.publish.to_dir = None, str(tmp_path / "out")
    publish_run(storage, manifest, config)
    assert json.loads((tmp_path / "out" / DATASET_INFO).read_bytes()) == stored


def test_publish_run_refuses_a_dataset_info_that_was_changed(tmp_path: Path) -> None:
    storage, config, manifest = make_run(tmp_path / "run", "sharegpt")
    storage.replace(f"dataset/{DATASET_INFO}", b"{}")
    config.publish.to_dir = str(tmp_path / "out")
    with pytest.raises(ConfigError, match=f"{DATASET_INFO} is not what the export wrote"):
        publish_run(storage, manifest, config)


def test_an_export_removes_its_own_dataset_info_and_keeps_the_user_s(tmp_path: Path) -> None:
    make_run(tmp_path, "sharegpt")
    storage, config, manifest = make_run(tmp_path)
    assert not storage.exists(f"dataset/{DATASET_INFO}")
    storage.replace(f"dataset/{DATASET_INFO}", b'{"mine": {}}')
    storage, config, manifest = make_run(tmp_path)
    assert storage.read(f"dataset/{DATASET_INFO}") == b'{"mine": {}}'
    config.publish.to_dir = str(tmp_path / "out")
    publish_run(storage, manifest, config)
    assert (tmp_path / "out" / DATASET_INFO).read_bytes() == b'{"mine": {}}'


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], PublishConfig()),
        (["publish=public", "publish.repo_id=org/x"], PublishConfig(repo_id="org/x", private=False)),
    ],
)
def test_shipped_publish_configs_compose(overrides: list[str], expected: PublishConfig) -> None:
    assert compose_config(["experiment=echo", *overrides]).publish == expected
