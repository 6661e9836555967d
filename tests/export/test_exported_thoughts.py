"""Thoughts in the data set: nowhere, in columns, or where a chat template reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from exported_runs import export_units, make_unit, rows_of

from synthgen.config import Config, ExportColumns, ExportConfig, ExportReasoning
from synthgen.config.compose import compose_config
from synthgen.errors import ConfigError
from synthgen.export import formats
from synthgen.records import KTO_SCHEMA, PAIRS_SCHEMA, REASONING_FIELDS, SCORED_GENERATIONS_SCHEMA, Tables

SIDES = ("chosen", "rejected")
FORMATS = list(formats.FORMATS)
# As the templates of the two families have it: Qwen3's turn with its thought, gpt-oss's analysis channel before final.
QWEN3 = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.role == 'assistant' and message.reasoning_content is string %}"
    "{{- '<think>\\n' + message.reasoning_content.strip('\\n') + '\\n</think>\\n\\n' }}{%- endif %}"
    "{{- message.content + '<|im_end|>\\n' }}{%- endfor %}"
)
GPT_OSS = (
    "{%- for message in messages %}{%- if message.role == 'assistant' %}"
    "{%- if message.thinking %}{{- '<|start|>assistant<|channel|>analysis<|message|>' + message.thinking + '<|end|>' }}"
    "{%- endif %}{{- '<|start|>assistant<|channel|>final<|message|>' + message.content + '<|return|>' }}"
    "{%- else %}{{- '<|start|>' + message.role + '<|message|>' + message.content + '<|end|>' }}{%- endif %}"
    "{%- endfor %}"
)


def make_thinking(unit: int, generators: tuple[str, ...] = ("main",)) -> Tables:
    """Return a unit whose completions think, but for the samples 3; in unit 1 nothing thinks."""
    tables = dict(make_unit(unit, generators=generators))
    if unit == 1:
        return tables
    for name in generators:
        table = tables[f"generate-{name}"]
        thinks = [row["sample_index"] != 3 and row["text"] is not None for row in table.to_pylist()]
        ids = table["completion_id"].to_pylist()
        thoughts = [f"Thought of {one}." if thought else None for one, thought in zip(ids, thinks, strict=True)]
        total = [(n or 0) + 3 * thought for n, thought in zip(table["output_tokens"].to_pylist(), thinks, strict=True)]
        place = table.schema.get_field_index("output_tokens")
        table = table.set_column(place, table.schema.field(place), pa.array(total, pa.int32()))
        table = table.append_column(REASONING_FIELDS[0], pa.array(thoughts, pa.string()))
        counted = pa.array([3 if thought else None for thought in thinks], pa.int32())
        tables[f"generate-{name}"] = table.append_column(REASONING_FIELDS[1], counted)
    return tables


def make_config(reasoning: ExportReasoning, **more: Any) -> Config:
    return Config(export=ExportConfig(reasoning=reasoning, formats=FORMATS, **more))


def test_dropped_thoughts_leave_the_data_set_as_it_would_be_without_them(tmp_path: Path) -> None:
    thinking = export_units(tmp_path / "a", 3, make_config(ExportReasoning.drop), make=make_thinking)
    plain = export_units(tmp_path / "b", 3, make_config(ExportReasoning.drop))
    assert thinking.schemas == plain.schemas
    for name in ("default", "kto", *FORMATS):
        if name != "jsonl":
            assert rows_of(tmp_path / "a", thinking, name) == rows_of(tmp_path / "b", plain, name)


@pytest.mark.parametrize("columns", ExportColumns)
def test_thoughts_in_columns_are_those_of_their_answers(tmp_path: Path, columns: ExportColumns) -> None:
    result = export_units(tmp_path, 3, make_config(ExportReasoning.column, columns=columns), make=make_thinking)
    pairs = rows_of(tmp_path, result, "default")
    names = [*PAIRS_SCHEMA.names] if columns is ExportColumns.all else ["prompt", "chosen", "rejected"]
    assert list(pairs[0]) == [*names, "chosen_reasoning", "rejected_reasoning"]
    thoughts = [row[f"{side}_reasoning"] for row in pairs for side in SIDES]
    assert None in thoughts
    assert any(thoughts)
    if columns is ExportColumns.all:
        assert [*KTO_SCHEMA.names, "reasoning"] == list(rows_of(tmp_path, result, "kto")[0])
        for row in pairs:
            for side in SIDES:
                assert row[f"{side}_reasoning"] in (None, f"Thought of {row[f'{side}_completion_id']}.")
                assert row[f"{side}_tokens"] == len(row[side][0]["content"].split())
    generations = rows_of(tmp_path, result, "generations")
    assert list(generations[0])[: len(SCORED_GENERATIONS_SCHEMA.names)] == SCORED_GENERATIONS_SCHEMA.names
    assert {row["reasoning_tokens"] for row in generations} == {3, None}
    datasets.load_dataset(str(tmp_path / "dataset"), cache_dir=str(tmp_path / "cache"))


@pytest.mark.parametrize(("key", "template"), [("reasoning_content", QWEN3), ("thinking", GPT_OSS)])
def test_inline_thoughts_are_rendered_by_the_chat_templates_that_read_them(
    tmp_path: Path, tiny_model_dir: Path, key: str, template: str
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    config = make_config(ExportReasoning.inline, reasoning_key=key)
    result = export_units(tmp_path, 3, config, make=make_thinking)
    loaded = datasets.load_dataset(str(tmp_path / "dataset"), split="train", cache_dir=str(tmp_path / "cache"))
    thoughts = 0
    for row in loaded:
        for side in SIDES:
            (turn,) = row[side]
            text = tokenizer.apply_chat_template(row["prompt"] + row[side], chat_template=template, tokenize=False)
            thought = turn[key]
            assert thought in (None, f"Thought of {row[f'{side}_completion_id']}.")
            assert turn["content"] in text
            assert text.count("Thought of") == (thought is not None)
            assert ("<think>" in text or "analysis" in text) == (thought is not None)
            thoughts += thought is not None
    assert 0 < thoughts < 2 * len(loaded)
    for name in ("sft", "conversations", "kto_conversations"):
        for row in rows_of(tmp_path, result, name):
            turns = next(row[column] for column in ("messages", "chosen", "completion") if column in row)
            assert all(turn[key] is None for turn in turns[:-1])
            assert key in turns[-1]
    ranked = rows_of(tmp_path, result, "ranked")
    assert any(entry["completion"][0][key] for row in ranked for entry in row["completions"])
    for name in ("text", "hh", "ultrafeedback", "sharegpt", "sharegpt_sft"):
        assert "Thought of" not in str(rows_of(tmp_path, result, name))
    assert "Thought of" not in next((tmp_path / "dataset" / "jsonl").glob("*.jsonl")).read_text()


def test_trl_renders_the_inline_thought_into_what_it_trains_on(tmp_path: Path, tiny_model_dir: Path) -> None:
    from transformers import AutoTokenizer
    from trl.data_utils import apply_chat_template

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    tokenizer.chat_template = QWEN3
    export_units(tmp_path, 1, make_config(ExportReasoning.inline), make=make_thinking)
    loaded = datasets.load_dataset(str(tmp_path / "dataset"), split="train", cache_dir=str(tmp_path / "cache"))
    row = next(row for row in loaded if row["chosen"][0]["reasoning_content"])
    text = apply_chat_template({side: row[side] for side in ("prompt", *SIDES)}, tokenizer)
    assert f"<think>\n{row['chosen'][0]['reasoning_content']}\n</think>\n\n" in text["chosen"]
    assert row["chosen"][0]["content"] in text["chosen"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["export.reasoning_key=content"], "export.reasoning_key='content' cannot name a field of a turn"),
        (["export.reasoning_key='a b'"], "cannot name a field"),
        (["generators.main.sampling.thinking_budget=0"], "sampling.thinking_budget=0 must be at least 1"),
        (["+generators.main.model.chat_template_kwargs.tokenize=true"], "chat_template_kwargs.tokenize is set by"),
    ],
)
def test_settings_of_thoughts_that_cannot_work_are_named(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose_config(["experiment=echo", *overrides])
