"""The exports by the rules of the trainers' loaders, written down from the sources of the versions named.

`make trainers` reads the same rows with the loaders themselves; what stands here keeps their rules when none of them is
installed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import trl
from exported_runs import export_units, rows_of
from judged_tables import make_completion, make_judgement, to_generations, to_judgements
from trainers.pairs import ODD_PROMPTS, make_unit

from synthgen.config import Config, ExportColumns, ExportConfig, PairsConfig
from synthgen.export import ExportResult
from synthgen.export.dataset_info import DATASET_INFO
from synthgen.export.formats import FORMATS, make_sft
from synthgen.export.sharegpt import align_turns, name_turns
from synthgen.models.tiny import ensure_tiny_model
from synthgen.pairs import pair_unit

Row = dict[str, Any]
Run = tuple[Path, ExportResult]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    datasets.disable_progress_bars()


@pytest.fixture(scope="module", params=list(ExportColumns))
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("run")
    export = ExportConfig(test_fraction=0.25, formats=list(FORMATS), columns=request.param)
    return path, export_units(path, 1, Config(export=export), make=partial(make_unit, tools=True))


def load(run: Run, config: str, split: str = "train") -> list[Row]:
    """Return a config's rows as `datasets` gives them, which is how each of these trainers reads them."""
    return list(datasets.load_dataset(str(run[0] / "dataset"), config, split=split))


def read_by_llamafactory(entry: Mapping[str, Any], row: Row) -> tuple[str, list[Row], list[Row]]:
    """LLaMA-Factory 0.9.5, `SharegptDatasetConverter`: system text, prompt and completions of a row, in our names."""
    tags, columns = entry["tags"], entry["columns"]
    turns = row[columns["messages"]]
    system = ""
    if turns and turns[0][tags["role_tag"]] == tags["system_tag"]:
        system, turns = turns[0][tags["content_tag"]], turns[1:]
    sides = ({tags["user_tag"], tags["observation_tag"]}, {tags["assistant_tag"], tags["function_tag"]})
    for index, turn in enumerate(turns):
        assert turn[tags["role_tag"]] in sides[index % 2], "left out: roles do not alternate"
    assert len(turns) % 2 == (1 if entry.get("ranking") else 0), "left out: a wrong number of turns"
    names = {tags["user_tag"]: "user", tags["assistant_tag"]: "assistant", tags["observation_tag"]: "tool"}

    def rename(turn: Row) -> Row:
        return {"role": names[turn[tags["role_tag"]]], "content": turn[tags["content_tag"]]}

    if entry.get("ranking"):
        answers = [row[columns[side]] for side in ("chosen", "rejected")]
        assert all(isinstance(answer, dict) for answer in answers), "left out: not one message"
        return system, [rename(turn) for turn in turns], [rename(answer) for answer in answers]
    return system, [rename(turn) for turn in turns[:-1]], [rename(turns[-1])]


def load_by_llamafactory(run: Run, name: str) -> tuple[dict[str, Any], list[Row]]:
    """`get_dataset_list` and `_load_single_dataset`: an entry of `dataset_info.json`, and the rows that it names."""
    entry = json.loads((run[0] / "dataset" / DATASET_INFO).read_text())[name]
    assert entry["formatting"] == "sharegpt"
    path = str(run[0] / "dataset" / entry["script_url"])
    return entry, list(datasets.load_dataset(path, entry["subset"], split=entry["split"]))


def split_system(messages: list[Row]) -> tuple[str, list[Row]]:
    first = messages[0]
    return (first["content"], messages[1:]) if first["role"] == "system" else ("", messages)


@pytest.mark.parametrize("split", ["train", "test"])
def test_llamafactory_uses_every_pair(run: Run, split: str) -> None:
    pairs = rows_of(*run, "default", split)
    entry, rows = load_by_llamafactory(run, "pairs" if split == "train" else "pairs_test")
    assert len(rows) == len(pairs) > 0
    for row, pair in zip(rows, pairs, strict=True):
        system, prompt, answers = read_by_llamafactory(entry, row)
        assert (system, prompt) == split_system([dict(turn) for turn in align_turns(pair["prompt"])])
        assert answers == pair["chosen"] + pair["rejected"]


@pytest.mark.parametrize("split", ["train", "test"])
def test_llamafactory_uses_every_kto_and_sft_row(run: Run, split: str) -> None:
    end = "" if split == "train" else "_test"
    for name, config in (("kto", "kto"), ("sft", "sft")):
        expected = rows_of(*run, config, split)
        entry, rows = load_by_llamafactory(run, name + end)
        assert len(rows) == len(expected) > 0
        for row, own in zip(rows, expected, strict=True):
            system, prompt, answers = read_by_llamafactory(entry, row)
            messages = own["prompt"] + own["completion"] if name == "kto" else own["messages"]
            assert (system, prompt) == split_system([dict(turn) for turn in align_turns(messages[:-1])])
            assert answers == messages[-1:]
            if name == "kto":
                assert row[entry["columns"]["kto_tag"]] is own["label"]


@pytest.mark.parametrize("config", ["conversations", "ultrafeedback"])
def test_trainers_that_take_all_but_the_last_turn_for_the_prompt_find_it(run: Run, config: str) -> None:
    """open-instruct e6c3044 (`preference_tokenize_v1`), alignment-handbook 0.3 (`apply_chat_template`, task dpo),
    axolotl 0.19 (`argilla_chat`), OpenRLHF 0.11.2 without a prompt column; torchtune 0.6.1 takes both as they are."""
    pairs = rows_of(*run, "default")
    rows = load(run, config)
    assert len(rows) == len(pairs) > 0
    for row, pair in zip(rows, pairs, strict=True):
        assert "prompt" not in row  # TRL would take it for the whole prompt
        for side in ("chosen", "rejected"):
            assert row[side][:-1] == pair["prompt"]
            assert row[side][-1:] == pair[side]


def test_axolotl_finds_prompt_and_completion_of_kto_rows_in_one_conversation(run: Run) -> None:
    """axolotl 0.19, `kto/chatml.argilla_chat`: the last turn of `completion` is the completion."""
    for row, own in zip(load(run, "kto_conversations"), rows_of(*run, "kto"), strict=True):
        assert row["completion"][-1:] == own["completion"]
        assert row["completion"][:-1] == align_turns(own["prompt"])
        assert row["label"] is own["label"]


def test_nemo_rl_finds_the_better_completion_by_its_rank(run: Run) -> None:
    """NeMo-RL 7ea279a, `preference_preprocessor`: two completions, of which the lower rank is preferred."""
    for row, pair in zip(load(run, "ranked"), rows_of(*run, "default"), strict=True):
        assert row["context"] == pair["prompt"]
        better, worse = sorted(row["completions"], key=lambda entry: entry["rank"])
        assert better["rank"] < worse["rank"]
        assert (better["completion"], worse["completion"]) == (pair["chosen"], pair["rejected"])


def test_verl_reads_strings_and_messages_from_the_files(run: Run) -> None:
    """verl 0.9.1: `RMDataset` tokenizes prompt, chosen, rejected as they are; `MultiTurnSFTDataset` takes messages."""
    import pandas as pd

    path, result = run
    files = {file.config: path / file.path for file in result.files if file.split == "train"}
    text = pd.read_parquet(files["text"])
    assert text[["prompt", "chosen", "rejected"]].map(lambda value: isinstance(value, str)).all(axis=None)
    messages = pd.read_parquet(files["sft"], dtype_backend="pyarrow")["messages"]
    assert [[dict(turn) for turn in turns] for turns in messages] == [row["messages"] for row in rows_of(*run, "sft")]


@pytest.mark.parametrize(
    ("columns", "config"),
    [
        (ExportColumns.all, "conversations"),
        (ExportColumns.all, "ultrafeedback"),
        (ExportColumns.minimal, "default"),
    ],
)
def test_trl_trains_on_it(tmp_path: Path, columns: ExportColumns, config: str) -> None:
    """With all columns the default config is trained on in jobs/test_train.py."""
    export = ExportConfig(formats=["conversations", "ultrafeedback"], columns=columns)
    export_units(tmp_path, 1, Config(export=export), make=make_unit)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        trainer = trl.DPOTrainer(
            model=str(ensure_tiny_model()),
            args=trl.DPOConfig(
                output_dir=str(tmp_path / "out"),
                max_steps=1,
                per_device_train_batch_size=2,
                bf16=False,
                gradient_checkpointing=False,
                report_to=[],
                save_strategy="no",
            ),
            train_dataset=datasets.load_dataset(str(tmp_path / "dataset"), config, split="train"),
        )
        assert trainer.train().training_loss == pytest.approx(0.6931, abs=1e-3)  # log 2: the model is its reference
    finally:
        torch.set_num_threads(threads)


def test_minimal_columns_are_what_trainers_read(tmp_path: Path) -> None:
    export = ExportConfig(formats=list(FORMATS), columns=ExportColumns.minimal)
    result = export_units(tmp_path, 1, Config(export=export), make=make_unit)
    full = export_units(tmp_path / "full", 1, Config(export=ExportConfig(formats=list(FORMATS))), make=make_unit)
    assert {name: schema.names for name, schema in result.schemas.items() if name != "generations"} == {
        "default": ["prompt", "chosen", "rejected"],
        "kto": ["prompt", "completion", "label"],
        "sft": ["messages"],
        "text": ["prompt", "chosen", "rejected"],
        "hh": ["chosen", "rejected"],
        "ultrafeedback": ["instruction", "chosen", "rejected"],
        "conversations": ["chosen", "rejected"],
        "kto_conversations": ["completion", "label"],
        "sharegpt": ["conversations", "chosen", "rejected"],
        "sharegpt_sft": ["conversations"],
        "ranked": ["context", "completions"],
        "jsonl": ["input", "preferred_output", "non_preferred_output"],
    }
    assert result.schemas["generations"] == full.schemas["generations"]
    assert (result.counts, result.margins, result.sample_pair) == (full.counts, full.margins, full.sample_pair)
    for name, schema in result.schemas.items():
        if name != "jsonl":
            wanted = [{key: row[key] for key in schema.names} for row in rows_of(tmp_path / "full", full, name)]
            assert rows_of(tmp_path, result, name) == wanted


def test_align_turns_makes_odd_conversations_alternate() -> None:
    assert {name: align_turns(messages) for name, messages in ODD_PROMPTS.items()} == {
        "two users": [{"role": "user", "content": "One.\n\nTwo."}],
        "assistant first": [
            {"role": "user", "content": ""},
            {"role": "assistant", "content": "Welcome."},
            {"role": "user", "content": "Thanks."},
        ],
        "late system": [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hi."},
            {"role": "user", "content": "Now in French.\n\nGo on."},
        ],
    }


def test_align_turns_leaves_what_alternates_as_it_is() -> None:
    for row in make_unit(0, odd=False, tools=True)["prompts"].to_pylist():
        assert align_turns(row["messages"]) == row["messages"]


def test_align_turns_joins_answers_of_tools_and_takes_null_for_no_text() -> None:
    turns: list[Any] = [
        {"role": "system", "content": "One."},
        {"role": "system", "content": "Two."},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None},
        {"role": "tool", "content": "20"},
        {"role": "tool", "content": "wind"},
        {"role": "user", "content": "And?"},
    ]
    assert name_turns(align_turns(turns)) == [
        {"from": "system", "value": "One.\n\nTwo."},
        {"from": "human", "value": "Weather?"},
        {"from": "gpt", "value": ""},
        {"from": "human", "value": "20\n\nwind\n\nAnd?"},
    ]
    assert name_turns(align_turns([*turns[2:6], {"role": "assistant", "content": "Windy."}, turns[6]])) == [
        {"from": "human", "value": "Weather?"},
        {"from": "gpt", "value": ""},
        {"from": "observation", "value": "20\n\nwind"},
        {"from": "gpt", "value": "Windy."},
        {"from": "human", "value": "And?"},
    ]


def test_sft_leaves_out_what_the_model_did_not_end_itself() -> None:
    """A scorer of one's own may score such texts; the judge does not."""
    prompt_id = make_unit(0)["prompts"]["prompt_id"][0].as_py()
    ends = ("content_filter", "length", "stop", None)
    rows = [make_completion(prompt_id, i, f"Text {i}.", finish_reason=end) for i, end in enumerate(ends)]
    block = pair_unit(
        make_unit(0)["prompts"].slice(0, 1),
        to_generations(rows),
        to_judgements([make_judgement(prompt_id, [5, 4, 3, 2])]),
        PairsConfig(),
        use_expected=False,
        run_seed=0,
    )
    (row,) = make_sft(block, Config()).to_pylist()
    assert row["messages"][-1]["content"] == "Text 2."


def test_dataset_info_is_written_with_sharegpt_alone_and_names_what_was_exported(tmp_path: Path) -> None:
    export_units(tmp_path, 1, Config(export=ExportConfig(formats=["sft", "kto_conversations"])))
    assert not (tmp_path / "dataset" / DATASET_INFO).exists()
    export_units(tmp_path, 1, Config(export=ExportConfig(formats=["sharegpt"])))
    assert list(json.loads((tmp_path / "dataset" / DATASET_INFO).read_text())) == ["pairs"]
