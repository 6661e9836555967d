"""The data set of a distilabel task: one config, `default`, with a row per completion and the task's columns, typed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from synthgen.config import Config
from synthgen.config.stage_names import TASK, Kind
from synthgen.errors import ConfigError
from synthgen.export.blocks import is_test, name_models
from synthgen.export.dataset import check_export
from synthgen.export.features import dataset_configs
from synthgen.export.files import ExportedFile
from synthgen.export.formats import FORMATS
from synthgen.export.infer import close_type, convert_value, infer_type, join_types
from synthgen.export.kept import add_columns, find_types
from synthgen.export.parts import Parts
from synthgen.ledger.read_ahead import read_ahead
from synthgen.ledger.storage import Storage
from synthgen.records import MESSAGES_TYPE, Tables
from synthgen.tasks import load_task

CONFIG = "default"
OWN_COLUMNS = ("prompt_id", "prompt", "sample_index", "model_name", "raw_text", "error", "source", "metadata")
"""A task's column of one of these names gets `task_` before it."""


@dataclass(frozen=True, slots=True)
class TaskExport:
    """What was written.

    Attributes:
        files: all files of the data set but its card. schema: of its rows.
        sample: a row in which the task read something, or None.
    """

    files: tuple[ExportedFile, ...]
    schema: pa.Schema
    sample: dict[str, Any] | None

    @property
    def pairs(self) -> dict[str, Any]:
        """A task makes no pairs."""
        return {}

    @property
    def report(self) -> dict[str, Any]:
        """What the export adds to the report: rows by split, a sample row."""
        rows: Counter[str] = Counter()
        for file in self.files:
            rows[file.split] += file.rows
        return {"dataset": {CONFIG: dict(rows)}, "sample_row": self.sample}

    @property
    def dataset(self) -> dict[str, Any]:
        """The `configs` and `dataset_info` of the card's YAML header."""
        return dataset_configs(self.files, {CONFIG: self.schema})


def export_task(
    storage: Storage,
    units: Sequence[int],
    read_tables: Callable[[int], Tables],
    made: Mapping[Kind, Sequence[str]],
    config: Config,
) -> TaskExport:
    """Write the data set of the committed `units`, in their order, and remove what it replaces.

    Args:
        storage: the run directory.
        units: numbers of all units, in order.
        read_tables: gives a unit's tables: `prompts` and `task`. Every unit is read twice, for types and for
            rows. Called from several threads.
        made: names of the tables of each kind; of a task only `task` is read.
        config: the run's configuration.
    """
    check_export(config.export)
    keep = config.export.keep_columns
    schema = _make_schema(config, (tables[TASK] for tables in read_ahead(read_tables, units)))
    kept = find_types(keep, (tables["prompts"] for tables in read_ahead(read_tables, units))) if keep else {}
    if clash := sorted(kept.keys() & set(schema.names)):
        raise ConfigError(f"export.keep_columns={clash} are columns that the task writes itself; leave them out")
    sample: dict[str, Any] | None = None
    with Parts(storage) as parts:
        rows_by_unit = (_make_rows(tables, schema, kept, config) for tables in read_ahead(read_tables, units))
        groups = _group(rows_by_unit, config.export.shard_mib)
        for shard, rows in enumerate(groups):
            if sample is None:
                good = rows.filter(pa.compute.is_null(rows["error"])).slice(0, 1).to_pylist()
                sample = good[0] if good else None
            splits = _split(rows, config.export.test_fraction)
            parts.add(shard, {(CONFIG, split): table for split, table in splits.items()})
        files = parts.write((CONFIG, "kto", "generations", *FORMATS))
    return TaskExport(files, pa.schema([*schema, *kept.items()], metadata=schema.metadata), sample)


def _make_schema(config: Config, tables: Iterator[pa.Table]) -> pa.Schema:
    types = {name: pa.null() for name in load_task(config.task.path, config.task.kwargs).outputs}
    for table in tables:
        for output in table["output"].to_pylist():
            columns = json.loads(output) if output else {}
            types = {name: join_types(type_, infer_type(columns.get(name))) for name, type_ in types.items()}
    own = {
        **dict.fromkeys(OWN_COLUMNS, pa.string()),
        "prompt": MESSAGES_TYPE,
        "sample_index": pa.int32(),
    }
    first, last = OWN_COLUMNS[:2], OWN_COLUMNS[2:]
    return pa.schema(
        [
            *((name, own[name]) for name in first),
            *((_column(name), close_type(type_)) for name, type_ in types.items()),
            *((name, own[name]) for name in last),
        ],
        metadata={"outputs": json.dumps(list(types))},
    )


def _column(output: str) -> str:
    return f"task_{output}" if output in OWN_COLUMNS else output


def _make_rows(tables: Tables, schema: pa.Schema, kept: Mapping[str, pa.DataType], config: Config) -> pa.Table:
    prompts = {row["prompt_id"]: row for row in tables["prompts"].to_pylist()}
    outputs: list[str] = json.loads(schema.metadata[b"outputs"])
    rows = []
    for row in name_models(tables[TASK], "model", config).to_pylist():
        prompt = prompts[row["prompt_id"]]
        values = json.loads(row["output"]) if row["output"] else {}
        columns = {_column(name): values.get(name) for name in outputs}
        rows.append(
            {name: convert_value(value, schema.field(name).type) for name, value in columns.items()}
            | {name: row[name] for name in ("prompt_id", "sample_index", "raw_text", "error")}
            | {"prompt": prompt["messages"], "source": prompt["source"], "metadata": prompt["metadata"]}
            | {"model_name": row["model"]}
        )
    table = pa.Table.from_pylist(rows, schema=schema).replace_schema_metadata(None)
    return add_columns(table, tables["prompts"], kept)


def _group(tables: Iterator[pa.Table], shard_mib: int) -> Iterator[pa.Table]:
    """Yield the rows of consecutive units in tables of about `shard_mib` MiB."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(item.nbytes for item in held) >= shard_mib * 2**20:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)


def _split(rows: pa.Table, test_fraction: float) -> dict[str, pa.Table]:
    if test_fraction <= 0:
        return {"train": rows}
    test = is_test(rows["prompt_id"], test_fraction)
    return {"train": rows.filter(pa.compute.invert(test)), "test": rows.filter(test)}
