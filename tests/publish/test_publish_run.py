"""Publishing a run: the card is made anew for the place where the data set goes."""

from __future__ import annotations

from pathlib import Path

import pytest
from exported_runs import export_units
from hub_server import HubServer

from synthgen.config import Config, GeneratorConfig, ModelConfig, PublishConfig
from synthgen.config.compose import compose_config
from synthgen.config.saved import dump_config
from synthgen.export.manifest import MANIFEST_NAME, Manifest
from synthgen.export.stage import commit_export, stage_export
from synthgen.ledger.storage import LocalStorage
from synthgen.publish.card import make_card, read_card_dataset
from synthgen.publish.dataset import publish_run

MODEL = ModelConfig(name="echo", id="echo", engine="echo")
REPORT = {"complete": True, "pairs": {"made": 3}}


def make_run(directory: Path) -> tuple[LocalStorage, Config, Manifest]:
    """A finished run whose stored card knows of no repository."""
    config = Config(generators={"main": GeneratorConfig(model=MODEL)})
    config.judge.model = MODEL
    config.prompts.path = "builtin:examples"
    storage = LocalStorage(directory)
    with stage_export(storage) as staged:
        assert staged.root is not None
        result = export_units(staged.root, 1)
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


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], PublishConfig()),
        (["publish=public", "publish.repo_id=org/x"], PublishConfig(repo_id="org/x", private=False)),
    ],
)
def test_shipped_publish_configs_compose(overrides: list[str], expected: PublishConfig) -> None:
    assert compose_config(["experiment=echo", *overrides]).publish == expected
