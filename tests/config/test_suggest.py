"""Slips that people make, and what they are told."""

from __future__ import annotations

import pytest

from synthgen.config.compose import compose_config
from synthgen.config.suggest import MEANT, list_keys, suggest_keys
from synthgen.config.typed import find_hint
from synthgen.errors import ConfigError

SLIPS = {
    "generators.main.temperature": "generators.main.sampling.temperature",
    "generators.main.max_tokens": "generators.main.sampling.max_tokens",
    "generators.main.top_p": "generators.main.sampling.top_p",
    "generators.main.stop": "generators.main.sampling.stop",
    "generators.main.id": "generators.main.model.id",
    "generators.main.num_generations": "generators.main.n",
    "generators.main.model.tp": "generators.main.model.tensor_parallel_size",
    "generators.main.tensor_parallel_size": "generators.main.model.tensor_parallel_size",
    "generators.small.temperature": "generators.small.sampling.temperature",
    "generators.main.model.max_new_tokens": "generators.main.sampling.max_tokens",
    "n": "generators.main.n",
    "temperature": "generators.main.sampling.temperature",
    "max_tokens": "generators.main.sampling.max_tokens",
    "system_prompt": "generators.main.system_prompt",
    "tensor_parallel_size": "generators.main.model.tensor_parallel_size",
    "tp": "generators.main.model.tensor_parallel_size",
    "num_return_sequences": "generators.main.n",
    "seed": "run.seed",
    "unit_size": "run.unit_size",
    "output_dir": "run.dir",
    "out": "run.dir",
    "run.output": "run.dir",
    "run.directory": "run.dir",
    "run.sed": "run.seed",
    "limit": "prompts.limit",
    "dataset": "prompts.path",
    "input_file": "prompts.path",
    "prompts.file": "prompts.path",
    "prompts.num_prompts": "prompts.limit",
    "prompts.cloumn": "prompts.column",
    "judge.temprature": "judge.temperature",
    "judge.order": "judge.orders",
    "judge.tp": "judge.model.tensor_parallel_size",
    "judge.model_id": "judge.model.id",
    "judge.max_model_len": "judge.model.max_model_len",
    "judge_model": "model@judge.model",
    "aspects": "judge.aspects",
    "pairs.margin": "pairs.min_margin",
    "min_margin": "pairs.min_margin",
    "policy": "pairs.policy",
    "publish.repo": "publish.repo_id",
    "repo_id": "publish.repo_id",
    "cluster.num_gpus": "cluster=<preset>, such as cluster=8xh100-80",
    "formats": "export.formats",
    "test_fraction": "export.test_fraction",
}


@pytest.mark.parametrize(("typed", "meant"), SLIPS.items(), ids=lambda value: value)
def test_a_slip_leads_to_what_was_meant(typed: str, meant: str) -> None:
    assert suggest_keys(typed)[0] == meant


def test_the_message_has_it() -> None:
    with pytest.raises(ConfigError, match=r"is not a configuration key; did you mean generators.main.sampling.temper"):
        compose_config(["experiment=echo", "generators.main.temperature=0.7", "run.dir=x"])
    with pytest.raises(ConfigError, match=r"^n is not a configuration key; did you mean generators.main.n or task.n\?"):
        compose_config(["experiment=echo", "n=8", "run.dir=x"])


def test_whatever_is_suggested_exists() -> None:
    for target in MEANT.values():
        assert find_hint(target) is not None or target.startswith("model") or not target.replace("_", "").isidentifier()
    assert len(list_keys()) > 150


def test_nonsense_gets_no_suggestion() -> None:
    assert suggest_keys("xqzzy") == []
    assert suggest_keys("judge.xqzzy") == []


def test_a_hub_id_or_a_path_is_taken_where_a_name_is() -> None:
    config = compose_config(
        [
            "experiment=echo",
            "run.dir=x",
            "model@generators.main.model=Qwen/Qwen2.5-0.5B-Instruct",
            "model@judge.model=./models/judge",
            "+model@generators.small.model=models/x.gguf",
        ]
    )
    assert config.generators["main"].model.id == "Qwen/Qwen2.5-0.5B-Instruct"
    assert config.generators["small"].model.id == "models/x.gguf"
    assert (config.judge.model.name, config.judge.model.id) == ("hub", "./models/judge")
