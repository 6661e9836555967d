"""The card: metadata that the Hub accepts, numbers that the report holds, and text that can do nothing."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import DatasetCard
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it.token import Token
from test_markup import TEXTS, is_shown, parse

from synthgen.config import AspectConfig, Config, ExportColumns, GeneratorConfig, JudgeLayout, ModelConfig
from synthgen.config.compose import compose_config
from synthgen.publish.card import make_card, read_card_dataset
from synthgen.publish.card_config import public_config, public_location
from synthgen.publish.markup import plain, show_controls

DATASET = {
    "configs": [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*"}]},
        {"config_name": "kto", "data_files": [{"split": "train", "path": "kto/train-*"}]},
    ],
    "dataset_info": [
        {
            "config_name": "default",
            "features": [{"name": "prompt_id", "dtype": "string"}],
            "splits": [{"name": "train", "num_bytes": 9, "num_examples": 1500}],
        }
    ],
}


def make_config(text: str = "text", name: str = "name") -> Config:
    """A configuration with `text` wherever a user or a file may put any, and `name` wherever a name goes."""
    model = ModelConfig(name=name, id=f"org/{name}", revision=name, license="llama3.1", quantization=name)
    config = Config(generators={"main": GeneratorConfig(model=model, system_prompt=text)})
    config.judge.model = ModelConfig(name=name, id=name, license=name)
    config.judge.aspects = [name]
    config.judge.aspect = {name: AspectConfig(name=name, rubric=text)}
    config.prompts.path = name
    config.run.dir = "runs/x"
    config.publish.repo_id = "org/name"
    return config


def make_report(text: str = "text", name: str = "name") -> dict[str, Any]:
    turn = [{"role": name, "content": text}]
    return {
        "complete": True,
        "config_fingerprint": "0123456789abcdef",
        "git_commit": name,
        "versions": {"synthgen": "1.2.3", name: name},
        "prompts": {"rows_read": 20, "kept": 12, "duplicates": 5, "excluded": 0, "bad": {name: 3}},
        "stages": {"generate-main": {"units": 1, "rows": 48, "failed_rows": 0, "output_tokens": 12345, "busy_s": 1.5}},
        "pairs": {"made": 7, "prompts_with_pairs": 7, "ties": 2, "dropped_by_reason": {name: 3}},
        "trust": {"warnings": [name], "generators": {name: {"model": name, "win_rate": 0.625}}, "scored_by": name},
        "histograms": {"ratings": {"1": 3, "5": 9}},
        "sample_pair": {
            "prompt": turn,
            "chosen": turn,
            "rejected": turn,
            "chosen_model": name,
            "rejected_model": name,
            "chosen_score": 4.25,
            "rejected_score": 1.0,
        },
        "gpu_hours": 0.5,
    }


def split_card(card: str) -> tuple[dict[str, Any], str]:
    """Return metadata and body as the Hub splits them (its own regular expression)."""
    match = re.match(r"^(\s*---(?:\r\n|\r|\n))([\S\s]*?)((?:\r\n|\r|\n)---[ \t]*(\r\n|\n|$))", card)
    assert match
    return yaml.safe_load(match[2]), card[match.end() :]


def structure(tokens: list[Token]) -> list[tuple[str, str]]:
    return [(token.type, token.tag) for token in tokens]


def inline_kinds(tokens: list[Token]) -> set[str]:
    return {child.type for token in tokens for child in token.children or []}


def test_card_metadata_are_what_the_hub_reads() -> None:
    config = make_config()
    config.publish.language = "en, de"
    metadata, _ = split_card(make_card(make_report(), config, DATASET))
    assert metadata == {
        "language": ["en", "de"],
        "license": ["llama3.1", "other"],
        "license_name": "name",
        "annotations_creators": ["machine-generated"],
        "size_categories": ["1K<n<10K"],
        "task_categories": ["text-generation"],
        "pretty_name": "name",
        "tags": ["synthetic", "preference", "dpo", "kto", "rlaif", "distilabel", "synthgen"],
        **DATASET,
    }
    assert DatasetCard(make_card(make_report(), config, DATASET)).data.license == ["llama3.1", "other"]


def test_card_says_what_minimal_columns_and_a_directory_hold() -> None:
    config = make_config()
    config.export.columns = ExportColumns.minimal
    config.publish.repo_id = None
    configs = [{"config_name": name, "data_files": []} for name in ("default", "sharegpt", "ranked", "own")]
    _, body = split_card(make_card(make_report(), config, {"configs": configs}))
    for expected in (
        "| default | a preference pair for DPO: `prompt`, `chosen`, `rejected` |",
        "| default | TRL | DPO, reward | dataset_name: PATH_OR_REPO |",
        "| sharegpt | LLaMA-Factory | DPO | dataset_dir: PATH_OR_REPO, dataset: pairs |",
        "| ranked | NeMo-RL | DPO, reward | dataset_name: PreferenceDataset, data_path: PATH_OR_REPO, subset: ranked |",
    ):
        assert expected in body
    assert "token counts" not in body
    assert "torchtune" not in body


def test_card_says_how_it_was_made_and_the_numbers() -> None:
    _, body = split_card(make_card(make_report(), make_config(), DATASET))
    for expected in (
        'load_dataset("org/name")\nload_dataset("org/name", "kto")',
        "trl dpo --dataset_name org/name --model_name_or_path",
        "trl kto --dataset_name org/name --dataset_config kto",
        "| default | a preference pair for DPO",
        "train (1,500 rows)",
        "7 preference pairs: name wrote the completions, name rated them for name.",
        "| configuration fingerprint | 0123456789abcdef |",
        "| generator main | name | org/name | name | name | vllm | llama3.1 |",
        "| main | 4 | temperature 1.0, top_p 1.0, max_tokens 1024 |",
        "| rows of prompts read | 20 |",
        "| of these unreadable, name | 3 |",
        "| prompts without a pair, tie | 2 |",
        "| prompts without a pair, name | 3 |",
        "| generate-main | 1 | 48 | 0 | – | – | 12,345 | 1.5 |",
        "| GPU hours | 0.5 |",
        "![Ratings](figures/ratings.png)",
        "| name | name | 0.625 |",
        "Chosen, name, score 4.25:\n\n```text\ntext\n```",
        "Built with Llama.",
        'must begin with "Llama"',
        "and run with synthgen 1.2.3:",
    ):
        assert expected in body


def test_card_says_where_the_judge_saw_the_texts_before_the_rubric() -> None:
    config = make_config()
    assert "before the rubric" not in make_card(make_report(), config, DATASET)
    config.judge.layout = JudgeLayout.texts_first
    assert "texts shown before the rubric" in make_card(make_report(), config, DATASET)


def test_card_of_an_empty_report_invents_nothing() -> None:
    config = make_config()
    config.publish.repo_id = None
    metadata, body = split_card(make_card({}, config, {}))
    assert not {"size_categories", "configs", "dataset_info", "language", "pretty_name"} & metadata.keys()
    assert "## A pair" not in body
    assert "## How far" not in body
    assert "figures/" not in body
    assert "Preference pairs: name wrote" in body
    assert not re.search(r"\| pairs made|\| prompts used|\| GPU", body)


def test_card_makes_its_figures_from_the_same_histograms() -> None:
    from synthgen.publish.card import make_figures

    report = make_report()
    _, body = split_card(make_card(report, make_config(), DATASET))
    assert set(re.findall(r"\((figures/[^)]+)\)", body)) == set(make_figures(report))


NAMES = TEXTS.filter(lambda text: bool(plain(text, 200)) and not text.startswith(("/", "~", ".", "\\")))


@settings(max_examples=80, deadline=None)
@given(text=TEXTS.filter(bool), name=NAMES)
def test_hostile_text_changes_neither_metadata_nor_structure(text: str, name: str) -> None:
    calm_metadata, calm_body = split_card(make_card(make_report(), make_config(), DATASET))
    card = make_card(make_report(text, name), make_config(text, name), DATASET)
    assert is_shown(card)
    metadata, body = split_card(card)
    license_keys = {"license", "license_name", "license_link"}
    assert {k: v for k, v in metadata.items() if k not in license_keys} == {
        k: v for k, v in calm_metadata.items() if k not in license_keys
    }
    assert isinstance(metadata["license"], str | list)
    calm, tokens = parse(calm_body), parse(body)
    # A name that is a known licence, or private like a URL, changes what the card says of licences: leave those out.
    assert structure(_without_licences(tokens)) == structure(_without_licences(calm))
    assert inline_kinds(tokens) == inline_kinds(calm)
    assert {child.attrGet("src") for t in tokens for child in t.children or [] if child.type == "image"} == {
        "figures/ratings.png"
    }
    blocks = [token.content for token in tokens if token.type == "fence"]
    assert blocks.count(show_controls(text, keep="\n\t") + "\n") >= 5  # prompt, rubric and the sample pair's three


def _without_licences(tokens: list[Token]) -> list[Token]:
    headings = {
        token.content: index
        for index, token in enumerate(tokens)
        if token.type == "inline" and tokens[index - 1].tag == "h2"
    }
    return tokens[: headings["Licences"]] + tokens[headings["Reproduce"] :]


@settings(max_examples=40, deadline=None)
@given(text=TEXTS.filter(bool))
def test_the_configuration_in_the_card_is_the_configuration(text: str) -> None:
    from omegaconf import OmegaConf

    config = make_config(text)
    tokens = parse(split_card(make_card(make_report(), config, DATASET))[1])
    (block,) = [token.content for token in tokens if token.type == "fence" and token.info == "yaml"]
    read = OmegaConf.to_container(OmegaConf.create(block), resolve=True)
    assert read == json.loads(json.dumps(public_config(config)))
    assert read["generators"]["main"]["system_prompt"] == text  # type: ignore[index,call-overload]


@pytest.mark.parametrize("experiment", ["echo", "demo", "llama31_ultrafeedback"])
def test_the_card_reproduces_the_run(tmp_path: Path, experiment: str) -> None:
    overrides = [f"experiment={experiment}", "run.seed=5", "prompts.limit=7", "pairs.min_margin=0.5"]
    config = compose_config([*overrides, "run.dir=runs/again"])
    config.generators["main"] = next(iter(config.generators.values()))
    config.generators["main"].system_prompt = "Say ${nothing} and ```\n---\n\\${x} \x00"
    tokens = parse(split_card(make_card(make_report(), config, DATASET))[1])
    (block,) = [token.content for token in tokens if token.type == "fence" and token.info == "yaml"]
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/again.yaml").write_text(block)
    again = compose_config(["experiment=again", "run.dir=runs/again"], str(tmp_path))
    again.run = replace(again.run, overrides=config.run.overrides, config_dir=config.run.config_dir)
    assert asdict(again) == asdict(config)


def test_card_shows_no_secret_and_no_private_path() -> None:
    config = make_config()
    model = config.generators["main"].model
    model.id = "/home/alice/secret-project/llama"
    model.engine_args = {"hf_token": "hf_private", "nested": {"api_key": "sk-private"}, "max_tokens": 7}
    model.endpoint.base_url = "http://user:private@inside.example:8000/v1"
    model.endpoint.api_key_env = "MY_KEY"
    config.prompts.path = "s3://user:private@bucket/prompts.jsonl?X-Amz-Signature=private"
    config.prompts.exclude = ["/home/alice/eval.jsonl"]
    config.cluster.runtime_env = {"env_vars": {"TOKEN": "private"}}
    card = make_card(make_report(), config, DATASET)
    assert "private" not in card.replace("was private", "")
    assert "alice" not in card
    assert "inside.example" not in card
    assert "s3://bucket/prompts.jsonl" in card
    assert "hf_token: <redacted>" in card
    assert "max_tokens: 7" in card
    assert "api_key_env: MY_KEY" in card
    assert "- eval.jsonl" in card


@pytest.mark.parametrize(
    ("path", "public"),
    [
        ("org/name", "org/name"),
        ("data/prompts.jsonl", "data/prompts.jsonl"),
        ("builtin:tiny", "builtin:tiny"),
        ("/home/alice/x.jsonl", "x.jsonl"),
        ("~/x/", "x"),
        ("../x.jsonl", "x.jsonl"),
        ("C:\\Users\\alice\\x.jsonl", "x.jsonl"),
        ("https://a:b@host/x.jsonl?sig=1#f", "https://host/x.jsonl"),
    ],
)
def test_public_location(path: str, public: str) -> None:
    assert public_location(path) == public


@settings(deadline=None)
@given(st.text(max_size=200))
def test_read_card_dataset_of_any_text_is_nothing_or_what_it_holds(text: str) -> None:
    assert read_card_dataset(text) == {}


def test_read_card_dataset_gives_back_what_the_card_was_made_with() -> None:
    assert read_card_dataset(make_card(make_report(), make_config(), DATASET)) == DATASET
