"""What is published of the newest entries of the catalog: parameters, bytes of files, and the GPUs of their recipes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from planning_clusters import MODELS, gpus

from synthgen.models.architecture import read_architecture
from synthgen.models.config_file import read_text
from synthgen.models.refresh import KEPT
from synthgen.models.tensors import count_active_parameters, count_parameters
from synthgen.planning import kv_bytes_per_token, plan_engine, resolve_architecture, weights_bytes
from synthgen.planning.memory import state_bytes

CATALOG = Path(__file__).parents[2] / "conf" / "model"

# By their model cards and vLLM's recipes: parameters, and those that a token is multiplied with (None: not published).
PARAMETERS = {
    "hy3": (295e9, 21e9),
    "kimi-k3": (2.8e12, None),
    "ling-3.0-flash": (124.4e9, 5.1e9),
    "mimo-v2.5-pro": (1.02e12, 42e9),
    "minimax-m3": (427.04e9, 26e9),
    "mistral-large-3": (675e9, None),
    "mistral-small-4": (119e9, 6.5e9),
}


@pytest.mark.parametrize(("name", "published"), PARAMETERS.items(), ids=PARAMETERS)
def test_parameters_are_the_published_ones(name: str, published: tuple[float, float | None]) -> None:
    parameters, active = published
    arch = resolve_architecture(MODELS[name])
    assert arch.exact
    assert count_parameters(arch) == pytest.approx(parameters, rel=0.008)
    if active is not None:  # some count the embeddings too
        assert count_active_parameters(arch) == pytest.approx(active, rel=0.07)


# GB of the published files, less what is not loaded.
GIGABYTES = {
    "hy3": 597.572 - 7.504,  # its index; the layer that drafts tokens has 3.752 billion parameters
    "mimo-v2.5": 315.03 - 1.46 - 0.52 - 1.19,  # its index; encoders of images and sound, layers that draft tokens
    "mistral-large-3-nvfp4": 403.2,  # the Hub's file list
    "mistral-small-4": 242 / 2,  # the Hub's file list, which has the weights twice
}


@pytest.mark.parametrize(("name", "gigabytes"), GIGABYTES.items(), ids=GIGABYTES)
def test_weights_are_the_published_ones(name: str, gigabytes: float) -> None:
    assert weights_bytes(resolve_architecture(MODELS[name])) / 1e9 == pytest.approx(gigabytes, rel=0.005)


# Tensor parallelism that the recipe of each gives for these GPUs.
RECIPES = [
    ("hy3", "h200-141", 8, 8),
    ("kimi-k3", "b300", 8, 8),
    ("ling-3.0-flash", "h20", 4, 4),
    ("ling-3.0-flash-fp8", "h200-141", 2, 2),
    ("mimo-v2.5", "h200-141", 4, 4),
    ("mimo-v2.5-pro", "h200-141", 8, 8),
    ("mistral-large-3", "h200-141", 8, 8),
    ("mistral-large-3-nvfp4", "b200", 4, 4),
]


@pytest.mark.parametrize(("name", "kind", "count", "split"), RECIPES)
def test_a_plan_is_split_as_the_recipe_does(name: str, kind: str, count: int, split: int) -> None:
    plan = plan_engine(MODELS[name], gpus(kind, count))
    assert (plan.tensor_parallel_size, plan.pipeline_parallel_size, plan.replicas) == (split, 1, 1)


def test_caches_are_those_of_vllms_classes() -> None:
    ling = resolve_architecture(MODELS["ling-3.0-flash"])  # 35 of 42 layers: a convolution, and 32 heads in 32 bits
    assert state_bytes(ling) == 35 * (3 * 32 * 128 * 3 * 2 + 32 * 128 * 128 * 4)
    assert kv_bytes_per_token(ling) == 7 * (512 + 64) * 2
    minimax = resolve_architecture(MODELS["minimax-m3"])  # 57 of 60 layers have a key of their index in 16 bits
    assert kv_bytes_per_token(minimax) == 60 * 4 * 2 * 128 * 2 + 57 * 128 * 2
    kimi = resolve_architecture(MODELS["kimi-k3"])
    assert kv_bytes_per_token(kimi) == 24 * (512 + 64) * 2
    assert state_bytes(kimi) == 69 * (3 * 96 * 128 * 3 * 2 + 96 * 128 * 128 * 4)
    assert kv_bytes_per_token(resolve_architecture(MODELS["hy3"])) == 327_680


@pytest.mark.parametrize("path", sorted((CATALOG / "architecture").glob("*.yaml")), ids=lambda path: path.stem)
def test_refresh_keeps_what_the_entries_have(path: Path) -> None:
    numbers = read_text(yaml.safe_load(path.read_text(encoding="utf-8")))
    kept = {key: value for key, value in numbers.items() if key in KEPT}
    assert read_architecture(kept) == read_architecture(numbers)
