"""What people reported of other tools that read prompts: each file is read here, or refused with the reason."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, Sequence, Value

from synthgen.config import PromptsConfig
from synthgen.errors import ConfigError
from synthgen.prompts import PromptSource


def read(path: Path | str, **options: Any) -> list[dict[str, Any]]:
    source = PromptSource(PromptsConfig(path=str(path), **options))
    return [row for table in source.tables(1000) for row in table.to_pylist()]


def read_texts(path: Path | str, **options: Any) -> list[list[str]]:
    return [[turn["content"] for turn in row["messages"]] for row in read(path, **options)]


def write_jsonl(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_conversations_as_pandas_writes_them(tmp_path: Path) -> None:
    """https://github.com/hiyouga/LlamaFactory/issues/2571"""
    turns = [
        {"from": "human", "loss": None, "value": "You are in a room."},
        {"from": "gpt", "loss": True, "value": "ACTION: go to bed 1"},
        {"from": "human", "loss": None, "value": "On the bed 1, you see a pillow."},
        {"from": "gpt", "loss": True, "value": "ACTION: take pillow"},
    ]
    frame = pd.DataFrame({"conversations": [turns, turns[:2]], "id": ["alfworld_0", "alfworld_1"]})
    frame.to_json(tmp_path / "a.json")
    assert [len(texts) for texts in read_texts(tmp_path / "a.json")] == [3, 1]


def test_roles_of_tools_are_read_or_refused_by_name(tmp_path: Path) -> None:
    """https://github.com/hiyouga/LlamaFactory/issues/2529"""

    def write(call: str, role: str = "observation") -> Path:
        turns = [{"from": "human", "value": "Weather?"}, {"from": "function_call", "value": call}]
        turns += [{"from": role, "value": "sunny"}, {"from": "human", "value": "And now?"}]
        return write_jsonl(tmp_path / "a.jsonl", {"conversations": turns})

    [row] = read(write('{"name": "weather", "arguments": {}}'))
    assert [turn["role"] for turn in row["messages"]] == ["user", "assistant", "tool", "user"]
    with pytest.raises(ConfigError, match="a call names no tool"):
        read(write("{}"))
    with pytest.raises(ConfigError, match="unknown role 'oracle'; there are "):
        read(write("{}", role="oracle"))


def test_local_name_is_never_looked_for_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """https://github.com/axolotl-ai-cloud/axolotl/issues/2709, …/issues/1868"""
    monkeypatch.chdir(tmp_path)
    for path in ("mydata.jsonl", "data/orpo1.json"):
        with pytest.raises(ConfigError, match=f"prompts.path={path} does not exist"):
            read(path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "orpo1.json").write_text('[{"prompt": "a", "chosen": "b", "rejected": "c"}]')
    assert read_texts("data/orpo1.json") == [["a"]]


def test_directory_of_save_to_disk(tmp_path: Path) -> None:
    """https://github.com/axolotl-ai-cloud/axolotl/issues/1430, https://github.com/huggingface/datasets/issues/7018"""
    Dataset.from_dict({"prompts": ["a"], "prompt": ["b"]}).save_to_disk(tmp_path / "saved")
    assert read_texts(tmp_path / "saved") == [["b"]]
    Dataset.from_dict({"prompt": ["c"]}).save_to_disk(tmp_path / "both" / "train")
    Dataset.from_dict({"prompt": ["d"]}).save_to_disk(tmp_path / "both" / "test")
    assert read_texts(tmp_path / "both") == [["c"]]
    assert read_texts(tmp_path / "both", split="test") == [["d"]]


def test_types_that_change_from_row_to_row(tmp_path: Path) -> None:
    """https://github.com/huggingface/datasets/issues/6460, /6324, /7222, https://github.com/RUC-NLPIR/FlashRAG/issues/132"""
    rows = [{"prompt": f"q{i}", "ner": None, "note": None} for i in range(1300)]
    odd = [{"prompt": "x", "ner": [[0, 4, "Protein"]], "note": "1a"}, {"prompt": "y", "ner": {"a": 1}, "note": 2}]
    read_rows = read(write_jsonl(tmp_path / "a.jsonl", *rows, *odd))
    assert len(read_rows) == 1302
    assert json.loads(read_rows[-2]["metadata"]) == {"ner": [[0, 4, "Protein"]], "note": "1a"}
    assert json.loads(read_rows[-1]["metadata"]) == {"ner": {"a": 1}, "note": 2}


def test_text_that_looks_like_a_schema(tmp_path: Path) -> None:
    """https://github.com/huggingface/datasets/issues/7664"""
    body = "### Describe the bug (...) ,action: string, datetime: timestamp[s], author: string, Pandas version: 1.3.4"
    assert read_texts(write_jsonl(tmp_path / "a.jsonl", {"prompt": body, "id": 1})) == [[body]]


def test_metadata_column_of_text(tmp_path: Path) -> None:
    """https://github.com/huggingface/datatrove/issues/350"""
    pq.write_table(pa.table({"text": ["q"], "metadata": ['{"a": 1}']}), tmp_path / "a.parquet")
    (row,) = read(tmp_path / "a.parquet")
    assert json.loads(row["metadata"]) == {"metadata": '{"a": 1}'}


def test_contents_that_are_texts_here_and_lists_there(tmp_path: Path) -> None:
    """https://github.com/huggingface/datasets/issues/7322 and other sets for models that see"""
    seen = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]}]
    said = [{"role": "user", "content": "Why?"}]
    parts = [{"role": "user", "content": [{"type": "text", "text": "Why"}, {"type": "text", "text": " not?"}]}]
    llava = [{"from": "human", "value": "<image>\nWhat is this?"}, {"from": "gpt", "value": "A cat."}]
    rows = [{"messages": seen}, {"messages": said}, {"messages": parts}, {"messages": llava, "image": "coco/1.jpg"}]
    path = write_jsonl(tmp_path / "a.jsonl", *rows)
    source = PromptSource(PromptsConfig(path=str(path), max_bad_fraction=0.5))
    texts = [row["messages"][0]["content"] for table in source.tables(9) for row in table.to_pylist()]
    assert texts == ["Why?", "Why not?"]
    assert source.stats.bad == {"not_text": 2}


def test_sequence_of_dicts_is_a_dict_of_lists(tmp_path: Path) -> None:
    """https://github.com/huggingface/datasets/issues/888, /7569"""
    features = Features({"conversations": Sequence({"from": Value("string"), "value": Value("string")})})
    turns = {"from": ["human", "gpt", "human"], "value": ["a", "b", "c"]}
    made = Dataset.from_list([{"conversations": turns}], features=features)
    made.to_parquet(tmp_path / "a.parquet")
    write_jsonl(tmp_path / "b.jsonl", {"conversations": {"from": ["human", "gpt", "human"], "value": ["a", "b", "c"]}})
    assert read_texts(tmp_path / "a.parquet") == read_texts(tmp_path / "b.jsonl") == [["a", "b", "c"]]


def test_objects_over_several_lines(tmp_path: Path) -> None:
    """https://github.com/huggingface/datasets/issues/1784: one object after another, each over several lines"""
    (tmp_path / "a.json").write_text('{"prompt": "a",\n "n": 1}\n{"prompt": "b",\n "n": 2}\n')
    assert read_texts(tmp_path / "a.json") == [["a"], ["b"]]
    (tmp_path / "b.json").write_text('{"prompt": "a",\n "n": 1}\n{"prompt": "b",\n "n": \n')
    with pytest.raises(ConfigError, match=r"b\.json is malformed JSON"):
        read(tmp_path / "b.json")


def test_gzip_of_several_members(tmp_path: Path) -> None:
    """https://github.com/huggingface/datatrove/issues/278: a file to which gzip was appended"""
    rows = [f'{{"prompt": "q{i}"}}\n'.encode() for i in range(3)]
    (tmp_path / "a.jsonl.gz").write_bytes(b"".join(map(gzip.compress, rows)))
    assert read_texts(tmp_path / "a.jsonl.gz") == [["q0"], ["q1"], ["q2"]]


def test_parts_to_which_arrow_added_nulls(tmp_path: Path) -> None:
    """https://github.com/huggingface/trl/pull/5376: text beside pictures has the pictures' keys, all null"""
    text = {"type": "text", "text": "Why?"}
    image = {"type": "image_url", "image_url": {"url": "x"}}
    rows = [{"messages": [{"role": "user", "content": [text]}]}, {"messages": [{"role": "user", "content": [image]}]}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match="a part of a user turn is image_url, and prompts are text"):
        read(tmp_path / "a.parquet")
    assert read_texts(tmp_path / "a.parquet", max_bad_fraction=0.5) == [["Why?"]]


def test_line_separators_within_a_text_end_no_row(tmp_path: Path) -> None:
    """U+2028, U+0085 and a lone carriage return, which `str.splitlines` takes for line ends."""
    text = "one\u2028two\u0085three\x0bfour\x1cfive"
    assert read_texts(write_jsonl(tmp_path / "a.jsonl", {"prompt": text})) == [[text]]
    (tmp_path / "a.txt").write_text(text + "\n", encoding="utf-8")
    assert read_texts(tmp_path / "a.txt") == [[text]]
    pd.DataFrame({"prompt": [text, "b"]}).to_csv(tmp_path / "a.csv", index=False)
    assert read_texts(tmp_path / "a.csv") == [[text], ["b"]]
