"""Ingestion: from the prompt source to `prompts/unit-….parquet`, and the manifest that says what they are.

A run's prompts are a set that only grows: the source may give more of them, in another order, with other references or
metadata, and the units that exist stay. Prompts that the run holds and the source has no more are refused, unless
`prompts.removed` says what becomes of them; those that `prompts.exclude` names by now are left out of the data set.

The order of writing makes it whole: units first, the manifest last. What a refused or killed start left behind is in no
manifest, so the next start writes over it.

One file because the order of its steps is what makes the prompts whole.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pyarrow as pa

from synthgen.config import Config, RemovedPrompts
from synthgen.errors import ConfigError
from synthgen.ledger.manifest import (
    Manifest,
    PromptUnit,
    describe_unit,
    digest_columns,
    digest_ids,
    mark_ids,
    mark_of,
    read_manifest,
    split_marks,
    write_manifest,
)
from synthgen.ledger.read_ahead import read_ahead, read_small
from synthgen.ledger.run_dir import (
    PROMPTS,
    UNIT_NAME,
    CorruptUnitError,
    RunDir,
    digest_bytes,
    digest_of,
    encode_unit,
    unit_path,
)
from synthgen.prompts import RULES, PromptSource
from synthgen.prompts.sizes import measure_longest
from synthgen.prompts.source import PromptRow, make_table
from synthgen.records import (
    PROMPT_PARTS,
    PROMPTS_SCHEMA,
    concat_units,
    extend_schema,
    list_conversations,
    list_tools,
)

logger = logging.getLogger(__name__)

MOST_REMOTE_UNITS = 500
"""Files of an object store that a start reads only to measure what their prompts take."""


@dataclass(frozen=True)
class PromptLedger:
    """The prompts of a run: rows per unit (len: number of units), and what reading them found.

    Attributes:
        units: what each unit is; stages ask it whether what they made from an older file still holds.
        left_out: ids of prompts that the run holds and the data set does not, by reason: excluded, removed.
        notes: what a user should know of how the source was read just now, each in one line.
    """

    unit_rows: Sequence[int]
    stats: Mapping[str, Any]
    units: Sequence[PromptUnit] = ()
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def rows(self) -> int:
        """Prompts in all, those that are left out of the data set too."""
        return sum(self.unit_rows)

    @property
    def has_tools(self) -> bool:
        """Whether some unit has prompts with tools, or with turns that call some."""
        return any(unit.tools for unit in self.units)

    def accepts(self, unit: int, digest: str, columns: Iterable[str]) -> bool:
        """Return whether what a stage made from a file of this unit's prompts holds.

        Args:
            digest: of the file that it was made from.
            columns: of the prompts, those that the stage reads (`records.PROMPT_PARTS`).
        """
        return bool(self.units) and self.units[unit].accepts(digest, columns)


@dataclass(frozen=True)
class Survey:
    """What a start with a configuration would make of the prompts: see `survey_prompts`.

    Attributes:
        ledger: the prompts as they would be; `units` say what has changed since stages ran.
        sample: some of them, as a table of PROMPTS_SCHEMA.
    """

    ledger: PromptLedger
    sample: pa.Table


def ingest_prompts(run_dir: RunDir, config: Config) -> PromptLedger:
    """Return the run's prompts, reading the source only where the run directory does not hold them as it gives them.

    Raises:
        ConfigError: the source cannot be read, or has not all prompts that the run directory holds. Then nothing has
            changed in it.
    """
    manifest = read_manifest(run_dir)
    source = _open_source(config, manifest)
    fingerprint = source.fingerprint()
    if manifest is not None and _is_current(manifest, fingerprint, config) and not _find_damage(run_dir, manifest):
        return _to_ledger(_measure_again(run_dir, manifest))
    reading = _Reading(run_dir, config, source, manifest, write=True)
    try:
        made = reading.read(fingerprint)
    except BaseException:
        reading.take_back()
        raise
    for unit, data in reading.changed.items():
        run_dir.replace_unit(PROMPTS, unit, data)
    write_manifest(run_dir, made)
    _note_left_out_rows(run_dir, source)
    _delete_strays(run_dir, len(made.unit_rows))
    return _to_ledger(made, source.notes)


def survey_prompts(run_dir: RunDir, config: Config) -> Survey | None:
    """Return what `ingest_prompts` would do to a run directory that holds prompts, and change nothing.

    Returns:
        None where the directory holds no prompts yet.

    Raises:
        ConfigError: as `ingest_prompts`.
    """
    manifest = read_manifest(run_dir)
    if manifest is None and 0 not in run_dir.committed(PROMPTS):
        return None
    source = _open_source(config, manifest)
    fingerprint = source.fingerprint()
    if manifest is None or not _is_current(manifest, fingerprint, config):
        manifest = _Reading(run_dir, config, source, manifest, write=False).read(fingerprint)
    sample = _read_whole(run_dir, 0)
    return Survey(_to_ledger(manifest, source.notes), PROMPTS_SCHEMA.empty_table() if sample is None else sample)


def _open_source(config: Config, manifest: Manifest | None) -> PromptSource:
    """Return the source, read by the rules that the run began with: others would make other prompts of its rows."""
    return PromptSource(config.prompts, rules=RULES if manifest is None else manifest.rules)


def _is_current(manifest: Manifest, fingerprint: str, config: Config) -> bool:
    same = manifest.fingerprint == fingerprint and manifest.units is not None
    return same and (manifest.removed == config.prompts.removed.value or not manifest.missing)


def _to_ledger(manifest: Manifest, notes: Sequence[str] = ()) -> PromptLedger:
    return PromptLedger(manifest.unit_rows, manifest.stats, manifest.units or (), manifest.left_out, tuple(notes))


def _find_damage(run_dir: RunDir, manifest: Manifest) -> list[int]:
    """Return the units whose files are not what the manifest says, or are not there.

    On a local disk every file is read. An object store never shows half a file, so there only its name is looked for.
    """
    units = manifest.units or ()
    if run_dir.storage.root is None:
        return sorted(set(range(len(units))) - run_dir.committed(PROMPTS))
    found = read_small(lambda unit: run_dir.digest_file(PROMPTS, unit), range(len(units)))
    return [unit for unit, digest in enumerate(found) if digest != units[unit].file]


def _measure_again(run_dir: RunDir, manifest: Manifest) -> Manifest:
    """Return a manifest that says how long the prompts of every unit are; one that did not is written anew."""
    units = list(manifest.units or ())
    unknown = [unit for unit, said in enumerate(units) if not said.longest]
    if not unknown or (run_dir.storage.root is None and len(unknown) > MOST_REMOTE_UNITS):
        return manifest
    for unit, table in zip(unknown, read_ahead(lambda unit: run_dir.read_unit(PROMPTS, unit), unknown), strict=True):
        units[unit] = replace(units[unit], longest=measure_longest(table))
    manifest = replace(manifest, units=units)
    write_manifest(run_dir, manifest)
    return manifest


@dataclass(slots=True)
class _Known:
    """A unit that the run directory speaks of.

    Attributes:
        ids: of its prompts, in order, or None where its file is of no use.
        marks: by which its prompts are found in the source where its file is of no use.
        twins: `PromptSource.twin_key` of its prompts, in order.
        found: its prompts as the source gives them, where its file was of no use and the source has them all.
    """

    rows: int
    ids: list[str] | None
    file: str
    columns: Mapping[str, str]
    former: Mapping[str, Sequence[str]]
    ids_digest: str | None = None
    marks: bytes = b""
    twins: Sequence[bytes] = ()
    found: pa.Table | None = None


class _Reading:
    """One pass over a source, held against the units that a run directory has.

    Attributes:
        changed: bytes of units that exist and are to be written over, by unit. New units are written as they come.
    """

    def __init__(
        self, run_dir: RunDir, config: Config, source: PromptSource, manifest: Manifest | None, *, write: bool
    ) -> None:
        self._run_dir = run_dir
        self._config = config
        self._source = source
        self._write = write
        self._rules = RULES if manifest is None else manifest.rules
        self._known = _list_known(run_dir, manifest, source)
        # One listing: an object store would be asked for every new unit, one after the other.
        self._there = {int(match[1]) for path in run_dir.storage.list(PROMPTS) if (match := _unit_of(path))}
        self._units: dict[int, PromptUnit] = {}
        self._open: dict[int, dict[int, PromptRow]] = {}  # unit → row → what the source gives there
        self._new: list[PromptRow] = []
        self._cut = 0  # new units so far
        self._written: list[int] = []
        _find_lost(self._known, source)
        self._damaged = [unit for unit, known in enumerate(self._known) if known.ids is None]
        self.changed: dict[int, bytes] = {}

    def read(self, fingerprint: str) -> Manifest:
        """Return the manifest that fits the source; new units are written by then. Raises ConfigError."""
        places = {
            bytes.fromhex(prompt_id): (unit, row)
            for unit, known in enumerate(self._known)
            for row, prompt_id in enumerate(known.ids or ())
        }
        twins = {twin for known in self._known for twin in known.twins}
        for item in self._source.prompts(places, twins):
            place = places.get(bytes.fromhex(item[0]))
            if place is None:
                self._new.append(item)
                if not self._damaged:
                    self._cut_new(self._config.run.unit_size)
            else:
                self._put(item, *place)
        missing = self._close_known()
        self._restore_damaged()
        self._cut_new(1)
        if missing and self._config.prompts.removed is RemovedPrompts.refuse:
            self._refuse(missing)
        units = [self._units[unit] for unit in range(len(self._units))]
        return Manifest(
            fingerprint,
            [unit.rows for unit in units],
            units,
            asdict(self._source.stats),
            self._source.excluded_known,
            missing,
            self._config.prompts.removed.value,
            self._rules,
        )

    def take_back(self) -> None:
        """Delete the new units that were written. Should that fail, they are in no manifest all the same."""
        for unit in self._written:
            try:
                self._run_dir.storage.delete(unit_path(PROMPTS, unit))
            except Exception as error:
                logger.warning("%s could not be deleted: %s", unit_path(PROMPTS, unit), error)
                return

    def _put(self, item: PromptRow, unit: int, row: int) -> None:
        rows = self._open.setdefault(unit, {})
        rows[row] = item
        if len(rows) == self._known[unit].rows:
            del self._open[unit]
            self._compare(unit, make_table([rows[index] for index in range(len(rows))]))

    def _close_known(self) -> list[str]:
        """Compare the units of which the source gave only some prompts, or none. Return the ids it did not give."""
        missing: list[str] = []
        for unit, known in enumerate(self._known):
            if unit in self._units or known.ids is None:
                continue
            rows = self._open.pop(unit, {})
            missing += [prompt_id for row, prompt_id in enumerate(known.ids) if row not in rows]
            stored = known.found
            if stored is None:
                stored = self._run_dir.read_unit(PROMPTS, unit).replace_schema_metadata(None)
            parts = [make_table([rows[row]]) if row in rows else stored.slice(row, 1) for row in range(known.rows)]
            self._compare(unit, concat_units(parts))
        return missing

    def _compare(self, unit: int, table: pa.Table) -> None:
        """Keep a unit's file where the source says the same, else note what has changed and the bytes to write."""
        known = self._known[unit]
        columns = digest_columns(table)
        edited = [name for name, digest in columns.items() if known.columns.get(name) != digest]
        if not edited and known.found is None:
            ids = known.ids or ()
            self._units[unit] = PromptUnit(
                known.rows,
                known.file,
                digest_ids(ids),
                columns,
                known.former,
                mark_ids(ids),
                "tools" in table.column_names,
                measure_longest(table),
            )
            return
        data = encode_unit(table.combine_chunks(), None)
        former = {digest: sorted({*names, *edited}) for digest, names in {**known.former, known.file: ()}.items()}
        self._replace(unit, table, data, former)

    def _replace(self, unit: int, table: pa.Table, data: bytes, former: Mapping[str, Sequence[str]]) -> None:
        file = digest_bytes(data)
        self._units[unit] = describe_unit(
            table, file, {digest: names for digest, names in former.items() if digest != file}
        )
        self.changed[unit] = data

    def _restore_damaged(self) -> None:
        """Make the units anew that `_find_lost` could not, from the prompts that no other unit holds.

        Those of a manifest without marks: its digest says which ones, and where it has none, the order of the source.
        """
        for unit in self._damaged:
            known = self._known[unit]
            start = self._find_rows(known)
            rows = self._new[start : start + known.rows]
            del self._new[start : start + known.rows]
            if not rows and known.ids_digest is None and unit == len(self._known) - 1:
                self._known.pop()  # it only repeated prompts of others
                continue
            if len(rows) < (known.rows if known.ids_digest else 1):
                raise ConfigError(
                    f"run.dir={self._run_dir.url}: {unit_path(PROMPTS, unit)} is damaged or gone, and prompts.path="
                    f"{self._source.path} does not give all {known.rows} prompts of it any more; put them back "
                    "there, or choose another run.dir"
                )
            table = make_table(rows).combine_chunks()
            columns = digest_columns(table)
            same = known.ids_digest == digest_ids(table["prompt_id"].to_pylist())
            edited = [name for name, digest in columns.items() if known.columns.get(name) != digest]
            changed = edited if same else list(PROMPT_PARTS)
            former = {digest: sorted({*names, *changed}) for digest, names in {**known.former, known.file: ()}.items()}
            self._replace(unit, table, encode_unit(table, None), former)

    def _find_rows(self, known: _Known) -> int:
        """Return where in the new prompts those of a damaged unit begin; 0 where they do not stand together any more.

        Then the unit takes the first ones that are left, and what stages made of it is made again.
        """
        for start in range(max(0, len(self._new) - known.rows + 1)):
            if digest_ids(item[0] for item in self._new[start : start + known.rows]) == known.ids_digest:
                return start
        return 0

    def _cut_new(self, least: int) -> None:
        """Write the new prompts as units while there are `least` of them."""
        size = self._config.run.unit_size
        start = 0
        while len(self._new) - start >= least:
            table = make_table(self._new[start : start + size]).combine_chunks()
            start += size
            data = encode_unit(table, None)
            file = digest_bytes(data)
            unit = len(self._known) + self._cut
            self._cut += 1
            there = self._run_dir.digest_file(PROMPTS, unit) if unit in self._there else None
            # What stages made from another file that lies under a new unit's name does not hold.
            former = {} if there is None or there == file else {there: list(PROMPT_PARTS)}
            self._units[unit] = describe_unit(table, file, former)
            if self._write and there != file:
                self._written.append(unit)
                self._run_dir.replace_unit(PROMPTS, unit, data)
        del self._new[:start]

    def _refuse(self, missing: Sequence[str]) -> None:
        prompts = self._config.prompts
        held = sum(known.rows for known in self._known)
        limit = f" with prompts.limit={prompts.limit}" if prompts.limit is not None else ""
        raise ConfigError(
            f"run.dir={self._run_dir.url} holds {held} prompts, and prompts.path={self._source.path}{limit} gives "
            f"{len(missing)} of them no more (the first: {missing[0]}); a run can grow but not lose prompts: put them "
            "back, leave them out of the data set with prompts.removed=drop, keep them with prompts.removed=keep, or "
            f"choose another run.dir and take what is the same along with run.reuse=[{self._run_dir.url}]"
        )


def _list_known(run_dir: RunDir, manifest: Manifest | None, source: PromptSource) -> list[_Known]:
    """Return the units that a run directory has, by its manifest, else by the files that are there."""
    if manifest is None:
        return _list_files(run_dir, source)
    tables = read_ahead(lambda unit: _read_whole(run_dir, unit), range(len(manifest.unit_rows)))
    known: list[_Known] = []
    seen: set[str] = set()
    for unit, table in enumerate(tables):
        said = manifest.units[unit] if manifest.units is not None else None
        rows = manifest.unit_rows[unit]
        if said is None:
            item = _Known(rows, None, "", {}, {})
        else:
            item = _Known(rows, None, said.file, said.columns, said.former, said.ids, said.marks)
        if table is not None and table.num_rows == rows:
            ids = table["prompt_id"].to_pylist()
            if said is None and not seen.isdisjoint(ids):
                # Growth by version 0.1.0 could write prompts twice: from here on they are made anew.
                logger.warning("%s holds prompts that an earlier unit has; it is made again", unit_path(PROMPTS, unit))
            elif said is None or said.ids == digest_ids(ids):
                item.ids = ids
                item.twins = _list_twins(table, source)
                if said is None or digest_of(table) != said.file:
                    item.columns = digest_columns(table)
                    item.former = {**item.former, **({item.file: _edited(said, item.columns)} if said else {})}
                    item.file = digest_of(table)
        seen.update(item.ids or ())
        known.append(item)
    return known


def _find_lost(known: Sequence[_Known], source: PromptSource) -> None:
    """Give the units whose files are of no use their prompts again, where the source has them all, wherever they stand.

    From then on they are units like any other: prompts of theirs may be excluded, removed or edited at the same start.
    """
    lost = [item for item in known if item.ids is None and item.marks]
    if not lost:
        return
    wanted = {mark for item in lost for mark in split_marks(item.marks)}
    found: dict[bytes, PromptRow] = {}
    for row in source.rows_as_prompts():
        if (mark := mark_of(row[0])) in wanted:
            found.setdefault(mark, row)
    for item in lost:
        rows = [found[mark] for mark in split_marks(item.marks) if mark in found]
        ids = [row[0] for row in rows]
        if digest_ids(ids) != item.ids_digest:
            continue
        item.ids, item.found = ids, make_table(rows).combine_chunks()
        item.twins = _list_twins(item.found, source)


def _edited(said: PromptUnit, columns: Mapping[str, str]) -> list[str]:
    return [name for name, digest in columns.items() if said.columns.get(name) != digest]


def _list_twins(table: pa.Table, source: PromptSource) -> list[bytes]:
    return [
        source.twin_key(messages, tools)
        for messages, tools in zip(list_conversations(table), list_tools(table), strict=True)
    ]


def _list_files(run_dir: RunDir, source: PromptSource) -> list[_Known]:
    """Return the leading units that lie there, where no manifest says what they are.

    A unit counts while it is whole and repeats no prompt. Behind the last unit that a stage has worked on, files may be
    what a refused start left: they are taken only if nothing else has to be.
    """
    known: list[_Known] = []
    seen: set[str] = set()
    worked = {int(match[1]) for path in run_dir.storage.list("stages") if (match := _unit_of(path))}
    last = max(worked, default=-1)
    while len(known) <= last and (table := _read_whole(run_dir, len(known))) is not None:
        ids = table["prompt_id"].to_pylist()
        if not seen.isdisjoint(ids):
            break
        seen.update(ids)
        twins = _list_twins(table, source)
        known.append(_Known(table.num_rows, ids, digest_of(table), digest_columns(table), {}, twins=twins))
    return known


def _unit_of(path: str) -> Any:
    return UNIT_NAME.fullmatch(path.rpartition("/")[2])


def _read_whole(run_dir: RunDir, unit: int) -> pa.Table | None:
    """Return a unit that was written before, or None where its file is damaged, absent or no unit of prompts."""
    try:
        table = run_dir.read_unit(PROMPTS, unit)
    except FileNotFoundError:
        return None
    except CorruptUnitError as error:
        logger.warning("%s; it is read from the source again", error)
        return None
    return table if table.schema.equals(extend_schema(PROMPTS_SCHEMA, table.schema.names)) else None


def _note_left_out_rows(run_dir: RunDir, source: PromptSource) -> None:
    """Write which rows gave no prompt and why, over the list of an earlier start."""
    rows = [asdict(row) for row in (*source.bad_rows, *source.excluded_rows)]
    if rows:
        run_dir.write_failures(PROMPTS, 0, rows)
    else:
        run_dir.delete_failures(PROMPTS, 0)


def _delete_strays(run_dir: RunDir, units: int) -> None:
    for path in run_dir.storage.list(PROMPTS):
        match = _unit_of(path)
        if match and int(match[1]) >= units:
            run_dir.storage.delete(path)
