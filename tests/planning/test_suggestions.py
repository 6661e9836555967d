"""What an error suggests: the same model, and it plans."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from planning_clusters import MODELS, gpus

from synthgen.config import ClusterConfig
from synthgen.planning import DoesNotFitError, plan_engine, resolve_architecture
from synthgen.planning.catalog import base_name
from synthgen.planning.suggest import list_suggestions

CASES: list[tuple[str, dict[str, Any], ClusterConfig]] = [
    ("llama-3.1-405b", {}, gpus("h100-80")),
    ("llama-3.3-70b", {}, gpus("h100-80", 1)),
    ("llama-3.3-70b-w8a8", {"tensor_parallel_size": 1, "pipeline_parallel_size": 1}, gpus("a100-40")),
    ("llama-3.1-8b", {"max_model_len": 131_072}, gpus("l4", 1)),
    ("llama-3.1-8b", {"max_num_batched_tokens": 65_536, "max_num_seqs": 2048}, gpus("l4", 1)),
    ("llama-3.1-8b", {"gpu_memory_utilization": 0.5}, gpus("l4", 1)),
    ("deepseek-v3", {}, gpus("h100-80")),
    ("gpt-oss-120b", {}, gpus("l4", 1)),
    ("qwen2.5-72b", {}, gpus("a100-40", 1)),
]


@pytest.mark.parametrize(("name", "changes", "cluster"), CASES)
def test_every_suggestion_plans_and_is_the_same_model(
    name: str, changes: dict[str, Any], cluster: ClusterConfig
) -> None:
    model = replace(MODELS[name], **changes)
    with pytest.raises(DoesNotFitError) as caught:
        plan_engine(model, cluster, key="judge.model")
    suggestions = list_suggestions(resolve_architecture(model), model, cluster, "judge.model")
    assert suggestions
    for suggestion in suggestions:
        assert base_name(suggestion.model.name) == base_name(name)
        assert plan_engine(suggestion.model, suggestion.cluster).replicas >= 1, suggestion.text
        assert suggestion.text in str(caught.value)


def test_another_model_of_the_same_shape_is_not_suggested() -> None:
    with pytest.raises(DoesNotFitError) as caught:
        plan_engine(MODELS["llama-3.3-70b"], gpus("h100-80", 1))
    assert "llama-3.1" not in str(caught.value)
    assert "model=llama-3.3-70b-fp8" in str(caught.value)
