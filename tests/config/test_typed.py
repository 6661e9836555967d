"""Overrides keep the text that was typed, remove nothing that must be there, and add no key that nothing reads."""

from __future__ import annotations

import pytest

from synthgen.config.compose import compose_config, sweep
from synthgen.config.saved import dump_config, read_saved_config
from synthgen.config.typed import keep_texts
from synthgen.errors import ConfigError

ECHO = "experiment=echo"
TEXTS = [
    "1.10",
    "no",
    "Yes",
    "on",
    "1e3",
    "7e10",
    "1.5e3",
    "0123",
    "0x1f",
    "1_000",
    "2026-01-01",
    "12:30",
    "true",
    "inf",
]


@pytest.mark.parametrize("text", TEXTS)
def test_text_is_what_was_typed(text: str) -> None:
    config = compose_config(
        [
            ECHO,
            f"publish.tag={text}",
            f"publish.language={text}",
            f"++generators.main.model.revision={text}",
            f"generators.main.sampling.stop=[{text},b,'{text}']",
            f"prompts.path={text}",
            f"prompts.exclude=[{text},{{path:a,config:{text}}}]",
            f"+judge.model.endpoint.extra_headers.X-Number={text}",
            f"run.dir={text}",
        ]
    )
    assert (config.publish.tag, config.publish.language) == (text, text)
    assert config.generators["main"].model.revision == text
    assert config.generators["main"].sampling.stop == [text, "b", text]
    assert config.prompts.path == text
    assert config.prompts.exclude == [text, {"path": "a", "config": text}]
    assert config.judge.model.endpoint.extra_headers == {"X-Number": text}
    assert config.run.dir == text
    assert read_saved_config(dump_config(config)) == config


@pytest.mark.parametrize("text", TEXTS)
def test_text_over_a_saved_configuration_is_what_was_typed(text: str) -> None:
    saved = dump_config(compose_config([ECHO]))
    assert read_saved_config(saved, [f"publish.tag={text}"]).publish.tag == text
    assert read_saved_config(saved, [f"judge.model.license={text}"]).judge.model.license == text


def test_numbers_and_null_stay_what_they_are() -> None:
    config = compose_config([ECHO, "run.seed=10", "run.max_usd=1.10", "publish.tag=null", "judge.expected=no"])
    assert (config.run.seed, config.run.max_usd, config.publish.tag, config.judge.expected) == (10, 1.1, None, False)
    assert compose_config(["experiment=task_complexity", "+task.kwargs.x=1.10"]).task.kwargs["x"] == 1.1
    assert compose_config([ECHO, "prompts.path=[a.jsonl,1.10]"]).prompts.path == ["a.jsonl", "1.10"]


def test_sweep_over_texts() -> None:
    jobs = sweep([ECHO, "publish.tag=1.10,1.20"])
    assert [compose_config(job).publish.tag for job in jobs] == ["1.10", "1.20"]


@pytest.mark.parametrize(
    "override",
    [
        "publish.tag='1.10'",
        'publish.tag="a,b"',
        "publish.tag=${run.dir}",
        "run.seed=3",
        "judge=ratings_only",
        "~x.y",
        "a@b=1.0",
    ],
)
def test_other_overrides_are_left_alone(override: str) -> None:
    assert keep_texts([override]) == [override]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "+generators.main.samplingg.temperature=0.3",
            "generators.main.samplingg is not .*mean generators.main.sampling?",
        ),
        ("+judge.max_token=7", "judge.max_token is not a configuration key; did you mean judge.max_tokens"),
        ("++judge.max_tokenz=7", "judge.max_tokenz is not a configuration key; did you mean judge.max_tokens"),
        ("+generators.main.sampling.temprature=1", "did you mean generators.main.sampling.temperature"),
        ("+generators.second.num=2", "generators.second.num is not a configuration key"),
        ("+prompts.colum=x", "did you mean prompts.column"),
        ("+jugde.orders=2", "jugde is not a configuration key; did you mean judge"),
        ("+foo=1", "foo is not a configuration key"),
        ("+judge.aspect.mine.rubrik=x", "did you mean judge.aspect.mine.rubric"),
    ],
)
def test_added_key_that_nothing_reads_is_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose_config([ECHO, override])


def test_added_keys_that_something_reads_are_taken() -> None:
    config = compose_config(
        [ECHO, "+model@generators.second.model=echo", "generators.second.n=2", "+judge.model.engine_args.seed=3"]
    )
    assert config.generators["second"].n == 2
    assert config.judge.model.engine_args == {"seed": 3}
    config = compose_config([ECHO, "+model@generators.other.model=echo", "~generators.main"])
    assert list(config.generators) == ["other"]


@pytest.mark.parametrize(
    "override",
    [
        "pairs=null", "~pairs", "~prompts", "prompts=null", "cluster=null", "publish=null", "experiment=null",
        "run=null", "~run.seed", "judge.model=null", "generators=null", "task=null", "generators.main=null",
        "generators.main.sampling=null", "~judge.aspects",
    ],
)  # fmt: skip
def test_parts_of_every_run_are_not_removed(override: str) -> None:
    with pytest.raises(ConfigError, match="is a part of every run and cannot be removed; ") as error:
        compose_config([ECHO, override])
    assert "\n" not in str(error.value)
