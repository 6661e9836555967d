"""Settings of Python as overrides: text stays the text that it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.api.overrides import to_overrides
from synthgen.config.compose import compose_config, compose_tree
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


@given(TEXTS)
def test_any_text_comes_through(text: str) -> None:
    (override,) = to_overrides({"publish": {"language": text}})
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    value = OverridesParser.create().parse_override(override).value()
    assert OmegaConf.create({"value": value}).value == text


@pytest.mark.parametrize(
    "text", ["null", "1.10", "no", "${oc.env:HOME}", "a'b\\", "\\'", "{x: 1}", "a=b, c", "~", "ü\n"]
)
def test_text_that_looks_like_something_else_stays_text(text: str) -> None:
    assert compose_tree(to_overrides({"experiment": "echo", "publish.license": text})).publish.license == text


def test_lists_of_overrides_pass_as_they_are() -> None:
    assert to_overrides(["experiment=echo", "run.seed=1"]) == ["experiment=echo", "run.seed=1"]


def test_what_has_no_form_is_refused_by_its_key() -> None:
    with pytest.raises(TypeError, match="give a list of overrides or a mapping"):
        to_overrides("experiment=echo")
    with pytest.raises(TypeError, match=r"run\.dir=<object"):
        to_overrides({"run": {"dir": object()}})
    with pytest.raises(ConfigError, match=r"did you mean run\.seed"):
        compose_config(to_overrides({"experiment": "echo", "run": {"sed": 1}}))
