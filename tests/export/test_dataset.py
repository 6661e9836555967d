"""The export as its readers meet it: files, `datasets`, growth, splits, changed settings."""

from __future__ import annotations

import hashlib
import io
import json
import os
import resource
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
from exported_runs import export_units, make_unit, rows_of

from synthgen.config import Config, ExportConfig
from synthgen.errors import ConfigError
from synthgen.export import dataset_configs, formats, group_units
from synthgen.export.parquet import ParquetFile
from synthgen.export.parts import _Part
from synthgen.export.swap import clear_left_over
from synthgen.ledger.directories import exchange_directories
from synthgen.ledger.storage import LocalStorage
from synthgen.records import KTO_SCHEMA, PAIRS_SCHEMA, SCORED_GENERATIONS_SCHEMA, Tables

CONFIGS = {"default": PAIRS_SCHEMA, "kto": KTO_SCHEMA, "generations": SCORED_GENERATIONS_SCHEMA}
LIMITS = resource.getrlimit(resource.RLIMIT_NOFILE)
FORMATS = list(formats.FORMATS)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    datasets.disable_progress_bars()


def hash_files(path: Path) -> dict[str, str]:
    root = path / "dataset"
    files = (file for file in sorted(root.rglob("*")) if file.is_file() and file.suffix != ".md")
    return {file.relative_to(root).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def small_blocks(monkeypatch: pytest.MonkeyPatch, units: int, blocks_per_shard: int = 1) -> None:
    """Close a block after so many units, and a shard after so many blocks, whatever their size."""

    def group(tables: Any, generators: Any, block_mib: int) -> Any:
        listed = list(tables)
        return iter([listed[i : i + units] for i in range(0, len(listed), units)])

    monkeypatch.setattr("synthgen.export.dataset.group_units", group)
    monkeypatch.setattr("synthgen.export.dataset._measure_mib", lambda block: 256 / blocks_per_shard)


def test_export_loads_with_datasets_in_every_config_and_split(tmp_path: Path) -> None:
    config = Config(export=ExportConfig(test_fraction=0.3, formats=FORMATS))
    result = export_units(tmp_path, 4, config)
    assert result.counts.prompts == 32
    assert {name: schema for name, schema in result.schemas.items() if name in CONFIGS} == CONFIGS
    for name in (*CONFIGS, *(name for name in FORMATS if name != "jsonl")):
        loaded = datasets.load_dataset(str(tmp_path / "dataset"), name)
        assert set(loaded) == {"train", "test"}
        for split, table in loaded.items():
            assert table.to_list() == rows_of(tmp_path, result, name, split)
            assert table.num_rows == result.report["dataset"][name][split] > 0
    default = datasets.load_dataset(str(tmp_path / "dataset"), split="train")
    assert default.column_names == PAIRS_SCHEMA.names
    assert default.features == datasets.Features.from_arrow_schema(PAIRS_SCHEMA)
    assert result.report["dataset"]["generations"]["train"] + result.report["dataset"]["generations"]["test"] == 128


def test_export_holds_what_trl_reads(tmp_path: Path) -> None:
    result = export_units(tmp_path, 2)
    pairs = rows_of(tmp_path, result, "default")
    assert len(pairs) == result.counts.pairs > 0
    for pair in pairs:
        assert pair["prompt"][-1]["role"] == "user"
        assert [turn["role"] for turn in pair["chosen"] + pair["rejected"]] == ["assistant", "assistant"]
        assert pair["chosen_score"] > pair["rejected_score"]
    assert {row["label"] for row in rows_of(tmp_path, result, "kto")} == {True, False}
    assert result.sample_pair == pairs[0]
    assert sum(result.report["histograms"]["margins"]["counts"]) == len(pairs)


def test_export_is_sorted_and_the_same_bytes_again(tmp_path: Path) -> None:
    result = export_units(tmp_path / "a", 3)
    export_units(tmp_path / "b", 3)
    assert hash_files(tmp_path / "a") == hash_files(tmp_path / "b")
    for name in CONFIGS:
        ids = [row["prompt_id"] for row in rows_of(tmp_path / "a", result, name)]
        assert ids == sorted(ids)


def test_export_of_a_grown_run_keeps_the_shards_that_were_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_blocks(monkeypatch, 2)
    export_units(tmp_path, 5)
    before = hash_files(tmp_path)
    result = export_units(tmp_path, 8)
    after = hash_files(tmp_path)
    for directory in ("data", "kto", "generations"):
        assert [path for path in after if path.startswith(directory)] == [
            f"{directory}/train-{shard:05d}-of-00004.parquet" for shard in range(4)
        ]
        for shard in range(2):
            names = [f"{directory}/train-{shard:05d}-of-{shards:05d}.parquet" for shards in (3, 4)]
            assert before[names[0]] == after[names[1]]
    loaded = datasets.load_dataset(str(tmp_path / "dataset"), "generations", split="train")
    assert loaded.num_rows == 8 * 8 * 4 == sum(result.report["dataset"]["generations"].values())


def test_shard_of_several_blocks_is_sorted_in_each_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = export_units(tmp_path / "whole", 5)
    small_blocks(monkeypatch, 1, blocks_per_shard=2)
    result = export_units(tmp_path / "blocks", 5)
    paths = sorted((tmp_path / "blocks/dataset/generations").iterdir())
    assert [path.name for path in paths] == [f"train-{shard:05d}-of-00003.parquet" for shard in range(3)]
    files = [pq.ParquetFile(path) for path in paths]
    groups = [file.read_row_group(group) for file in files for group in range(file.num_row_groups)]
    assert [file.num_row_groups for file in files] == [2, 2, 1]
    for group in groups:
        ids = group["prompt_id"].to_pylist()
        assert ids == sorted(ids)
    for name in CONFIGS:
        rows = [json.dumps(row) for row in rows_of(tmp_path / "blocks", result, name)]
        assert sorted(rows) == sorted(json.dumps(row) for row in rows_of(tmp_path / "whole", whole, name))
    assert result.counts == whole.counts
    assert result.margins == whole.margins


def test_export_needs_few_open_files_and_clears_away_what_a_killed_one_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_blocks(monkeypatch, 1)
    (tmp_path / ".tmp-export-killed").mkdir(parents=True)
    (tmp_path / ".tmp-export-killed" / "default-train-0").write_bytes(b"half")
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 24, LIMITS[1]))
    try:
        result = export_units(tmp_path, 40)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, LIMITS)
    assert len(result.files) == 3 * 40
    assert list(tmp_path.glob(".tmp-*")) == []


def test_a_kill_between_the_two_renames_of_simple_file_systems_costs_no_file_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The earlier data set, with what the user put into it, is aside then; clearing away must not take it."""
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "LICENSE").write_text("mine")
    (tmp_path / ".tmp-export-killed" / "dataset").mkdir(parents=True)
    monkeypatch.setattr("synthgen.ledger.directories._exchange", lambda source, target: False)
    rename, done = os.rename, 0

    def die_at_the_second(source: Path, target: Path) -> None:
        nonlocal done
        done += 1
        if done == 2:
            raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as killing:
        killing.setattr("os.rename", die_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            exchange_directories(tmp_path / ".tmp-export-killed" / "dataset", tmp_path / "dataset")
    assert not (tmp_path / "dataset").exists()
    clear_left_over(LocalStorage(tmp_path))
    assert (tmp_path / "dataset" / "LICENSE").read_text() == "mine"
    assert list(tmp_path.glob(".tmp-*")) == []


@pytest.mark.parametrize("failing", ["default", "kto", "generations"])
def test_an_error_while_a_file_is_written_ends_the_export_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    write = _Part.add

    def add(part: _Part, table: Any) -> None:
        if part.config == failing:
            raise OSError("No space left on device")
        write(part, table)

    monkeypatch.setattr(_Part, "add", add)
    with pytest.raises(OSError, match="No space left"):
        export_units(tmp_path, 2)
    assert not list(tmp_path.glob(".tmp-export-*"))
    assert not hash_files(tmp_path)


def test_export_with_other_settings_leaves_no_file_of_the_earlier_one(tmp_path: Path) -> None:
    export_units(tmp_path, 2, Config(export=ExportConfig(test_fraction=0.5, formats=FORMATS)))
    export_units(tmp_path, 2)
    assert list(hash_files(tmp_path)) == [
        f"{directory}/train-00000-of-00001.parquet" for directory in ("data", "generations", "kto")
    ]


def test_split_keeps_prompts_together_and_only_grows(tmp_path: Path) -> None:
    held_out: set[str] = set()
    for fraction in (0.1, 0.3, 0.6):
        result = export_units(tmp_path, 12, Config(export=ExportConfig(test_fraction=fraction)))
        sides = {
            split: {row["prompt_id"] for name in CONFIGS for row in rows_of(tmp_path, result, name, split)}
            for split in ("train", "test")
        }
        assert not sides["train"] & sides["test"]
        assert abs(len(sides["test"]) / 96 - fraction) < 0.12
        assert held_out <= sides["test"]
        held_out = sides["test"]


def tie_everything(unit: int, **options: Any) -> Tables:
    tables = dict(make_unit(unit, **options))
    ratings = tables["judge"].column_names.index("ratings")
    tables["judge"] = tables["judge"].set_column(ratings, "ratings", [[[3, 3, 3, 3]] * 8]).cast(tables["judge"].schema)
    return tables


def test_export_without_a_pair_is_typed_and_loads(tmp_path: Path) -> None:
    config = Config(export=ExportConfig(test_fraction=0.5, formats=FORMATS))
    result = export_units(tmp_path, 2, config, make=tie_everything)
    assert (result.counts.ties, result.counts.pairs, result.sample_pair) == (16, 0, None)
    empty = datasets.load_dataset(str(tmp_path / "dataset"), "default", split="train", streaming=True)
    assert list(empty) == []
    assert empty.features == datasets.Features.from_arrow_schema(PAIRS_SCHEMA)
    assert pq.read_table(tmp_path / "dataset/data/train-00000-of-00001.parquet").num_rows == 0
    generations = datasets.load_dataset(str(tmp_path / "dataset"), "generations")
    assert sum(split.num_rows for split in generations.values()) == 64


def test_export_leaves_out_a_split_without_rows(tmp_path: Path) -> None:
    export_units(tmp_path, 1, Config(export=ExportConfig(test_fraction=1e-6)))
    assert set(datasets.load_dataset(str(tmp_path / "dataset"))) == {"train"}


def test_parquet_is_what_datasets_itself_writes(tmp_path: Path) -> None:
    result = export_units(tmp_path, 4)
    for name in CONFIGS:
        (file,) = (file for file in result.files if file.config == name)
        theirs = tmp_path / "theirs.parquet"
        datasets.Dataset.from_parquet(str(tmp_path / file.path)).to_parquet(theirs)
        ours, other = (pq.ParquetFile(path).metadata for path in (tmp_path / file.path, theirs))
        assert ours.schema == other.schema
        assert json.loads(ours.metadata[b"content_defined_chunking"]) == json.loads(
            other.metadata[b"content_defined_chunking"]
        )
        for column in range(ours.num_columns):
            mine, their = ours.row_group(0).column(column), other.row_group(0).column(column)
            assert (mine.compression, mine.has_column_index, mine.encodings) == (
                their.compression,
                their.has_column_index,
                their.encodings,
            )


def test_card_features_are_those_of_datasets(tmp_path: Path) -> None:
    result = export_units(tmp_path, 1)
    infos = {info["config_name"]: info for info in dataset_configs(result.files, result.schemas)["dataset_info"]}
    for name, schema in CONFIGS.items():
        expected = datasets.Features.from_arrow_schema(schema)
        assert datasets.Features._from_yaml_list(infos[name]["features"]) == expected
        assert infos[name]["features"] == expected._to_yaml_list()


def test_group_units_closes_groups_that_do_not_change_when_units_are_added() -> None:
    units = [make_unit(unit, words=4000) for unit in range(7)]
    few, many = (
        list(group_units(units[:count], {"generations": ("generate-main",), "judgements": ("judge",)}, block_mib=1))
        for count in (5, 7)
    )
    assert [len(group) for group in few[:-1]] == [len(group) for group in many[: len(few) - 1]]
    assert len(few) > 1
    assert [table for group in many for table in group] == units


def test_parquet_file_splits_large_tables_into_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synthgen.export.parquet.ROW_GROUP_BYTES", 2000)
    table = make_unit(0)["generate-main"]
    sink = io.BytesIO()
    file = ParquetFile(sink, table.schema)
    file.write(table)
    file.close()
    assert pq.read_metadata(sink).num_row_groups > 1
    assert pq.read_table(sink).num_rows == table.num_rows


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"formats": ["sft", "xlsx"]}, r"export\.formats=\['xlsx'\].*sft, text"),
        ({"test_fraction": 1.0}, r"export\.test_fraction=1\.0"),
        ({"shard_mib": 5000}, r"export\.shard_mib=5000"),
    ],
)
def test_export_rejects_settings_that_cannot_work(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        export_units(tmp_path, 1, Config(export=ExportConfig(**options)))
