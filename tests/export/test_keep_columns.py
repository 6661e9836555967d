"""`export.keep_columns`: columns of the prompts are columns of the data set, with their types."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synthgen.cli import run_command
from synthgen.config.compose import compose_config
from synthgen.errors import ConfigError
from synthgen.export.formats import FORMATS
from synthgen.export.kept import _TAKEN, check_names, find_types
from synthgen.runtime.run import run
from tests.inline_runs import inline_runs

KEEP = ["topic", "level", "weight", "tags", "extra", "odd", "maybe"]


def write_prompts(path: Path) -> str:
    rows = [
        {
            "prompt": f"Question number {i}?",
            "topic": ("maths", "physics")[i % 2],
            "level": i,
            "weight": i if i % 2 else i + 0.5,
            "tags": ["a"] * (i % 3),
            "extra": {"x": i, "y": None},
            "odd": i if i % 2 else f"no {i}",
            **({"maybe": True} if i == 7 else {}),
        }
        for i in range(8)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"prompts.path={path}"


def test_columns_keep_their_types_and_cost_no_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "run"
    formats = [name for name in FORMATS if name != "jsonl"]
    common = ["experiment=echo", write_prompts(tmp_path / "p.jsonl"), f"run.dir={root}", "run.unit_size=3"]
    with inline_runs():
        run(compose_config([*common, f"export.formats=[{','.join(formats)}]"]), quiet=True)
        plain = {path.parent.name: pq.read_table(path) for path in sorted(root.glob("dataset/*/train-*.parquet"))}
        stages = sorted(path.name for path in (root / "stages").iterdir())
        assert run_command(["run", str(root), f"export.keep_columns=[{','.join(KEEP)}]"]) == 0
        assert run_command(["publish", str(root), f"publish.to_dir={tmp_path / 'out'}"]) == 0
    assert sorted(path.name for path in (root / "stages").iterdir()) == stages
    report = json.loads((root / "report.json").read_text())
    assert {stage["reused_units"] for stage in report["stages"].values()} == {3}
    types = [pa.string(), pa.int64(), pa.float64(), pa.list_(pa.string())]
    types += [pa.struct([("x", pa.int64()), ("y", pa.string())]), pa.string(), pa.bool_()]
    for name, before in plain.items():
        table = pq.read_table(root / f"dataset/{name}/train-00000-of-00001.parquet")
        assert table.select(before.column_names).equals(before.replace_schema_metadata(table.schema.metadata))
        added = [one for one in table.column_names if one not in before.column_names]
        assert added == (KEEP if "prompt_id" in before.column_names else [])
        assert not added or [field.type for field in table.select(KEEP).schema] == types
        assert set(before.column_names) <= _TAKEN, "each name of the data set's own is refused"
    pairs = datasets.load_dataset(str(tmp_path / "out"), split="train")
    for row in pairs:
        metadata = json.loads(row["metadata"])
        assert {name: row[name] for name in ("topic", "level", "tags")} == {
            name: metadata[name] for name in ("topic", "level", "tags")
        }
        assert row["weight"] == metadata["weight"]
        assert row["odd"] == str(metadata["odd"])
        assert row["maybe"] == metadata.get("maybe")
    with inline_runs():
        assert run_command(["run", str(root), "export.columns=minimal", "export.keep_columns=[topic]"]) == 0
    kept = pq.read_table(root / "dataset/data/train-00000-of-00001.parquet")
    assert kept.column_names == ["prompt", "chosen", "rejected", "topic"]


def test_names_that_cannot_be_columns_are_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"export.keep_columns=\['score', 'messages'\] are columns that the data set has"
    ):
        check_names(["topic", "score", "messages"])
    with pytest.raises(ConfigError, match="names a column twice"):
        check_names(["topic", "topic"])
    prompts = write_prompts(tmp_path / "p.jsonl")
    config = compose_config(["experiment=echo", prompts, f"run.dir={tmp_path / 'run'}", "export.keep_columns=[topci]"])
    with inline_runs(), pytest.raises(ConfigError, match=r"no prompt has such a column; there are extra, level, maybe"):
        run(config, quiet=True)
    assert not (tmp_path / "run/stages").exists()


def test_a_column_that_is_empty_everywhere_is_text() -> None:
    table = pa.table({"metadata": ['{"a":null,"b":{}}', "{}"]})
    assert find_types(["a", "b"], [table]) == {"a": pa.string(), "b": pa.string()}
