"""The manifest of a data set, `dataset/.export.json`: written with it and last, it says what is whole and what made it.

In: the files of an export that is ready, its configuration and its report. Out: a `Manifest`, which `publish`, `report`
and training read instead of files that the next start may change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from synthgen.errors import ConfigError
from synthgen.export.files import CARD, ROOT, is_owned
from synthgen.ledger.storage import Storage
from synthgen.records import stable_hex

MANIFEST_NAME = ".export.json"
MEND = "start the same `synthgen run` again: nothing is generated anew"

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One file: its path within the data set, its rows (None for the card and for pictures), its size and hash."""

    path: str
    rows: int | None
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A data set as its export left it.

    Attributes:
        export_id: hash of the files.
        exported_at: ISO 8601, UTC.
        stages: directory of the exported units by stage, within the run directory.
        dataset: the `configs` and `dataset_info` of the card's YAML header.
        config: the configuration that made the exported units, as YAML (`read_saved_config`).
        report: the run's report at that time.
    """

    files: tuple[ManifestFile, ...]
    export_id: str
    exported_at: str
    stages: dict[str, str]
    dataset: dict[str, Any]
    config: str
    report: dict[str, Any]

    def dump(self) -> bytes:
        """Return the bytes of the manifest's file, which end with a hash of themselves."""
        fields = json.loads(json.dumps({"format": _FORMAT, **asdict(self)}, default=str))
        return (json.dumps({**fields, "digest": _digest(fields)}, indent=1) + "\n").encode()


def describe_files(directory: Path) -> tuple[ManifestFile, ...]:
    """Return all files of an export that is ready, sorted by path; `directory` is the data set's."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return tuple(
        ManifestFile(path.relative_to(directory).as_posix(), _count_rows(path), path.stat().st_size, hash_file(path))
        for path in paths
    )


def identify_files(files: Sequence[ManifestFile]) -> str:
    """Return the `export_id` of these files: the card, which holds times, left out."""
    return stable_hex([(file.path, file.sha256) for file in files if file.path != CARD], digits=16)


def read_manifest(storage: Storage, prefix: str = ROOT) -> Manifest | None:
    """Return the manifest of the data set below `prefix`, None where there is none.

    Raises:
        ConfigError: it is damaged.
    """
    path = f"{prefix}/{MANIFEST_NAME}".lstrip("/")
    try:
        data = storage.read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fields = json.loads(data)
        digest = fields.pop("digest")
        if digest != _digest(fields):
            raise ValueError("its hash is another one")
        known = {name: fields[name] for name in Manifest.__dataclass_fields__}
        files = tuple(ManifestFile(**file) for file in known.pop("files"))
        return Manifest(files, **known)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{storage.url}/{path} is damaged; {MEND}") from error


def find_faults(manifest: Manifest, found: Mapping[str, str]) -> list[str]:
    """Return a phrase for each file that does not fit the manifest: missing, changed, or no part of the export.

    Args:
        found: sha256 of what is there, by path within the data set. Files of other kinds than synthgen writes pass.
    """
    listed = {file.path: file for file in manifest.files}
    faults = []
    for path, file in listed.items():
        if path not in found:
            rows = f" ({file.rows:,} rows)" if file.rows is not None else ""
            faults.append(f"{path}{rows} is missing")
        elif found[path] != file.sha256:
            faults.append(f"{path} is not what the export wrote")
    return faults + [
        f"{path} is no part of the export" for path in sorted(found) if is_owned(path) and path not in listed
    ]


def check_files(where: str, manifest: Manifest, found: Mapping[str, str]) -> None:
    """Raise ConfigError, naming the files, where those in the data set `where` do not fit the manifest."""
    faults = find_faults(manifest, found)
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise ConfigError(f"{where} is not whole: {'; '.join(faults[:3])}{more}; {MEND}")


def hash_files(directory: Path) -> dict[str, str]:
    """Return the sha256 of every file of a local data set by path, hidden files left out."""
    paths = (path for path in sorted(directory.rglob("*")) if path.is_file())
    names = {path.relative_to(directory).as_posix(): path for path in paths}
    return {name: hash_file(path) for name, path in names.items() if not is_hidden(name)}


def is_hidden(path: str) -> bool:
    """Return whether a path has a part that begins with a dot."""
    return any(part.startswith(".") for part in path.split("/"))


def hash_file(path: Path) -> str:
    """Return the sha256 of a local file, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _digest(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]


def _count_rows(path: Path) -> int | None:
    import pyarrow.parquet as pq

    if path.suffix == ".parquet":
        return int(pq.read_metadata(path).num_rows)
    if path.suffix == ".jsonl":
        with path.open("rb") as handle:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: handle.read(1 << 20), b""))
    return None
