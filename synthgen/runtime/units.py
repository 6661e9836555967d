"""Reading the committed units of a run as its export may use them, and dropping those that do not hold any more."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.flow import ResolvedStage
from synthgen.ledger.ingest import PromptLedger
from synthgen.ledger.read_ahead import read_ahead
from synthgen.ledger.run_dir import PROMPTS, CorruptUnitError, RunDir, StaleUnitError, digest_of, find_stale
from synthgen.records import PROMPTS_SCHEMA, TOOLS_FIELDS, Tables, extend_schema
from synthgen.stages.base import prompt_parts

logger = logging.getLogger(__name__)


def make_unit_reader(
    run_dir: RunDir, stages: Sequence[ResolvedStage], prompts: PromptLedger
) -> Callable[[int], Tables]:
    """Return a function from a unit's number to its tables by name: the prompts, and every stage's output.

    Prompts that the data set leaves out are in none of them. The function raises CorruptUnitError for a file that is
    torn, of another table, or made from another version of its inputs, and FileNotFoundError for one that is absent.
    """
    directories = {PROMPTS: PROMPTS} | {stage.name: stage.files.directory for stage in stages}
    # All units of a run have the columns of tools where one has them: its data set has one schema.
    prompt_schema = extend_schema(PROMPTS_SCHEMA, [field.name for field in TOOLS_FIELDS] if prompts.has_tools else ())
    schemas = {PROMPTS: prompt_schema} | {stage.name: stage.files.stage.schema for stage in stages}
    parts = {stage.name: prompt_parts(stage.files.stage) for stage in stages}
    left_out = {one for ids in prompts.left_out.values() for one in ids}

    def read_tables(unit: int) -> Tables:
        tables = {
            name: fit_schema(run_dir.read_unit(directory, unit), schemas[name], directory, unit)
            for name, directory in directories.items()
        }
        if prompts.units and digest_of(tables[PROMPTS]) != prompts.units[unit].file:
            raise CorruptUnitError(PROMPTS, unit, "is not what prompts/manifest.json says", wrong=True)

        def accepts(name: str, source: str, digest: str) -> bool:
            return source == PROMPTS and prompts.accepts(unit, digest, parts[name])

        if (stale := find_stale(tables, accepts)) is not None:
            raise StaleUnitError(directories[stale], unit)
        if here := left_out.intersection(tables[PROMPTS]["prompt_id"].to_pylist()):
            ids = pa.array(sorted(here), pa.string())
            tables = {name: _leave_out(table, ids) for name, table in tables.items()}
        return tables

    return read_tables


def fit_schema(table: pa.Table, schema: pa.Schema, directory: str, unit: int) -> pa.Table:
    """Return a unit's table with the columns of `schema`; those that an older version did not write are null.

    Raises:
        CorruptUnitError: it holds other columns, and so is another stage's file.
    """
    schema = extend_schema(schema, table.schema.names)
    if table.schema.equals(schema):
        return table
    known = [field for field in schema if field.name in table.schema.names]
    absent = [field for field in schema if field.name not in table.schema.names]
    fits = all(table.schema.field(field.name).type == field.type for field in known)
    if len(known) < table.num_columns or not fits or not all(field.nullable for field in absent):
        raise CorruptUnitError(directory, unit, "holds another stage's table", wrong=True)
    for field in absent:
        table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    metadata = table.schema.metadata
    return table.select(schema.names).cast(schema).replace_schema_metadata(metadata)


def drop_stale_units(run_dir: RunDir, stages: Sequence[ResolvedStage], prompts: PromptLedger) -> dict[str, list[int]]:
    """Set aside what stages made from prompts that have changed since, and return the units of each stage.

    Only units whose prompts were ever written anew are looked at; what stands further down goes when its input is gone.
    """
    edited = [unit for unit, said in enumerate(prompts.units) if said.former]
    dropped: dict[str, list[int]] = {}
    if not edited:
        return dropped
    for stage in stages:
        stale = find_stale_units(run_dir, stage, prompts, edited)
        for unit in stale:
            run_dir.discard(stage.files.directory, unit)
        split = run_dir.parts(stage.files.directory)
        for unit in set(edited) & set(split):
            for rows in split[unit]:
                run_dir.discard(stage.files.directory, unit, rows)
        if stale:
            dropped[stage.name] = stale
            logger.info("%s: %d units are made again, their prompts have changed", stage.name, len(stale))
    return dropped


def find_stale_units(
    run_dir: RunDir, stage: ResolvedStage, prompts: PromptLedger, edited: Sequence[int] | None = None
) -> list[int]:
    """Return the committed units of a stage that were made from prompts that have changed since in what it reads.

    Args:
        edited: the units to look at; None: all whose prompts were ever written anew.
    """
    if edited is None:
        edited = [unit for unit, said in enumerate(prompts.units) if said.former]
    parts = prompt_parts(stage.files.stage)
    done = run_dir.committed(stage.files.directory) if edited else set()
    units = [unit for unit in edited if unit in done]
    holds = read_ahead(lambda unit: _holds(run_dir, stage, unit, prompts, parts), units)
    return [unit for unit, held in zip(units, holds, strict=True) if not held]


def _holds(run_dir: RunDir, stage: ResolvedStage, unit: int, prompts: PromptLedger, parts: Sequence[str]) -> bool:
    try:
        digest = run_dir.read_inputs(stage.files.directory, unit).get(PROMPTS)
    except (CorruptUnitError, FileNotFoundError):
        return True  # whoever reads it says so
    return digest is None or prompts.accepts(unit, digest, parts)


def _leave_out(table: pa.Table, ids: pa.Array) -> pa.Table:
    return table.filter(pc.invert(pc.is_in(table["prompt_id"], ids)))
