"""Failed rows that are asked again: what is kept of a unit meanwhile, and which units an earlier start left with some.

A unit is taken back by writing its table to `retries/<directory>/`, with the ids of the prompts to ask again, and then
deleting its file. The replica that makes it again asks those prompts alone and takes all other rows from there; the
file goes when the unit is committed. A kill at any moment leaves either the unit, or what is kept of it, or both.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config import RetryFailed
from synthgen.ledger.read_ahead import read_ahead
from synthgen.ledger.run_dir import (
    PROMPTS,
    UNIT_NAME,
    CorruptUnitError,
    RunDir,
    decode_unit,
    encode_unit,
    read_stored_counts,
    unit_path,
)
from synthgen.records import EDITABLE, Tables, UnitCounts, concat_units, stable_hex
from synthgen.stages.base import LLMStage, StageFiles, prompt_parts

ASK_KEY = b"synthgen.ask_again"
KEPT_KEY = b"synthgen.kept_inputs"
MOST_TRIES = 3
"""Later starts at which the failed rows of a unit are asked again (`run.retry_failed=auto`)."""
MAY_PASS = frozenset(
    {"bad_answer", "chat_template", "engine_error", "no_text", "rate_limited", "server_error", "timeout"}
)
"""Reasons that count as passing where a unit does not say: those of runs from before units said it. `chat_template` is
one, because a system message that a template refuses is put into the user turn now."""


@dataclass(frozen=True)
class Kept:
    """What is kept of a unit whose failed rows are asked again.

    Attributes:
        table: all of its rows. ask: ids of the prompts to ask again.
        inputs: by name, a digest of the input's rows of all other prompts: while they are the same, rows can be kept.
        counts: of the whole unit so far; its `tries` are those after the next one.
    """

    table: pa.Table
    ask: frozenset[str]
    inputs: Mapping[str, str]
    counts: UnitCounts

    def fits(self, stage: LLMStage, tables: Tables) -> bool:
        """Return whether the rows that are not asked again were made from `tables`, in what the stage reads of them."""
        return self.inputs == digest_kept(stage, tables, self.ask)


def digest_kept(stage: LLMStage, tables: Tables, ask: Iterable[str]) -> dict[str, str]:
    """Return by name a digest of the rows of all prompts but `ask`, of the prompts what the stage reads."""
    wanted = pa.array(sorted(ask), pa.string())
    read = [column for part in prompt_parts(stage) for column in EDITABLE.get(part, (part,))]
    tables = {**tables, PROMPTS: tables[PROMPTS].select(["prompt_id", *read])}
    kept = {name: table.filter(pc.invert(pc.is_in(table["prompt_id"], wanted))) for name, table in tables.items()}
    return {name: stable_hex(table.to_pylist()) for name, table in kept.items()}


def write_kept(run_dir: RunDir, directory: str, unit: int, kept: Kept) -> None:
    """Write what is kept of a unit, over what was kept before."""
    extra = {ASK_KEY: json.dumps(sorted(kept.ask)).encode(), KEPT_KEY: json.dumps(dict(kept.inputs)).encode()}
    run_dir.storage.replace(kept_path(directory, unit), encode_unit(kept.table, kept.counts, extra=extra))


def read_kept(run_dir: RunDir, directory: str, unit: int) -> Kept | None:
    """Return what is kept of a unit, None where that is nothing, or nothing that can be used."""
    path = kept_path(directory, unit)
    if not run_dir.storage.exists(path):
        return None
    try:
        table = decode_unit(run_dir.storage.read(path), directory, unit)
        metadata = table.schema.metadata
        ask: list[str] = json.loads(metadata[ASK_KEY])
        inputs: dict[str, str] = json.loads(metadata[KEPT_KEY])
    except (CorruptUnitError, FileNotFoundError, KeyError, ValueError):
        return None
    return Kept(table.replace_schema_metadata(None), frozenset(ask), inputs, read_stored_counts(table))


def list_kept(run_dir: RunDir, directory: str) -> list[int]:
    """Return the units of which something is kept."""
    names = [path.rpartition("/")[2] for path in run_dir.storage.list(f"retries/{directory}")]
    return sorted(int(match[1]) for name in names if (match := UNIT_NAME.fullmatch(name)))


def drop_kept(run_dir: RunDir, directory: str, unit: int) -> None:
    """Delete what was kept of a unit that is committed now."""
    run_dir.storage.delete(kept_path(directory, unit))


def merge_kept(kept: Kept, renewed: pa.Table, prompt_ids: Sequence[str]) -> pa.Table:
    """Return the unit's table: rows of `renewed` for the prompts that were asked again, kept rows for the others."""
    kept_rows = _rows_by_prompt(kept.table)
    new_rows = _rows_by_prompt(renewed)
    both = concat_units([kept.table, renewed])
    offset = kept.table.num_rows
    order: list[int] = []
    for prompt_id in prompt_ids:
        if prompt_id in kept.ask:
            order += [offset + row for row in new_rows.get(prompt_id, [])]
        else:
            order += kept_rows.get(prompt_id, [])
    return both.take(pa.array(order, pa.int64())).combine_chunks()


def failed_prompts(table: pa.Table, reasons: Iterable[str] | None = None) -> frozenset[str]:
    """Return the ids of the prompts that have a failed row, of one of `reasons` where they are given."""
    failed = pc.is_valid(table["error"])
    if reasons is not None:
        failed = pc.and_(failed, pc.is_in(table["error"], pa.array(sorted(reasons), pa.string())))
    return frozenset(table["prompt_id"].filter(failed).to_pylist())


def list_retries(
    run_dir: RunDir, stages: Sequence[StageFiles], done: Mapping[str, Iterable[int]], retry: RetryFailed
) -> dict[str, dict[int, frozenset[str]]]:
    """Return which prompts are to be asked again, by stage and unit: failed ones, and those whose input will change.

    With `auto` only units with a file in `failures/` are looked at: a run without failures costs a listing per stage.

    Args:
        stages: in the order of the flow. done: committed units by stage name.
    """
    found: dict[str, dict[int, frozenset[str]]] = {}
    if retry is RetryFailed.never:
        return found
    for files in stages:
        name = files.stage.name
        committed = set(done.get(name, ()))
        own = _failed_again(run_dir, files, committed, retry)
        for source in files.inputs:
            for unit, prompts in found.get(source, {}).items():
                if unit in committed:
                    own[unit] = own.get(unit, frozenset()) | prompts
        if own:
            found[name] = own
    return found


def take_back(
    run_dir: RunDir, stages: Sequence[StageFiles], done: Mapping[str, set[int]], retry: RetryFailed
) -> dict[str, dict[int, frozenset[str]]]:
    """Take the units of `list_retries` out of the ledger and out of `done`, keeping their good rows."""
    found = list_retries(run_dir, stages, done, retry)
    for files in reversed(stages):  # what was made from a unit goes first
        asked = found.get(files.stage.name, {})

        def take(unit: int, files: StageFiles = files, asked: Mapping[int, frozenset[str]] = asked) -> int:
            _take_unit(run_dir, files, unit, asked[unit])
            return unit

        done[files.stage.name].difference_update(read_ahead(take, asked))
    return found


def kept_path(directory: str, unit: int) -> str:
    """Return the path of what is kept of a unit, within the run directory."""
    return f"retries/{unit_path(directory, unit)}"


def _take_unit(run_dir: RunDir, files: StageFiles, unit: int, ask: frozenset[str]) -> None:
    """Write what is kept of a committed unit, and then delete its file."""
    tables = {name: run_dir.read_unit(path, unit) for name, path in files.inputs.items()}
    table = run_dir.read_unit(files.directory, unit)
    counts = read_stored_counts(table)
    counts = _raise_tries(counts) if failed_prompts(table) & ask else counts
    kept = Kept(table.replace_schema_metadata(None), ask, digest_kept(files.stage, tables, ask), counts)
    write_kept(run_dir, files.directory, unit, kept)
    run_dir.storage.delete(unit_path(files.directory, unit))


def _failed_again(
    run_dir: RunDir, files: StageFiles, committed: set[int], retry: RetryFailed
) -> dict[int, frozenset[str]]:
    failed = committed if retry is RetryFailed.always else run_dir.failed_units(files.stage.name)
    units = sorted(committed & set(failed))
    read = read_ahead(lambda unit: run_dir.read_counts(files.directory, unit), units)
    counts = dict(zip(units, read, strict=True))
    whole_stage = len(units) == len(committed) and all(c.failed_rows == c.rows for c in counts.values())
    found: dict[int, frozenset[str]] = {}
    for unit, count in counts.items():
        reasons = set(count.failures) if whole_stage or retry is RetryFailed.always else _passing(count)
        if not reasons or (retry is RetryFailed.auto and count.tries >= MOST_TRIES):
            continue
        prompts = failed_prompts(run_dir.read_unit(files.directory, unit), reasons)
        if prompts:
            found[unit] = prompts
    return found


def _passing(counts: UnitCounts) -> set[str]:
    return set(counts.may_pass) | (MAY_PASS & set(counts.failures))


def _raise_tries(counts: UnitCounts) -> UnitCounts:
    return replace(counts, tries=counts.tries + 1)


def _rows_by_prompt(table: pa.Table) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, prompt_id in enumerate(table["prompt_id"].to_pylist()):
        rows.setdefault(prompt_id, []).append(row)
    return rows
