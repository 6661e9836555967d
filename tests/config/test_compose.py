"""Composition: every shipped config works, and everything that cannot is one line with the key, the value, the mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthgen.config import Rationale
from synthgen.config.compose import compose_config, list_options, sweep
from synthgen.config.resources import project_path
from synthgen.config.saved import dump_config, read_saved_config
from synthgen.errors import ConfigError
from synthgen.flow import load_flow

ECHO = ["experiment=echo"]


@pytest.mark.parametrize("experiment", ["demo", "echo", "llama31_ultrafeedback"])
def test_experiment_composes(experiment: str) -> None:
    config = compose_config([f"experiment={experiment}"])
    assert config.generators


def test_experiment_of_a_task_needs_no_generator_and_no_judge() -> None:
    config = compose_config(["experiment=task_complexity"])
    assert not config.generators
    assert config.task.model.name == "echo"


def test_llama31_ultrafeedback_is_what_its_name_says() -> None:
    config = compose_config(["experiment=llama31_ultrafeedback"])
    assert {name: (generator.model.id, generator.n) for name, generator in config.generators.items()} == {
        "llama70b": ("meta-llama/Llama-3.1-70B-Instruct", 1),
        "llama405b": ("meta-llama/Llama-3.1-405B-Instruct-FP8", 1),
    }
    assert config.judge.aspects == ["overall-rating"]
    assert (config.judge.orders, config.judge.rationale) == (2, Rationale.full)
    assert config.judge.model.id == "meta-llama/Llama-3.1-405B-Instruct-FP8"


@pytest.mark.parametrize("experiment", ["demo", "echo", "llama31_ultrafeedback"])
def test_a_judge_that_is_chosen_beside_an_experiment_is_the_one_that_judges(experiment: str) -> None:
    judge = compose_config([f"experiment={experiment}", "judge=ratings_only"]).judge
    assert (judge.aspects, judge.orders, judge.rationale) == (["overall-rating"], 2, Rationale.none)


def test_second_generator_is_added_by_its_model() -> None:
    config = compose_config([*ECHO, "+model@generators.second.model=tiny", "generators.second.n=2"])
    assert (config.generators["second"].n, config.generators["second"].model.name) == (2, "tiny")


@pytest.mark.parametrize(
    ("group", "name"),
    [(group, name) for group in ("prompts", "judge", "pairs", "cluster", "publish") for name in list_options(group)],
)
def test_group_option_composes(group: str, name: str) -> None:
    extra = ["pairs.generator=main"] if name == "on_policy" else []
    compose_config([*ECHO, f"{group}={name}", *extra])


@pytest.mark.parametrize("name", list_options("model"))
def test_model_composes_as_generator_and_as_judge(name: str) -> None:
    extra = (
        ["generators.main.model.id=org/name", "judge.model.id=org/name"] if name in ("hub", "openai_endpoint") else []
    )
    given = [*ECHO, f"model@generators.main.model={name}", f"model@judge.model={name}", *extra]
    if "reward" in name or "prompt-guard" in name:
        with pytest.raises(ConfigError, match=f"{name} classifies texts and writes none"):
            compose_config(given)
        scorer = [*ECHO, "+scorer@scorers.rm=reward", f"+model@scorers.rm.model={name}"]
        assert compose_config(scorer).scorers["rm"].model.name == name
        return
    config = compose_config(given)
    assert config.generators["main"].model == config.judge.model
    assert config.judge.model.name


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "model@judge.model is not chosen; give one of: "),
        (["experiment=ecko"], "experiment='ecko' is not in the catalog; did you mean echo"),
        (
            [*ECHO, "model@generators.main.model=lama-3.1-8b"],
            "model='lama-3.1-8b' is not in the catalog; did you mean llama-3.1-8b",
        ),
        ([*ECHO, "run.sed=1"], "run.sed is not a configuration key; did you mean run.seed?"),
        (
            [*ECHO, "generators.second.n=2"],
            "generators.second does not exist; to add a key to generators, write +model@generators.second.model=…",
        ),
        (
            [*ECHO, "+generators.second.n=2"],
            "generators.second.model is chosen by its name in the catalog; write +model@generators.second.model=…",
        ),
        (
            [*ECHO, "generators.main.model=tiny"],
            "generators.main.model is chosen by its name in the catalog; write model@generators.main.model=…",
        ),
        ([*ECHO, "pairs.min_margin=null"], "pairs.min_margin: field 'pairs.min_margin' is not Optional"),
        ([*ECHO, "generators.main.sampling.max_tokens=abc"], "generators.main.sampling.max_tokens: Value 'abc'"),
        ([*ECHO, "generators.main.n=1"], "generators.main.n=1 gives one completion per prompt in all"),
        ([*ECHO, "pairs.policy=foo"], "pairs.policy='foo' is not known; there are: best_worst"),
        ([*ECHO, "pairs.policy=best_worse"], "pairs.policy='best_worse' is not known; did you mean best_worst?"),
        (
            [*ECHO, "generators.main.model.engine=vlm"],
            "generators.main.model.engine='vlm' is not known; did you mean vllm?",
        ),
        ([*ECHO, "judge.aspects=[foo]"], "judge.aspects: 'foo' is unknown; choose from helpfulness"),
        ([*ECHO, "run.unit_size=0"], "run.unit_size=0 must be at least 1"),
        ([*ECHO, "generators.man.n=2"], "generators.man does not exist"),
        ([*ECHO, "pairs=on_policy", "pairs.generator=other"], "pairs.generator=other must name a generator"),
        (["experiment=demo", "model@generators.main.model=hub"], "generators.main.model.id is not set"),
        ([*ECHO, "generators.main.sampling.top_p=0"], "generators.main.sampling.top_p=0 must be above 0"),
        ([*ECHO, "pairs.kto.low=5", "pairs.kto.high=4"], "pairs.kto.low=5.0 must lie below pairs.kto.high=4.0"),
        ([*ECHO, "pairs.kto.desirable=0.7", "pairs.kto.undesirable=0.6"], "are more than all completions"),
        ([*ECHO, "pairs.kto.desirable=2"], "pairs.kto.desirable=2.0 must be from 0 to 1: a share of the completions"),
        ([*ECHO, "pairs.max_flip_probability=0.6"], "pairs.max_flip_probability=0.6 must be above 0 and at most 0.5"),
        ([*ECHO, "judge=pointwise", "judge.orders=2"], "judge.orders=2 asks the same 2 times: judge.mode=pointwise"),
        ([*ECHO, "judge.canary_fraction=2"], "judge.canary_fraction=2 must be from 0 to 1"),
        ([*ECHO, "run.seed=[1"], "no viable alternative"),
        (["pipeline=task"], "model@task.model is not chosen; give one of: "),
        (["pipeline=task", "model@task.model=echo"], "task.path is not set; give a dotted path such as"),
        (
            ["pipeline=task", "model@task.model=echo", "task.path=a.B", "export.columns=minimal"],
            "export.columns=minimal is for preference data, not for a task's; leave it out",
        ),
        ([*ECHO, "pipeline=task", "task.path=a.b"], "task.model is not chosen; give model@task.model=<name>"),
    ],
)
def test_bad_override_is_one_line(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as failure:
        load_flow(compose_config(overrides))
    assert message in str(failure.value)
    assert "\n" not in str(failure.value)


def test_config_dir_adds_models_and_aspects_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("name: mine\nid: /models/mine\nlicense: mit\n")
    aspect = tmp_path / "judge" / "aspect"
    aspect.mkdir(parents=True)
    (aspect / "brevity.yaml").write_text("name: brevity\nrubric: Shorter is better.\n")
    config = compose_config(
        [*ECHO, "model@generators.main.model=mine", "judge.aspects=[brevity]"], config_dir=str(tmp_path)
    )
    assert config.generators["main"].model.id == "/models/mine"
    assert config.judge.aspect["brevity"].rubric == "Shorter is better."


def test_sweep_is_the_product_of_all_values() -> None:
    jobs = sweep(["pairs.policy=best_worst,best_random", "run.seed=1,2"])
    assert len(jobs) == 4
    assert ["pairs.policy=best_random", "run.seed=2"] in jobs


def test_saved_config_comes_back_whole() -> None:
    config = compose_config([*ECHO, "run.seed=7"])
    config.cluster.runtime_env = {"env_vars": {"HF_TOKEN": "hf_secret", "PLAIN": "kept"}}
    config.generators["main"].system_prompt = "Cost: ${price} \\${x} \u2028 \x07"
    text = dump_config(config)
    assert "hf_secret" not in text
    loaded = read_saved_config(text, ["publish.repo_id=org/name"])
    assert loaded.publish.repo_id == "org/name"
    config.cluster.runtime_env["env_vars"]["HF_TOKEN"] = "<redacted>"
    config.publish.repo_id = "org/name"
    assert loaded == config


def test_saved_config_refuses_groups_and_unknown_keys() -> None:
    text = dump_config(compose_config(ECHO))
    with pytest.raises(ConfigError, match="publish=public: a finished run keeps its groups"):
        read_saved_config(text, ["publish=public"])
    with pytest.raises(ConfigError, match="repo"):
        read_saved_config(text, ["publish.repo=a/b"])


def test_conf_ships_with_the_project() -> None:
    assert (project_path("conf") / "config.yaml").is_file()
    assert (project_path("pipelines") / "preference.py").is_file()


@pytest.mark.parametrize("value", ["org/name", "org/repo:Q4_K_M", "./a file, b=c.gguf", "model.gguf"])
def test_model_puts_one_model_everywhere(value: str) -> None:
    config = compose_config(["experiment=demo", f"model={value}"])
    models = [config.generators["main"].model, config.judge.model]
    assert [(model.name, model.id) for model in models] == [("hub", value)] * 2


def test_model_takes_a_catalog_name_for_every_pipeline() -> None:
    assert compose_config(["experiment=single", "model=echo"]).judge.model.name == "echo"
    assert compose_config(["experiment=task_complexity", "pipeline=task", "model=tiny"]).task.model.name == "tiny"
    with pytest.raises(ConfigError, match="did you mean tiny"):
        compose_config(["experiment=demo", "model=tinny"])


def test_config_dir_that_is_none_is_named() -> None:
    with pytest.raises(ConfigError, match="--config-dir=/nowhere is not a directory"):
        compose_config(["experiment=echo"], "/nowhere")


def test_budget_of_thoughts_is_refused_where_nothing_tells_them_apart() -> None:
    budget = "generators.main.sampling.thinking_budget=64"
    with pytest.raises(ConfigError, match=r"main\.sampling\.thinking_budget=64 bounds nothing where .*parser=none"):
        compose_config(["experiment=tiny", budget, "generators.main.model.reasoning_parser=none"])
    assert compose_config(["experiment=tiny", budget]).generators["main"].sampling.thinking_budget == 64
    with pytest.raises(
        ConfigError, match=r"engine_args.reasoning_parser=qwen3 belongs in judge.model.reasoning_parser"
    ):
        compose_config(["experiment=tiny", "+judge.model.engine_args.reasoning_parser=qwen3"])
    with pytest.raises(ConfigError, match=r"judge.thinking_budget=0 must be at least 1"):
        compose_config(["experiment=tiny", "judge.thinking_budget=0"])


def test_aspects_of_several_scales_are_refused(tmp_path: Path) -> None:
    aspect = tmp_path / "judge/aspect/wit.yaml"
    aspect.parent.mkdir(parents=True)
    aspect.write_text("name: wit\nmin_rating: 0\nmax_rating: 10\nrubric: Funny?\n")
    compose_config([*ECHO, "judge.aspects=[wit]"], str(tmp_path))
    with pytest.raises(ConfigError, match=r"several scales \(honesty 1 to 5, wit 0 to 10\), but a score is their mean"):
        compose_config([*ECHO, "judge.aspects=[honesty,wit]"], str(tmp_path))
