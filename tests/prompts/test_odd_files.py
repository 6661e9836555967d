"""Files that nobody meant to be odd: late columns, names that stand twice, dates that Python cannot say, URLs."""

from __future__ import annotations

import datetime
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synthgen.config import PromptsConfig
from synthgen.errors import ConfigError
from synthgen.prompts import PromptSource


def open_source(path: Any, **options: Any) -> PromptSource:
    return PromptSource(PromptsConfig(path=str(path), **options))


def read(path: Any, **options: Any) -> list[dict[str, Any]]:
    return [row for table in open_source(path, **options).tables(100) for row in table.to_pylist()]


def read_texts(path: Any, **options: Any) -> list[str]:
    return [row["messages"][-1]["content"] for row in read(path, **options)]


def write_jsonl(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_columns_that_come_late_count(tmp_path: Path) -> None:
    early = [{"prompt": f"q{i}"} for i in range(1100)]
    path = write_jsonl(tmp_path / "a.jsonl", *early, {"prompt": "last", "who": "Be brief.", "gold": "g", "more": "x"})
    rows = read(path, system_column="who", reference_column="gold", input_column="more")
    assert len(rows) == 1101
    assert [turn["content"] for turn in rows[-1]["messages"]] == ["Be brief.", "last\n\nx"]
    assert rows[-1]["reference"] == "g"
    path = write_jsonl(
        tmp_path / "b.jsonl", *({"id": i} for i in range(1100)), *({"question": f"q{i}"} for i in range(9))
    )
    assert len(read(path, max_bad_fraction=1.0)) == 9


def test_columns_that_some_files_have_count(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", {"prompt": "a"})
    write_jsonl(tmp_path / "b.jsonl", {"prompt": "b", "who": "Be brief."})
    assert [len(row["messages"]) for row in read(tmp_path, system_column="who")] == [1, 2]


@pytest.mark.parametrize("limit", [None, 1])
def test_columns_that_no_row_has_are_refused_before_anything_is_made(tmp_path: Path, limit: int | None) -> None:
    write_jsonl(tmp_path / "a.jsonl", {"prompt": "a"})
    write_jsonl(tmp_path / "b.jsonl", {"question": "b"})
    source = open_source(tmp_path, system_column="who", limit=limit)
    with pytest.raises(ConfigError, match=r"prompts\.system_column=who is not a column of a\.jsonl; it has prompt"):
        next(source.tables(1))


def test_columns_that_hold_nothing_give_way_to_those_that_do(tmp_path: Path) -> None:
    rows = [{"prompt": None, "messages": [{"role": "user", "content": f"q{i}"}]} for i in range(3)]
    assert read_texts(write_jsonl(tmp_path / "a.jsonl", *rows)) == ["q0", "q1", "q2"]


def test_row_without_the_column_names_one_that_it_has(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", {"prompt": "a"}, {"question": "b"})
    with pytest.raises(ConfigError, match=r"no column prompt \(it has question\)"):
        read(path)


def test_input_of_alpaca_stands_below_its_instruction(tmp_path: Path) -> None:
    rows = [{"instruction": "Sort.", "input": "b, a"}, {"instruction": "Why?", "input": ""}]
    path = write_jsonl(tmp_path / "a.jsonl", *rows)
    assert read_texts(path) == ["Sort.\n\nb, a", "Why?"]
    assert read_texts(path, column="instruction") == ["Sort.\n\nb, a", "Why?"]
    assert read_texts(path, input_column="") == ["Sort.", "Why?"]
    assert [json.loads(row["metadata"]) for row in read(path, input_column="")] == [{"input": "b, a"}, {"input": ""}]
    assert read_texts(write_jsonl(tmp_path / "b.jsonl", {"question": "Why?", "input": "x"})) == ["Why?"]
    source = PromptSource(PromptsConfig(path=str(path)), rules=0)
    assert [row["messages"][0]["content"] for row in source.tables(9).__next__().to_pylist()] == ["Sort.", "Why?"]


FRAME = pd.DataFrame({"prompt": ["a", "b", "c"], "n": [1, 2, 3]})


@pytest.mark.parametrize(
    "text",
    [
        '{"prompt": ["a", "b", "c"], "n": [1, 2, 3]}',
        '{\n "prompt": ["a", "b", "c"]\n}\n',
        '{"train": [{"prompt": "a"}, {"prompt": "b"}, {"prompt": "c"}]}',
        *(FRAME.to_json(orient=orient) for orient in ("columns", "split", "table", "records")),
        FRAME.to_json(orient="records", lines=True),
        json.dumps(FRAME.to_dict("list")),
    ],
)
def test_json_that_holds_columns_is_rows(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    assert read_texts(tmp_path / "a.json") == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"messages": [{"role": "user", "content": "q"}]}, "q"),
        ({"messages": [{"from": "human", "value": "q"}], "tags": ["x"]}, "q"),
        ({"prompt": "q", "tags": ["x", "y"]}, "q"),
        ({"prompt": "q", "meta": {"1": 2}}, "q"),
        ("q", "q"),
    ],
)
def test_json_of_one_object_is_one_row(tmp_path: Path, value: Any, text: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps(value))
    assert read_texts(tmp_path / "a.json") == [text]


def test_names_that_stand_twice_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,prompt\na,b\n")
    twice = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["prompt", "prompt"])
    pq.write_table(twice, tmp_path / "a.parquet")
    for name in ("a.csv", "a.parquet"):
        with pytest.raises(ConfigError, match=rf"{name} has two columns called prompt; rename one of them"):
            read(tmp_path / name)
    struct = pa.StructArray.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["x", "x"])
    pq.write_table(
        pa.table({"prompt": ["q"], "deep": pa.ListArray.from_arrays([0, 1], struct)}), tmp_path / "b.parquet"
    )
    with pytest.raises(
        ConfigError, match=r"b\.parquet: in the column deep a struct has two fields called x; rename one"
    ):
        read(tmp_path / "b.parquet")
    (tmp_path / "a.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b", "prompt": "c"}\n')
    with pytest.raises(ConfigError, match=r"line 2 of a\.jsonl \(malformed JSON: the key 'prompt' stands twice\)"):
        read(tmp_path / "a.jsonl")
    (tmp_path / "a.json").write_text('[{"prompt": "a"},\n {"x": {"y": 1, "y": 2}}]')
    with pytest.raises(ConfigError, match=r"a\.json is malformed JSON: the key 'y' stands twice"):
        read(tmp_path / "a.json")


def test_columns_without_a_name_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(",prompt,,\n0,a,x,y\n")
    (row,) = read(tmp_path / "a.csv")
    assert json.loads(row["metadata"]) == {"": "0", "column 3": "x", "column 4": "y"}


def test_dates_beyond_what_python_can_say_are_text(tmp_path: Path) -> None:
    far = 2**62
    table = pa.table(
        {
            "prompt": ["a", "b"],
            "second": pa.array([datetime.datetime(9999, 12, 31), datetime.datetime(1, 1, 1)], pa.timestamp("us")),
            "micro": pa.array([far, 0], pa.timestamp("us")),
            "day": pa.array([10**8, 0], pa.date32()),
            "list": pa.array([[far], []], pa.list_(pa.timestamp("us"))),
            "struct": pa.array([{"x": far}, None], pa.struct([("x", pa.timestamp("us"))])),
            "span": pa.array([2**60, 1], pa.duration("s")),
            "nano": pa.array([far + 1, 0], pa.timestamp("ns")),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    first, second = (json.loads(row["metadata"]) for row in read(tmp_path / "a.parquet"))
    assert first["micro"] == first["list"][0] == first["struct"]["x"] == "148108-07-06T14:00:27.387904"
    assert (first["second"], first["day"]) == ("9999-12-31 00:00:00", "275760-09-13")
    assert second["second"] == "0001-01-01 00:00:00"
    assert (first["span"], second["micro"]) == ("1152921504606846976 s", "1970-01-01 00:00:00")
    assert first["nano"].startswith("2116-02-20 23:53:38")


def test_pointer_of_git_lfs_is_named(tmp_path: Path) -> None:
    for name in ("a.parquet", "a.jsonl"):
        (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
        with pytest.raises(ConfigError, match=r"is a pointer of Git LFS, not the file; fetch it with: git lfs pull"):
            read(tmp_path / name)


class Site(ThreadingHTTPServer):
    """A web server on loopback: what it serves by path, and the paths that were asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pages: dict[str, tuple[str, bytes]] = {}
        self.sent: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Site)
        path = self.path.partition("?")[0]
        if path == "/moved.jsonl":
            self.send_response(302)
            self.send_header("Location", "/a%20b.jsonl")
            self.end_headers()
            return
        if path not in self.server.pages:
            self.send_error(404)
            return
        kind, body = self.server.pages[path]
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("ETag", f'"{hash(body)}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        assert isinstance(self.server, Site)
        self.server.sent.append(self.path)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    server = Site()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_web_address_is_read_once_per_version(site: Site) -> None:
    site.pages["/a b.jsonl"] = ("text/plain", b'{"prompt": "a"}\n')
    site.pages["/a%20b.jsonl"] = site.pages["/a b.jsonl"]
    url = f"{site.url}/a%20b.jsonl?token=secret"
    assert read_texts(url) == ["a"]
    assert {row["source"] for row in read(url)} == {"a b.jsonl"}
    before = open_source(url).fingerprint()
    assert read_texts(f"{site.url}/moved.jsonl") == ["a"]
    site.pages["/a%20b.jsonl"] = ("text/plain", b'{"prompt": "b"}\n')
    assert read_texts(url) == ["b"]
    assert open_source(url).fingerprint() != before


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/none.jsonl", r"none\.jsonl cannot be read: the server answers 404"),
        ("/blob/page.jsonl", r"is a web page, not a file; give the link that downloads it \(on the Hub /resolve/"),
        ("/file.zip", r"file\.zip: unknown format; the suffix must be one of"),
    ],
)
def test_web_address_that_gives_no_file_is_one_line(site: Site, path: str, message: str) -> None:
    site.pages["/blob/page.jsonl"] = ("text/html; charset=utf-8", b"<html>")
    with pytest.raises(ConfigError, match=message):
        read(f"{site.url}{path}")
    with pytest.raises(ConfigError, match=r"http://127\.0\.0\.1:1/a\.jsonl cannot be read: ") as error:
        read("http://127.0.0.1:1/a.jsonl")
    assert "\n" not in str(error.value)
