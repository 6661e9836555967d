"""Settings of Python as overrides: text stays the text that it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.config.compose import compose_config, compose_tree
from synthgen.config.settings import to_overrides
from synthgen.errors import ConfigError

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))


def test_mappings_become_dotted_keys() -> None:
    settings = {
        "experiment": "echo",
        "model@judge.model": "echo",
        "run": {"dir": Path("runs/a"), "seed": 3},
        "generators.main.n": 2,
        "judge": {"aspects": ["honesty", "helpfulness"], "expected": False, "max_tokens": None},
        "cluster.runtime_env": {"env_vars": {"A": "it's {b}", "b: c": [1]}},
    }
    config = compose_config(to_overrides(settings))
    assert (config.run.dir, config.run.seed, config.generators["main"].n) == ("runs/a", 3, 2)
    assert config.cluster.runtime_env == {"env_vars": {"A": "it's {b}", "b: c": [1]}}
    assert (config.judge.aspects, config.judge.expected, config.judge.max_tokens) == (
        ["honesty", "helpfulness"],
        False,
        None,
    )


def test_mappings_of_any_keys_take_new_keys_in_each_form() -> None:
    model = "generators.main.model"
    for settings in (
        {f"{model}.engine_args": {"seed": 1, "rope": {"type": "yarn"}}},
        {model: {"engine_args": {"seed": 1, "rope": {"type": "yarn"}}}},
        {f"{model}.engine_args.seed": 1, f"{model}.engine_args.rope": {"type": "yarn"}},
        {f"{model}.engine_args.seed": 1, f"+{model}.engine_args.rope.type": "yarn"},
    ):
        config = compose_config(to_overrides({"experiment": "echo", **settings}))
        assert config.generators["main"].model.engine_args == {"seed": 1, "rope": {"type": "yarn"}}


def test_keys_that_look_like_numbers_stay_text() -> None:
    settings = {"experiment": "echo", "generators.main.sampling.logit_bias": {"50": -1}}
    assert compose_config(to_overrides(settings)).generators["main"].sampling.logit_bias == {"50": -1.0}
    names = {"1": "a", "null": "b", "c d": "e"}
    config = compose_config(to_overrides({"experiment": "echo", "cluster.runtime_env.env_vars": names}))
    assert config.cluster.runtime_env == {"env_vars": names}


def test_numbers_of_numpy_are_numbers() -> None:
    settings = {"pairs.min_margin": np.float64(0.5), "run.seed": np.int64(3), "judge.expected": np.bool_(True)}
    config = compose_config(to_overrides({"experiment": "echo", **settings}))
    assert (config.pairs.min_margin, config.run.seed, config.judge.expected) == (0.5, 3, True)


@given(TEXTS)
def test_any_text_comes_through(text: str) -> None:
    (override,) = to_overrides({"publish": {"language": text}})
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    value = OverridesParser.create().parse_override(override).value()
    assert OmegaConf.create({"value": value}).value == text


@pytest.mark.parametrize(
    "text", ["null", "1.10", "no", "${oc.env:HOME}", "a'b\\", "\\'", r"\${a}", r"\\${", "{x: 1}", "a=b, c", "~", "ü\n"]
)
def test_text_that_looks_like_something_else_stays_text(text: str) -> None:
    assert compose_tree(to_overrides({"experiment": "echo", "publish.license": text})).publish.license == text


def test_lists_of_overrides_pass_as_they_are() -> None:
    assert to_overrides(["experiment=echo", "run.seed=1"]) == ["experiment=echo", "run.seed=1"]


def test_what_has_no_form_is_refused_by_its_key() -> None:
    nothing: Any = ("experiment=echo", None, 3, [3])
    for settings in nothing:
        with pytest.raises(TypeError, match="give a list of overrides or a mapping"):
            to_overrides(settings)
    with pytest.raises(TypeError, match=r"run\.dir=<object"):
        to_overrides({"run": {"dir": object()}})
    with pytest.raises(ConfigError, match=r"did you mean run\.seed"):
        compose_config(to_overrides({"experiment": "echo", "run": {"sed": 1}}))
