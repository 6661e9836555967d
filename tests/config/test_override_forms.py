"""Generators and scorers come by the first form that a person tries, and a judge is left out by any."""

from __future__ import annotations

import itertools

import pytest

from synthgen.config import Config
from synthgen.config.compose import compose_config
from synthgen.config.saved import dump_config, read_saved_config
from synthgen.errors import ConfigError

ECHO = "experiment=echo"
MODELS = ("+model@generators.small.model=echo", "model@generators.small.model=echo", "generators.small.model=echo")
COUNTS = ("+generators.small.n=1", "generators.small.n=1", "++generators.small.n=1")


def show(config: Config) -> dict[str, tuple[int, str]]:
    return {name: (generator.n, generator.model.name) for name, generator in config.generators.items()}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("count", COUNTS)
def test_generator_is_added_in_any_form_and_order(model: str, count: str) -> None:
    for overrides in itertools.permutations((ECHO, model, count)):
        assert show(compose_config(overrides)) == {"main": (4, "echo"), "small": (1, "echo")}


@pytest.mark.parametrize(
    "overrides",
    [
        ["+scorer@scorers.maths=verifier", "scorers.maths.kind=math"],
        ["scorers.maths.kind=math", "scorer@scorers.maths=verifier"],
        ["+scorers.maths.kind=math"],
        ["+scorers.maths=verifier", "+scorers.maths.kind=math"],
    ],
)
def test_scorer_is_added_in_any_form(overrides: list[str]) -> None:
    config = compose_config([ECHO, *overrides, "pairs.weights={judge: 1, maths: 0.5}", "pairs.weights.maths=2"])
    assert [(name, one.type, one.kind) for name, one in config.scorers.items()] == [("maths", "verifier", "math")]
    assert config.pairs.weights == {"judge": 1.0, "maths": 2.0}
    assert read_saved_config(dump_config(config)) == config


@pytest.mark.parametrize(
    "judge", ["judge=none", "judge=null", "~judge", "+judge=null", "judge=None", "~judge=ultrafeedback"]
)
def test_judge_is_left_out_in_any_form(judge: str) -> None:
    for overrides in ([ECHO, judge], [judge, "model@generators.main.model=echo"], [judge, "model=echo"]):
        config = compose_config(overrides)
        assert (config.judge.enabled, config.judge.model.name) == (False, "")
        assert show(config) == {"main": (4, "echo")}


def test_last_word_on_the_judge_counts() -> None:
    assert compose_config([ECHO, "judge=none", "judge=pointwise"]).judge.enabled


def test_generator_of_the_experiment_is_replaced() -> None:
    replaced = ["~generators.main", "generators.big.n=3", "model@generators.big.model=echo"]
    assert show(compose_config([ECHO, *replaced])) == {"big": (3, "echo")}
    assert show(compose_config([*replaced, "judge=none"])) == {"big": (3, "echo")}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("generators.mian.n=2", "generators.mian does not exist; to add a key to generators, write"),
        ("scorers.maths.kinnd=math", "scorers.maths.kinnd is not a configuration key; did you mean scorers.maths.kind"),
        ("scorers.judge.kind=math", "scorers.judge: judge is the name of the scorer that judge.* sets up"),
        ("scorers.a.timeout_s=0", "scorers.a.timeout_s=0 must be above 0"),
        ("scorer@scorers.maths=verifyer", "scorer='verifyer' is not in the catalog; did you mean verifier"),
    ],
)
def test_what_nothing_reads_is_one_line(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose_config([ECHO, override])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_mapping_of_any_keys_is_set_without_a_plus() -> None:
    config = compose_config(
        [
            "experiment=echo",
            "run.dir=x",
            "judge.model.chat_template_kwargs={enable_thinking: false}",
            "judge.model.chat_template_kwargs.reasoning_effort=low",
            "generators.main.model.chat_template_kwargs={thinking: true}",
        ]
    )
    assert config.judge.model.chat_template_kwargs == {"enable_thinking": False, "reasoning_effort": "low"}
    assert config.generators["main"].model.chat_template_kwargs == {"thinking": True}


def test_model_is_of_the_generator_alone_where_the_experiment_has_no_judge() -> None:
    for experiment in ("prove", "verified_math"):
        config = compose_config([f"experiment={experiment}", "model=tiny", "run.dir=x"])
        assert config.generators["main"].model.name == "tiny"
        assert not config.judge.enabled
