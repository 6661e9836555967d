"""PromptSource on real files of every format, whole and broken."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict

from synthgen.config import PromptsConfig
from synthgen.errors import ConfigError
from synthgen.prompts import PromptSource
from synthgen.records import PROMPTS_SCHEMA, make_prompt_id

ROWS = [{"question": f"What is {i} plus {i}?", "answer": str(2 * i), "level": i} for i in range(10)]
USER_TURNS = [row["question"] for row in ROWS]


def read(path: Path | str, rows_per_table: int = 4, **options: Any) -> tuple[list[dict[str, Any]], PromptSource]:
    source = PromptSource(PromptsConfig(path=str(path), **options))
    tables = list(source.tables(rows_per_table))
    assert all(table.schema == PROMPTS_SCHEMA for table in tables)
    assert [table.num_rows for table in tables[:-1]] == [rows_per_table] * (len(tables) - 1)
    return [row for table in tables for row in table.to_pylist()], source


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_csv(path: Path, delimiter: str = ",") -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(ROWS[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(ROWS)
    return path


def write_sources(folder: Path) -> Iterator[Path]:
    """The same ten rows in every form that can be read."""
    yield write_jsonl(folder / "a.jsonl", ROWS)
    yield write_jsonl(folder / "lines.json", ROWS)
    for name, value in (("list.json", ROWS), ("data.json", {"data": ROWS}), ("pretty.json", ROWS)):
        (folder / name).write_text(json.dumps(value, indent=2 if name == "pretty.json" else None))
        yield folder / name
    yield write_csv(folder / "a.csv")
    yield write_csv(folder / "a.tsv", "\t")
    with gzip.open(folder / "a.jsonl.gz", "wt") as file:
        file.write((folder / "a.jsonl").read_text())
    yield folder / "a.jsonl.gz"
    with pa.OSFile(str(folder / "a.csv.zst"), "wb") as raw, pa.CompressedOutputStream(raw, "zstd") as stream:
        stream.write((folder / "a.csv").read_bytes())
    yield folder / "a.csv.zst"
    (folder / "bom.jsonl").write_bytes(b"\xef\xbb\xbf" + (folder / "a.jsonl").read_bytes())
    yield folder / "bom.jsonl"
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "a.parquet", row_group_size=3)
    yield folder / "a.parquet"
    Dataset.from_list(ROWS).save_to_disk(folder / "saved")
    yield folder / "saved"
    DatasetDict({"train": Dataset.from_list(ROWS), "test": Dataset.from_list(ROWS[:1])}).save_to_disk(folder / "dict")
    yield folder / "dict"


def test_tables_are_the_same_from_every_format(tmp_path: Path) -> None:
    paths = list(write_sources(tmp_path))
    assert len(paths) == 13
    for path in paths:
        rows, source = read(path)
        assert [row["messages"] for row in rows] == [[{"role": "user", "content": text}] for text in USER_TURNS], path
        assert [row["source_row"] for row in rows] == list(range(10))
        assert {row["source"] for row in rows} == {path.name}
        assert [str(json.loads(row["metadata"])["level"]) for row in rows] == [str(i) for i in range(10)]
        assert source.stats.kept == source.stats.rows_read == 10


def test_tables_reads_one_prompt_per_line_of_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Why?\n\n  How so?\r\n")
    rows, _ = read(tmp_path / "a.txt")
    assert [(row["messages"][0]["content"], row["source_row"]) for row in rows] == [("Why?", 0), ("  How so?", 2)]


def test_tables_reads_a_directory_in_name_order(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "b.jsonl", [{"prompt": "third"}])
    write_jsonl(tmp_path / "a.jsonl", [{"instruction": "first"}, {"instruction": "second"}])
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "sub").mkdir()
    write_jsonl(tmp_path / "sub" / "c.jsonl", [{"text": "fourth"}])
    (tmp_path / "README.md").write_text("not data")
    (tmp_path / ".hidden.jsonl").write_text("not data")
    rows, _ = read(tmp_path)
    assert [row["messages"][0]["content"] for row in rows] == ["first", "second", "third", "fourth"]
    assert [row["source"] for row in rows] == ["a.jsonl", "a.jsonl", "b.jsonl", "sub/c.jsonl"]


def test_tables_reads_the_split_of_a_saved_data_set(tmp_path: Path) -> None:
    *_, path = write_sources(tmp_path)
    assert len(read(path, split="test")[0]) == 1
    with pytest.raises(ConfigError, match=r"prompts\.split=dev.* train, test"):
        read(path, split="dev")


def test_tables_collapse_duplicates_and_count_the_limit_without_them(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"prompt": text} for text in "aabacbd"])
    rows, source = read(path, limit=3)
    assert [row["messages"][0]["content"] for row in rows] == ["a", "b", "c"]
    assert (source.stats.kept, source.stats.duplicates, source.stats.rows_read) == (3, 2, 5)
    assert [row["prompt_id"] for row in rows] == [make_prompt_id(row["messages"]) for row in rows]


def test_tables_can_be_iterated_again(tmp_path: Path) -> None:
    source = PromptSource(PromptsConfig(path=str(write_jsonl(tmp_path / "a.jsonl", ROWS))))
    assert list(source.tables(3)) == list(source.tables(3))
    assert source.stats.kept == 10


def test_tables_of_the_shipped_prompts_hold_every_kind() -> None:
    rows, source = read("builtin:examples", 64)
    assert len(rows) >= 60
    assert source.stats.kept == source.stats.rows_read
    metadata = [json.loads(row["metadata"]) for row in rows]
    assert len({entry["language"] for entry in metadata}) >= 10
    assert len({entry["category"] for entry in metadata}) >= 10
    assert sum(len(row["messages"]) > 2 for row in rows) >= 5
    assert sum(row["messages"][0]["role"] == "system" for row in rows) >= 5


def test_columns_can_be_named_and_nested(tmp_path: Path) -> None:
    row = {"task": {"text": "Sort these."}, "more": [{"in": "b, a"}], "who": "Be brief.", "gold": ["a, b", "-"], "x": 1}
    options = {
        "column": "task.text",
        "input_column": "more.0.in",
        "system_column": "who",
        "reference_column": "gold",
    }
    rows, _ = read(write_jsonl(tmp_path / "a.jsonl", [row]), **options)
    assert rows[0]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Sort these.\n\nb, a"},
    ]
    assert rows[0]["reference"] == "a, b"
    assert json.loads(rows[0]["metadata"])["x"] == 1


@pytest.mark.parametrize("key", ["column", "system_column", "input_column", "reference_column"])
def test_columns_that_are_missing_are_named_with_those_there(tmp_path: Path, key: str) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    with pytest.raises(ConfigError, match=rf"prompts\.{key}=nope .*a\.jsonl.* question, answer, level"):
        read(path, **{key: "nope"})


def test_columns_without_a_known_name_ask_for_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"prompts\.column=null .*a\.jsonl.* foo, bar"):
        read(write_jsonl(tmp_path / "a.jsonl", [{"foo": "a", "bar": "b"}]))


BAD_LINES = [
    (b'{"prompt": "broken', "malformed_json"),
    (b"[" * 100_000, "malformed_json"),
    (b'{"prompt": "caf\xe9"}', "not_utf8"),
    (b"7", "not_an_object"),
    (b'{"prompt": "  \\n"}', "empty_prompt"),
    (b'{"prompt": null}', "empty_prompt"),
    (b'{"prompt": []}', "empty_prompt"),
    (b'{"other": "x"}', "missing_column"),
    (b'{"prompt": 12}', "not_a_prompt"),
    (b'{"prompt": [1, "a"]}', "not_a_prompt"),
    (b'{"prompt": "half \\ud83d of a pair"}', "lone_surrogate"),
    (b'{"prompt": "nul \\u0000 byte"}', "nul_character"),
    (b'{"prompt": [{"role": "wizard", "content": "x"}]}', "unknown_role"),
    (b'{"prompt": [{"role": "user", "content": null}]}', "not_a_prompt"),
    (b'{"prompt": [{"role": "assistant", "content": "x"}]}', "no_user_turn"),
    (b'{"prompt": [{"role": "user", "content": "x"}, {"role": "system", "content": "x"}]}', "no_user_turn"),
]


@pytest.mark.parametrize(("line", "reason"), BAD_LINES)
def test_bad_line_is_listed_with_its_number_and_the_others_go_on(tmp_path: Path, line: bytes, reason: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"prompt": "one"}\n\n' + line + b'\n{"prompt": "two"}\n')
    rows, source = read(path, max_bad_fraction=0.5)
    assert [row["messages"][0]["content"] for row in rows] == ["one", "two"]
    assert [row["source_row"] for row in rows] == [0, 3]
    assert source.stats.bad == {reason: 1}
    (bad,) = source.bad_rows
    assert (bad.source, bad.line, bad.reason) == ("a.jsonl", 3, reason)
    assert "\n" not in bad.message
    assert 0 < len(bad.input.encode()) <= 2000


def test_bad_rows_beyond_the_allowed_share_stop_the_run_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "a"}\n' * 30 + "oops\n" * 2)
    with pytest.raises(ConfigError) as error:
        read(path)
    message = str(error.value)
    assert "\n" not in message
    for part in ("2 of 32 rows", "prompts.max_bad_fraction=0.01", "line 31 of a.jsonl", "max_bad_fraction=0.07"):
        assert part in message
    read(path, max_bad_fraction=0.07)


def test_bad_first_rows_do_not_hide_the_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("oops\n" * 1500 + '{"prompt": "a"}\n')
    rows, source = read(path, max_bad_fraction=1.0)
    assert (len(rows), source.stats.bad) == (1, {"malformed_json": 1500})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", r"a\.jsonl is empty"),
        ("a.jsonl", b"\n\n", r"a\.jsonl is empty"),
        ("a.csv", b"prompt\n", r"a\.csv is empty"),
        ("a.json", b"[", r"malformed JSON"),
        ("a.json", b'["caf\xe9"]', r"not UTF-8: byte 0xe9 at offset 5"),
        ("a.json", b"7", r"must hold a list"),
        ("a.json", b'{"data": "x"}', r"finds no prompts in a\.json, whose columns are data"),
        ("a.parquet", b"PAR1 no", r"a\.parquet cannot be read"),
        ("a.jsonl.gz", gzip.compress(b'{"prompt": "a"}\n' * 99, mtime=0)[:-20], r"a\.jsonl\.gz cannot be read"),
        ("a.xlsx", b"PK", r"unknown format.*\.parquet"),
        ("a.jsonl", b'{"prompt": ""}\n', r"1 of 1 rows are bad"),
    ],
)
def test_file_without_prompts_is_one_clear_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message) as error:
        read(tmp_path / name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", ["nowhere.jsonl", "no/where.jsonl", "nowhere", "a/b/c"])
def test_path_that_does_not_exist_is_named(path: str) -> None:
    with pytest.raises(ConfigError, match=rf"prompts\.path={path} does not exist"):
        PromptSource(PromptsConfig(path=path)).fingerprint()


def test_directory_without_data_is_named(tmp_path: Path) -> None:
    (tmp_path / "README.md").touch()
    with pytest.raises(ConfigError, match="holds no data file"):
        read(tmp_path)


def test_csv_keeps_quoted_newlines_and_counts_rows_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'prompt,level\n"two\nlines, and ""quotes""",1\ntoo,many,fields\ncaf\xe9,2\nlast,3\n')
    rows, source = read(path, max_bad_fraction=0.5)
    assert [row["messages"][0]["content"] for row in rows] == ['two\nlines, and "quotes"', "last"]
    assert [(bad.line, bad.reason) for bad in source.bad_rows] == [(4, "malformed_csv"), (5, "not_utf8")]


def test_csv_counts_every_line_that_an_open_quote_swallows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('prompt\nfirst\n"never closed\n' + "swallowed\n" * 50)
    with pytest.raises(ConfigError, match=r"51 of 52 rows are bad.*line 3"):
        read(path)


def test_exclude_drops_prompts_that_share_thirteen_words(tmp_path: Path) -> None:
    words = [f"word{i}" for i in range(13)]
    evaluation = write_jsonl(tmp_path / "eval.jsonl", [{"question": "Well: " + " ".join(words)}, {"question": "Why?"}])
    prompts = ["So, WORD0 word1-" + " ".join(words[2:]) + "!", "So " + " ".join(words[1:]), "why", "why not"]
    path = write_jsonl(tmp_path / "a.jsonl", [{"prompt": text} for text in prompts])
    rows, source = read(path, exclude=[str(evaluation)])
    assert [row["messages"][0]["content"] for row in rows] == [prompts[1], prompts[3]]
    assert source.stats.excluded == 2
    assert [row.line for row in source.excluded_rows] == [1, 3]
    assert source.stats.bad == {}


def test_exclude_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    with pytest.raises(ConfigError, match=r"prompts\.exclude=nope\.jsonl does not exist"):
        read(path, exclude=["nope.jsonl"])
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(ConfigError, match=r"prompts\.exclude=.*empty"):
        read(path, exclude=[str(tmp_path / "empty.jsonl")])


def test_fingerprint_follows_contents_and_picks(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    base = PromptSource(PromptsConfig(path=str(path))).fingerprint()
    copy = write_jsonl(tmp_path / "b.jsonl", ROWS)
    assert PromptSource(PromptsConfig(path=str(path), max_bad_fraction=0.5)).fingerprint() == base
    others = [
        PromptSource(PromptsConfig(path=str(path), limit=5)).fingerprint(),
        PromptSource(PromptsConfig(path=str(path), column="answer")).fingerprint(),
        PromptSource(PromptsConfig(path=str(path), exclude=[str(copy)])).fingerprint(),
    ]
    write_jsonl(path, ROWS[::-1])
    others.append(PromptSource(PromptsConfig(path=str(path))).fingerprint())
    assert len({base, *others}) == 5


@pytest.mark.parametrize(("key", "value"), [("limit", 0), ("limit", -1), ("max_bad_fraction", 1.5)])
def test_source_rejects_values_that_cannot_work(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"prompts\.{key}={value}"):
        PromptSource(PromptsConfig(path="builtin:examples", **{key: value}))
