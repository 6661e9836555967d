"""Where a model's numbers come from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from planning_clusters import MODELS

from synthgen.config import ModelConfig
from synthgen.errors import ConfigError
from synthgen.planning import resolve_architecture

CONFIG = {
    "model_type": "llama",
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 512,
    "vocab_size": 1000,
    "max_position_embeddings": 2048,
}


def model_at(where: object, **changes: object) -> ModelConfig:
    return replace(ModelConfig(name="mine", id=str(where)), **changes)  # type: ignore[arg-type]


def test_resolve_architecture_reads_a_directory(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    assert resolve_architecture(model_at(tmp_path)).num_layers == 4
    assert resolve_architecture(model_at(tmp_path.as_uri())).num_layers == 4


def test_resolve_architecture_lets_the_configuration_go_first(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    arch = resolve_architecture(model_at(tmp_path, architecture={"max_position_embeddings": 512}))
    assert (arch.context_length, arch.num_layers) == (512, 4)


@pytest.mark.parametrize(("name", "layers"), [("tiny", 2), ("small-random", 8)])
def test_resolve_architecture_reads_the_built_in_models(name: str, layers: int) -> None:
    arch = resolve_architecture(MODELS[name])
    assert arch.num_layers == layers
    assert arch.quantization.compute == "int8"


def test_resolve_architecture_reads_the_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    snapshot = tmp_path / "models--org--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps(CONFIG))
    refs = tmp_path / "models--org--name" / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert resolve_architecture(model_at("org/name")).num_layers == 4


@pytest.mark.parametrize(
    ("model_id", "message"),
    [
        ("", r"model\.id is not set"),
        ("/no/such/directory", "is not a directory"),
        ("name-without-org", "neither a Hub id"),
        ("name.gguf", "is not a file"),
        ("builtin:nothing", "is not built in"),
        ("s3fs://bucket/model", "cannot read"),
    ],
)
def test_resolve_architecture_explains_ids_that_lead_nowhere(model_id: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_architecture(model_at(model_id))


def test_resolve_architecture_explains_an_unreachable_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.invalid")
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match=r"hub\.invalid cannot be reached.*model\.architecture"):
        resolve_architecture(model_at("org/name"))


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b"{", b"\x00\xed\xa0\x80", b'{"hidden_size": "many"}'])
def test_resolve_architecture_survives_broken_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"config\.json"):
        resolve_architecture(model_at(tmp_path))


def test_resolve_architecture_survives_a_directory_without_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        resolve_architecture(model_at(tmp_path))
