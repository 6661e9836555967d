"""The one statement of what a run's prompts are: `prompts/manifest.json`, written whole, after the files it speaks of.

A unit's file counts only if it is what the manifest says. Units on the disk that it does not name are nothing.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from synthgen.config import RemovedPrompts
from synthgen.ledger.run_dir import MANIFEST, RunDir
from synthgen.prompts.sizes import measure_longest
from synthgen.records import EDITABLE

logger = logging.getLogger(__name__)

MARK_BYTES = 6
"""Of a prompt's id, those that the manifest holds: by them a lost prompt is found among millions, at 8 bytes each."""


@dataclass(frozen=True, slots=True)
class PromptUnit:
    """What a unit of prompts is.

    Attributes:
        rows: prompts in it.
        file: digest of its file.
        ids: digest of its prompt ids, in order.
        columns: digest of each of EDITABLE.
        former: digests of files that stood here before, each with the columns that have changed since; `""`: an unknown
            file, of which all may have.
        marks: the first MARK_BYTES of every prompt id, in order and one behind the other, by which the source is
            searched should the file be lost; empty: a manifest that was written before there were any.
        tools: whether it has the columns of TOOLS_FIELDS.
        longest: bytes of its longest prompt (`synthgen.prompts.sizes.measure_longest`); empty: a manifest that was
            written before they were measured.
    """

    rows: int
    file: str
    ids: str
    columns: Mapping[str, str]
    former: Mapping[str, Sequence[str]] = field(default_factory=dict)
    marks: bytes = b""
    tools: bool = False
    longest: Mapping[int, int] = field(default_factory=dict)

    def accepts(self, digest: str, columns: Iterable[str]) -> bool:
        """Return whether what was made from the file with this digest holds, for a stage that reads these columns."""
        if digest == self.file:
            return True
        changed = self.former.get(digest)
        return changed is not None and not set(changed) & set(columns)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A run's prompts.

    Attributes:
        fingerprint: of the source and of what picks from it (`PromptSource.fingerprint`).
        unit_rows: rows of every unit; len: the number of units.
        units: what each of them is; None: a manifest of version 0.1.0 as it was first written, which does not say.
        stats: what reading the source found.
        excluded: ids of prompts that the run holds and that `prompts.exclude` names by now.
        missing: ids of prompts that the run holds and that the source has no more.
        removed: `prompts.removed`: what becomes of those.
        rules: how the defaults read the source (`synthgen.prompts.RULES`); they stay what they were when the run began.
    """

    fingerprint: str
    unit_rows: Sequence[int]
    units: Sequence[PromptUnit] | None
    stats: Mapping[str, Any]
    excluded: Sequence[str] = ()
    missing: Sequence[str] = ()
    removed: str = RemovedPrompts.refuse.value
    rules: int = 0

    @property
    def left_out(self) -> dict[str, Sequence[str]]:
        """Ids of prompts that the run holds and the data set does not, by reason."""
        dropped = self.missing if self.removed == RemovedPrompts.drop.value else ()
        return {reason: ids for reason, ids in (("excluded", self.excluded), ("removed", dropped)) if ids}


def read_manifest(run_dir: RunDir) -> Manifest | None:
    """Return the manifest, or None where there is none that can be used (then the prompts' files are looked at)."""
    value = run_dir.read_json(MANIFEST)
    if value is None:
        return None
    try:
        return _parse(value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        logger.warning("%s is damaged (%s); it is made again from the prompts", MANIFEST, error)
        return None


def write_manifest(run_dir: RunDir, manifest: Manifest) -> None:
    """Write the manifest over the one that was there: from now on this is what the run's prompts are."""
    units = [
        {
            "file": unit.file,
            "ids": unit.ids,
            **unit.columns,
            **({"marks": base64.b64encode(unit.marks).decode()} if unit.marks else {}),
            **({"tools": True} if unit.tools else {}),
            **({"longest": {str(count): size for count, size in unit.longest.items()}} if unit.longest else {}),
            **({"former": {digest: list(columns) for digest, columns in unit.former.items()}} if unit.former else {}),
        }
        for unit in manifest.units or ()
    ]
    value = {
        "fingerprint": manifest.fingerprint,
        "unit_rows": list(manifest.unit_rows),
        "stats": dict(manifest.stats),
        "excluded": list(manifest.excluded),
        "missing": list(manifest.missing),
        "removed": manifest.removed,
        "rules": manifest.rules,
        "units": units,
    }
    run_dir.write_json(MANIFEST, value, indent=None)


def describe_unit(table: pa.Table, file: str, former: Mapping[str, Sequence[str]] | None = None) -> PromptUnit:
    """Return what a table of PROMPTS_SCHEMA is, as the file with this digest."""
    ids = table["prompt_id"].to_pylist()
    return PromptUnit(
        table.num_rows,
        file,
        digest_ids(ids),
        digest_columns(table),
        former or {},
        mark_ids(ids),
        "tools" in table.column_names,
        measure_longest(table),
    )


def digest_ids(ids: Iterable[str]) -> str:
    """Return the digest of prompt ids in their order."""
    return _digest(ids)


def mark_ids(ids: Iterable[str]) -> bytes:
    """Return what a manifest holds of every prompt id, in order."""
    return b"".join(mark_of(prompt_id) for prompt_id in ids)


def split_marks(marks: bytes) -> list[bytes]:
    """Return the marks of `mark_ids`, one by one."""
    return [marks[start : start + MARK_BYTES] for start in range(0, len(marks), MARK_BYTES)]


def mark_of(prompt_id: str) -> bytes:
    """Return what a manifest holds of a prompt id: its first MARK_BYTES."""
    return bytes.fromhex(prompt_id)[:MARK_BYTES]


def digest_columns(table: pa.Table) -> dict[str, str]:
    """Return the digest of each of EDITABLE in a table of PROMPTS_SCHEMA."""
    return {
        name: _digest(value for column in columns for value in table[column].to_pylist())
        for name, columns in EDITABLE.items()
    }


def _digest(values: Iterable[str | None]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for value in values:
        data = b"" if value is None else value.encode("utf-8", "surrogatepass")
        digest.update(b"-" if value is None else b"%d:" % len(data))
        digest.update(data)
    return digest.hexdigest()


def _parse(value: Mapping[str, Any]) -> Manifest:
    unit_rows = [int(rows) for rows in value["unit_rows"]]
    if any(rows < 1 for rows in unit_rows):
        raise ValueError("a unit without rows")
    written: Sequence[Mapping[str, Any]] | None = value.get("units")
    units = None
    shared: dict[tuple[str, ...], dict[str, str]] = {}  # most units of a run have the same digests: of no references
    if written is not None:
        units = [
            PromptUnit(
                rows,
                str(unit["file"]),
                str(unit["ids"]),
                _parse_columns(unit, shared),
                {str(digest): [str(name) for name in names] for digest, names in unit.get("former", {}).items()},
                _parse_marks(unit.get("marks", ""), rows),
                unit.get("tools") is True,
                {int(count): int(size) for count, size in unit.get("longest", {}).items()},
            )
            for rows, unit in zip(unit_rows, written, strict=True)
        ]
    excluded, missing = ([str(one) for one in value.get(key, [])] for key in ("excluded", "missing"))
    removed = str(value.get("removed", RemovedPrompts.refuse.value))
    stats, rules = dict(value["stats"]), int(value.get("rules", 0))
    return Manifest(str(value["fingerprint"]), unit_rows, units, stats, excluded, missing, removed, rules)


def _parse_columns(unit: Mapping[str, Any], shared: dict[tuple[str, ...], dict[str, str]]) -> Mapping[str, str]:
    digests = tuple(str(unit[name]) for name in EDITABLE)
    return shared.setdefault(digests, dict(zip(EDITABLE, digests, strict=True)))


def _parse_marks(value: str, rows: int) -> bytes:
    data = base64.b64decode(value, validate=True)
    if data and len(data) != rows * MARK_BYTES:
        raise ValueError(f"{len(data)} bytes of marks for {rows} prompts")
    return data
