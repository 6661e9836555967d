"""Every file of the catalog and every cluster composes through Hydra, types checked, and can be planned."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from synthgen.config import ClusterConfig, ModelConfig
from synthgen.planning import list_gpu_kinds, load_models, resolve_architecture, resolve_cluster

CONF = Path(__file__).parents[2] / "conf"
MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
CLUSTERS = sorted(path.stem for path in (CONF / "cluster").glob("*.yaml"))
LICENCES = {
    "apache-2.0", "gemma", "llama3", "llama3.1", "llama3.2", "llama3.3", "llama4", "mit", "nvidia-open-model-license",
    "other", "qwen",
}  # fmt: skip


@dataclass
class Place:
    model: ModelConfig = field(default_factory=ModelConfig)


@dataclass
class Places:
    """The places of `Config` that these groups fill, typed alike; all of it takes three times as long to compose."""

    judge: Place = field(default_factory=Place)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)


@pytest.fixture(scope="module", autouse=True)
def hydra() -> Iterator[None]:
    store = ConfigStore.instance()
    store.store(name="places", node=Places)
    defaults = ["places", {"model@judge.model": "???"}, {"cluster": "cpu"}, "_self_"]
    store.store(name="catalog-probe", node={"defaults": defaults})
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        yield


@cache
def compose_model(name: str, *overrides: str) -> Any:
    given = [] if name not in ("hub", "openai_endpoint") else ["judge.model.id=org/name"]
    tree = compose("catalog-probe", overrides=[f"model@judge.model={name}", *given, *overrides])
    return OmegaConf.to_object(tree.judge.model)


@cache
def compose_cluster(name: str) -> Any:
    tree = compose("catalog-probe", overrides=["model@judge.model=tiny", f"cluster={name}"])
    return OmegaConf.to_object(tree.cluster)


@pytest.mark.parametrize("name", MODELS)
def test_models_compose(name: str) -> None:
    model = compose_model(name)
    assert isinstance(model, ModelConfig)
    assert model.name == name


@pytest.mark.parametrize("name", MODELS)
def test_models_compose_as_the_planner_reads_them(name: str) -> None:
    loaded = next(model for model in load_models() if model.name == name)
    assert replace(compose_model(name), id=loaded.id) == loaded


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("echo", "hub", "openai_endpoint")])
def test_models_of_checkpoints_are_whole(name: str) -> None:
    model = compose_model(name)
    arch = resolve_architecture(model)
    assert arch.exact or model.unservable
    engines = {"reward": "pooling", "prompt-guard": "transformers"}
    assert model.engine == next((engine for kind, engine in engines.items() if kind in name), "vllm")
    assert model.license in LICENCES
    fetched = (model.id, model.tokenizer or "")
    asks = ("meta-llama/", "google/") if model.license != "apache-2.0" else ("meta-llama/",)  # Gemma 4 asks nothing
    assert model.gated == any(name.startswith(asks) for name in fetched)
    assert model.id.startswith("builtin:") or model.architecture


def test_models_keep_their_numbers_wherever_they_are_put() -> None:
    model = compose_model("llama-3.1-70b-fp8", "judge.model.tensor_parallel_size=2")
    assert model.architecture["hidden_size"] == 8192
    assert model.architecture["quantization_config"]["quant_method"] == "compressed-tensors"
    assert model.tensor_parallel_size == 2


@pytest.mark.parametrize("name", CLUSTERS)
def test_clusters_compose(name: str) -> None:
    cluster = compose_cluster(name)
    assert isinstance(cluster, ClusterConfig)
    assert cluster.name == name


@pytest.mark.parametrize("name", [name for name in CLUSTERS if name not in ("local", "cpu", "auto")])
def test_clusters_are_what_their_name_says(name: str) -> None:
    cluster = compose_cluster(name)
    assert cluster.gpu in list_gpu_kinds().values()
    assert cluster.gpu_hour_usd >= 0  # 0: no price is known
    assert not cluster.auto
    found = re.fullmatch(r"((?:\d+x)*)(.+)", name)
    assert found is not None
    assert cluster.nodes * cluster.gpus_per_node == math.prod(int(count) for count in found[1].split("x")[:-1])
    assert found[2].split("-")[0] == re.sub(r"\W", "", cluster.gpu.name.split("-")[0].lower())


def test_clusters_of_this_machine() -> None:
    assert compose_cluster("local").auto
    assert compose_cluster("auto").address == "auto"
    cpu = compose_cluster("cpu")
    assert resolve_cluster(cpu) is cpu
    assert cpu.gpus_per_node == 0


@pytest.mark.parametrize("name", MODELS)
def test_docs_name_every_model(name: str) -> None:
    assert f"| `{name}` |" in (CONF.parent / "docs" / "models.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CLUSTERS)
def test_docs_name_every_cluster(name: str) -> None:
    assert f"`{name}`" in (CONF.parent / "docs" / "planning.md").read_text(encoding="utf-8")
