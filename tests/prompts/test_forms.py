"""Prompts as they lie about: what `datasets`, pandas and people leave is read, or refused in one line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict, load_dataset

from synthgen.config import PromptDedup, PromptReference, PromptsConfig
from synthgen.errors import ConfigError
from synthgen.prompts import PromptSource
from tests.object_stores import make_bucket

USER = {"role": "user", "content": "Hi"}
UNEQUAL: list[dict[str, Any]] = [
    {"messages": [USER, {"role": "assistant", "content": "Yes?", "name": "Ann"}, {"role": "user", "content": "Ä?"}]},
    {"messages": [{"role": "user", "content": 'Say "it\'s"\n so', "name": "Bob"}], "tags": {"a": [1, "x"]}},
]


def open_source(path: Any, **options: Any) -> PromptSource:
    given = [str(one) for one in path] if isinstance(path, list) else str(path)
    return PromptSource(PromptsConfig(path=given, **options))


def read(source: PromptSource) -> list[dict[str, Any]]:
    return [row for table in source.tables(100) for row in table.to_pylist()]


def read_last_turns(path: Any, **options: Any) -> list[str]:
    return [row["messages"][-1]["content"] for row in read(open_source(path, **options))]


def write_jsonl(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def unequal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """What `load_dataset("json")` makes of message lists whose turns have unequal keys: `arrow.json`."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    path = write_jsonl(tmp_path / "unequal.jsonl", *UNEQUAL)
    loaded = load_dataset("json", data_files=str(path), split="train")
    assert "Json" in str(loaded.features["messages"])
    return loaded


@pytest.mark.parametrize("form", ["parquet", "saved", "saved_dict", "jsonl", "csv"])
def test_unequal_messages_come_in_as_messages(unequal: Dataset, tmp_path: Path, form: str) -> None:
    path = tmp_path / f"a.{form}"
    match form:
        case "parquet":
            unequal.to_parquet(path)
        case "saved":
            unequal.save_to_disk(path)
        case "saved_dict":
            DatasetDict({"train": unequal}).save_to_disk(path)
        case "jsonl":
            unequal.to_json(path)
        case "csv":
            unequal.to_csv(path)
    rows = read(open_source(path))
    wanted = [[{"role": turn["role"], "content": turn["content"]} for turn in row["messages"]] for row in UNEQUAL]
    assert [row["messages"] for row in rows] == wanted
    if form != "csv":
        assert [json.loads(row["metadata"])["tags"] for row in rows] == [None, {"a": [1, "x"]}]


def test_json_is_decoded_at_any_depth(tmp_path: Path) -> None:
    def make(*texts: str | None) -> Any:
        return pa.ExtensionArray.from_storage(pa.json_(), pa.array(texts, pa.string()))

    table = pa.table(
        {
            "prompt": ["a", "b"],
            "whole": make('{"x": [1]}', "not JSON"),
            "list": pa.ListArray.from_arrays([0, 2, 2], make("1", '{"y": 2}')),
            "struct": pa.StructArray.from_arrays([make('"s"', None)], names=["z"]),
            "map": pa.MapArray.from_arrays([0, 1, 1], pa.array(["k"]), make("[3]")),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    first, second = (json.loads(row["metadata"]) for row in read(open_source(tmp_path / "a.parquet")))
    assert first == {"whole": {"x": [1]}, "list": [1, {"y": 2}], "struct": {"z": "s"}, "map": [["k", [3]]]}
    assert second == {"whole": "not JSON", "list": [], "struct": {"z": None}, "map": []}


def test_message_lists_in_a_text_column_are_read_as_messages_and_that_is_said(tmp_path: Path) -> None:
    rows = [
        {"prompt": json.dumps([{"role": "system", "content": "s"}, {"role": "user", "content": f"q{i}"}]), "n": i}
        for i in range(1500)
    ]
    path = write_jsonl(tmp_path / "a.jsonl", *rows, {"prompt": ""}, {"prompt": "[]"})
    source = open_source(path)
    assert [row["messages"][-1]["content"] for row in read(source)] == [f"q{i}" for i in range(1500)]
    assert source.notes == ["a.jsonl: the column prompt holds message lists written as text, and is read as messages"]
    assert source.stats.bad == {"empty_prompt": 2}

    # One value that is something else, far behind the rows that are looked at first: no guessing.
    path = write_jsonl(tmp_path / "b.jsonl", *rows, {"prompt": "Sort [1, 2]"})
    source = open_source(path)
    assert read(source)[0]["messages"] == [{"role": "user", "content": rows[0]["prompt"]}]
    assert [note for note in source.notes if "all are taken as plain text" in note]


@pytest.mark.parametrize("text", ['[{"name": "a", "age": 3}]', "[1, 2]", "[]", '["a", "b"]', '{"role": "user"}'])
def test_other_json_in_a_text_column_stays_text(tmp_path: Path, text: str) -> None:
    source = open_source(write_jsonl(tmp_path / "a.jsonl", {"prompt": text}))
    assert read(source)[0]["messages"] == [{"role": "user", "content": text}]
    assert source.notes == []


@pytest.mark.parametrize("write", ["to_csv", "pandas", "json"])
def test_csv_of_messages_is_read_as_messages(tmp_path: Path, write: str) -> None:
    messages = [
        [USER, {"role": "assistant", "content": None}, {"role": "user", "content": 'it\'s "so"\n}\n {'}],
        [USER],
    ]
    made = Dataset.from_dict({"messages": messages, "n": [1, 2]})
    if write == "to_csv":
        made.to_csv(tmp_path / "a.csv")
    elif write == "pandas":
        pd.DataFrame({"messages": messages}).to_csv(tmp_path / "a.csv")
    else:
        pd.DataFrame({"messages": [json.dumps(one) for one in messages]}).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(ConfigError, match="the content of a assistant turn is null"):
        read(open_source(tmp_path / "a.csv"))
    rows = read(open_source(tmp_path / "a.csv", max_bad_fraction=0.5))
    assert [row["messages"] for row in rows] == [[USER]]


def test_answer_at_the_end_is_no_reference_unless_asked_for(tmp_path: Path) -> None:
    answer = {"role": "assistant", "content": "perhaps wrong"}
    path = write_jsonl(
        tmp_path / "a.jsonl", {"messages": [USER, answer]}, {"messages": [{**USER, "content": "b"}, answer]}
    )
    source = open_source(path)
    rows = read(source)
    assert [row["reference"] for row in rows] == [None, None]
    assert json.loads(rows[0]["metadata"]) == {"last_turn": "perhaps wrong"}
    assert len([note for note in source.notes if "prompts.reference=last_turn" in note]) == 1
    source = open_source(path, reference=PromptReference.last_turn)
    assert [row["reference"] for row in read(source)] == ["perhaps wrong"] * 2
    assert source.notes == []


def test_old_rules_keep_what_a_run_was_begun_with(tmp_path: Path) -> None:
    rows = [{"messages": [USER, {"role": "assistant", "content": "yes"}]}]
    config = PromptsConfig(path=str(write_jsonl(tmp_path / "a.jsonl", *rows)))
    (row,) = read(PromptSource(config, rules=0))
    assert row["reference"] == "yes"
    assert json.loads(row["metadata"]) == {"reference": "yes"}
    config.reference = PromptReference.none
    assert read(PromptSource(config, rules=0))[0]["reference"] is None
    assert PromptSource(config, rules=0).fingerprint() != PromptSource(PromptsConfig(path=config.path)).fingerprint()


def test_old_rules_read_a_directory_as_before(tmp_path: Path) -> None:
    """All files in the order of their names, whatever split they are of; a text that spells messages is a text."""
    write_shards(tmp_path / "clone", "train", "test")
    source = PromptSource(PromptsConfig(path=str(tmp_path / "clone")), rules=0)
    assert [row["messages"][0]["content"] for row in read(source)] == ["test 0", "test 1", "train 0", "train 1"]
    texts = [json.dumps([{"role": "user", "content": str(i)}]) for i in (2, 10)]
    for i, text in zip((2, 10), texts, strict=True):
        write_jsonl(tmp_path / "parts" / f"part-{i}.jsonl", {"prompt": text})
    source = PromptSource(PromptsConfig(path=str(tmp_path / "parts")), rules=0)
    assert [row["messages"][0]["content"] for row in read(source)] == texts[::-1]


TWINS = ["Why  so?", "Why so?", " Why so?\n", "Why\u00a0so?", "Why\u200b so?", "\ufeffWhy so?", "Why so?"]


def test_twins_are_duplicates_and_are_counted(tmp_path: Path) -> None:
    forms = ["Caf\u00e9?", "Cafe\u0301?"]
    path = write_jsonl(
        tmp_path / "a.jsonl", *({"prompt": text} for text in [*TWINS, *forms, "x²", "x2", "nowhere", "now here"])
    )
    source = open_source(path)
    assert [row["messages"][0]["content"] for row in read(source)] == [
        TWINS[0],
        forms[0],
        "x²",
        "x2",
        "nowhere",
        "now here",
    ]
    assert (source.stats.rows_read, source.stats.kept, source.stats.duplicates, source.stats.twins) == (13, 6, 7, 6)
    assert [note for note in source.notes if note.startswith("6 of 13 rows differ from others in white space")]
    source = open_source(path, dedup=PromptDedup.exact)
    assert len(read(source)) == 12
    assert (source.stats.duplicates, source.stats.twins, source.notes) == (1, 0, [])


def test_exclude_takes_sets_of_any_form(tmp_path: Path) -> None:
    long = " ".join(f"w{i}" for i in range(15))
    bench = write_jsonl(tmp_path / "bench.jsonl", {"turns": ["First?", f"Then {long}."], "question": None})
    chat = write_jsonl(
        tmp_path / "chat.jsonl",
        {"x": "-", "dialog": [{"role": "user", "content": "Hello there"}, {"role": "assistant", "content": "Asked"}]},
    )
    arena = write_jsonl(tmp_path / "arena.jsonl", {"turns": [{"content": "Build it"}]})
    DatasetDict({"dev": Dataset.from_list([{"q": "Kept"}]), "test": Dataset.from_list([{"q": "Gone"}])}).save_to_disk(
        tmp_path / "saved"
    )
    asked = ["first", f"So: {long}", "hello there", "asked", "build IT", "kept", "gone", "free"]
    path = write_jsonl(tmp_path / "a.jsonl", *({"prompt": text} for text in asked))
    exclude = [
        str(bench),
        {"path": str(chat), "column": "dialog"},
        str(arena),
        {"path": str(tmp_path / "saved"), "split": "test", "column": "q"},
    ]
    source = open_source(path, exclude=exclude)
    assert [row["messages"][0]["content"] for row in read(source)] == ["asked", "kept", "free"]
    assert source.stats.excluded == 5


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"path": "a.jsonl", "spilt": "test"}, "prompts.exclude: spilt is not a key of an entry; did you mean split?"),
        ({"split": "test"}, "prompts.exclude: .* must be a path, or {path: …} with config, split, revision, column"),
        (7, "prompts.exclude: 7 must be a path"),
        ({"path": "nope.jsonl"}, "prompts.exclude=nope.jsonl does not exist"),
    ],
)
def test_exclude_names_what_is_wrong_with_an_entry(entry: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_source("builtin:easy", exclude=[entry]).fingerprint()


def test_strings_in_exclude_keep_the_fingerprint_of_a_run() -> None:
    """As the code of commit 69e536e gave it."""
    config = PromptsConfig(path="builtin:easy", exclude=["builtin:examples"])
    assert PromptSource(config).fingerprint() == "000950156bbb2246"


def write_shards(root: Path, *splits: str) -> Path:
    for split in splits:
        for i in range(2):
            path = root / "data" / f"{split}-{i:05d}-of-00002.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table({"prompt": [f"{split} {i}"]}), path)
    return root


def test_clone_of_a_hub_data_set_is_read_by_its_split(tmp_path: Path) -> None:
    root = write_shards(tmp_path / "clone", "train", "test")
    assert read_last_turns(root) == ["train 0", "train 1"]
    assert read_last_turns(root, split="test") == ["test 0", "test 1"]
    assert {row["source"] for row in read(open_source(root))} == {
        f"data/train-0000{i}-of-00002.parquet" for i in (0, 1)
    }
    with pytest.raises(ConfigError, match=r"prompts\.split=dev: .*clone has the splits train, test"):
        open_source(root, split="dev").fingerprint()


def test_clone_with_a_card_has_configurations(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "main.jsonl", {"prompt": "a"})
    write_jsonl(tmp_path / "more.jsonl", {"prompt": "b"})
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: main\n  data_files: main.jsonl\n- config_name: more\n"
        "  data_files: [{split: test, path: more.jsonl}]\n---\n# Set\n"
    )
    assert read_last_turns(tmp_path, config="main") == ["a"]
    assert read_last_turns(tmp_path, config="more", split="test") == ["b"]
    with pytest.raises(ConfigError, match=r"prompts\.config=null.* cannot be read as a data set: .*main") as error:
        open_source(tmp_path).fingerprint()
    assert "\n" not in str(error.value)


def test_clone_of_a_form_that_only_datasets_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    root = tmp_path / "clone"
    saved = Dataset.from_list([{"prompt": "a"}, {"prompt": "b"}])
    saved.save_to_disk(tmp_path / "saved")
    root.mkdir()
    os.rename(tmp_path / "saved" / "data-00000-of-00001.arrow", root / "train-00000-of-00001.arrow")
    assert read_last_turns(root) == ["a", "b"]
    write_shards(tmp_path / "parts", "train")
    assert read_last_turns(tmp_path / "parts", split="train[:1]") == ["train 0"]


def test_descriptions_of_a_data_set_are_no_data(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", {"prompt": "a"})
    (tmp_path / "dataset_infos.json").write_text(json.dumps({"default": {"description": "", "features": {}}}))
    assert read_last_turns(tmp_path) == ["a"]
    (tmp_path / "dataset_infos.json").rename(tmp_path / "dataset_info.json")
    assert read_last_turns(tmp_path) == ["a"]


def test_split_of_a_plain_directory_is_looked_for_in_names(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", {"prompt": "a"})
    write_jsonl(tmp_path / "my_test.jsonl", {"prompt": "b"})
    write_jsonl(tmp_path / "contest.jsonl", {"prompt": "c"})
    source = open_source(tmp_path)
    assert [row["messages"][0]["content"] for row in read(source)] == ["c", "b", "a"]
    assert source.notes == [f"{tmp_path}: all its files are read, those of test too; give a glob to choose"]
    assert read_last_turns(tmp_path, split="test") == ["b"]
    with pytest.raises(ConfigError, match=r"prompts\.split=dev: no file of .* is called so \(contest\.jsonl, my_test"):
        open_source(tmp_path, split="dev").fingerprint()


def test_several_files_by_glob_and_by_list(tmp_path: Path) -> None:
    for i in (1, 2, 10):
        write_jsonl(tmp_path / f"part-{i}.jsonl", {"prompt": f"p{i}"})
    write_jsonl(tmp_path / "deep" / "er" / "part-1.jsonl", {"prompt": "deep"})
    (tmp_path / "part-3.log").write_text("no data")
    assert read_last_turns(tmp_path / "part-*") == ["p1", "p2", "p10"]
    rows = read(open_source(tmp_path / "**" / "part-1.jsonl"))
    assert [(row["messages"][0]["content"], row["source"]) for row in rows] == [
        ("deep", "deep/er/part-1.jsonl"),
        ("p1", "part-1.jsonl"),
    ]
    rows = read(open_source([tmp_path / "part-10.jsonl", tmp_path / "part-1.jsonl", tmp_path / "deep"]))
    assert [(row["messages"][0]["content"], row["source"]) for row in rows] == [
        ("p10", "part-10.jsonl"),
        ("p1", "part-1.jsonl"),
        ("deep", "er/part-1.jsonl"),
    ]
    rows = read(open_source([tmp_path / "part-1.jsonl", tmp_path / "deep" / "er" / "part-1.jsonl"]))
    assert [row["source"] for row in rows] == [f"{tmp_path.name}/part-1.jsonl", "er/part-1.jsonl"]
    assert read_last_turns(tmp_path) == ["deep", "p1", "p2", "p10"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nothing-*.jsonl", r"prompts\.path=.*nothing-\*\.jsonl matches no file"),
        (["builtin:easy", "nothing.jsonl"], r"prompts\.path=nothing\.jsonl does not exist"),
        ([], r"prompts\.path=\[\] must be a path or a list of paths"),
        ({"path": "a"}, r"must be a path or a list of paths"),
        ("ftp://host/a.jsonl", r"unknown scheme ftp://; there are http, https, s3"),
    ],
)
def test_path_that_names_nothing_is_one_line(path: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PromptSource(PromptsConfig(path=path)).fingerprint()


@pytest.fixture
def bucket(s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An object store with a few prompts, and an empty cache."""
    import obstore
    from obstore.store import from_url

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    url = make_bucket(s3_endpoint, monkeypatch)
    make: Any = from_url
    store = make(url, config={"aws_endpoint": s3_endpoint}, client_options={"allow_http": True})
    for name in ("set/part-2.jsonl", "set/part-10.jsonl", "set/_logs/x.jsonl", "set/README.md", "other.jsonl"):
        obstore.put(store, name, f'{{"prompt": "{name}"}}\n'.encode())
    return url


def test_object_store_gives_a_file_a_prefix_and_a_glob(bucket: str, tmp_path: Path) -> None:
    assert read_last_turns(f"{bucket}/other.jsonl") == ["other.jsonl"]
    rows = read(open_source(f"{bucket}/set"))
    assert [(row["messages"][0]["content"], row["source"]) for row in rows] == [
        ("set/part-2.jsonl", "part-2.jsonl"),
        ("set/part-10.jsonl", "part-10.jsonl"),
    ]
    assert read_last_turns(f"{bucket}/set/part-1*.jsonl") == ["set/part-10.jsonl"]
    assert read_last_turns(f"{bucket}/**/*.jsonl") == [
        "other.jsonl", "set/_logs/x.jsonl", "set/part-2.jsonl", "set/part-10.jsonl",
    ]  # fmt: skip
    local = tmp_path / "other.jsonl"
    local.write_text('{"prompt": "other.jsonl"}\n')
    assert open_source(f"{bucket}/other.jsonl").fingerprint() == open_source(local).fingerprint()


def test_object_may_have_any_name(bucket: str, s3_endpoint: str) -> None:
    """https://github.com/aws/fmeval/issues/338"""
    import boto3

    client = boto3.client("s3", endpoint_url=s3_endpoint, region_name="us-east-1")
    for name in ("my set/a b.jsonl", "my set/100%20#1.jsonl"):
        client.put_object(Bucket=bucket.removeprefix("s3://"), Key=name, Body=json.dumps({"prompt": name}).encode())
        assert read_last_turns(f"{bucket}/{name}") == [name]


def test_object_in_a_store_is_read_anew_when_it_changes(bucket: str, s3_endpoint: str) -> None:
    import boto3

    before = open_source(f"{bucket}/other.jsonl").fingerprint()
    client = boto3.client("s3", endpoint_url=s3_endpoint, region_name="us-east-1")
    client.put_object(Bucket=bucket.removeprefix("s3://"), Key="other.jsonl", Body=b'{"prompt": "new"}\n')
    assert open_source(f"{bucket}/other.jsonl").fingerprint() != before
    assert read_last_turns(f"{bucket}/other.jsonl") == ["new"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing.jsonl", r"prompts\.path=s3://.*nothing\.jsonl does not exist"),
        ("set/README.md", r"README\.md: unknown format"),
        ("*.parquet", r"holds no data file"),
    ],
)
def test_object_that_cannot_be_had_is_one_line(bucket: str, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        open_source(f"{bucket}/{name}").fingerprint()
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="no-such-bucket") as error:
        open_source("s3://no-such-bucket-here/a.jsonl").fingerprint()
    assert "\n" not in str(error.value)
