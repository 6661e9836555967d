"""The files of a data set with their sizes and hashes, and what has to change where they go.

In: the data set's directory, or a listing of where it goes. Out: `DataFile`s and their difference (`Changes`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from synthgen.errors import ConfigError
from synthgen.export.files import CARD, is_owned
from synthgen.export.manifest import is_hidden
from synthgen.ledger.storage import Storage

_BLOCK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file of a data set.

    Attributes:
        path: relative to the data set's root, with forward slashes.
        size: bytes.
        sha256: of its bytes, in hexadecimal: the identity of large (LFS, Xet) files on the Hub.
        blob_id: the git object id of its bytes, in hexadecimal: the identity of small files on the Hub.
        source: the local file, or the bytes themselves, or None: read `path` from the storage.
    """

    path: str
    size: int
    sha256: str
    blob_id: str
    source: Path | bytes | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """What makes a place hold exactly the data set: files to send, and paths to remove (both sorted by path)."""

    send: tuple[DataFile, ...]
    remove: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.send or self.remove)


def scan_dataset(
    storage: Storage, prefix: str = "dataset", replaced: Mapping[str, bytes] | None = None, *, need_whole: bool = True
) -> list[DataFile]:
    """Return the files below the directory `prefix` of `storage`, sorted by path, each read once to hash it.

    Args:
        replaced: files by path that take the place of stored ones, or come on top (a card made anew).
        need_whole: refuse what has no card or no data.

    Raises:
        ConfigError: there is no data set, or it has no card.
    """
    below = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    found: dict[str, DataFile] = {}
    for stored in storage.list(prefix):
        path = stored.removeprefix(below)
        if path in (replaced or {}) or is_hidden(path):
            continue
        local = storage.root / stored if storage.root else None
        found[path] = _hash(path, _blocks(local) if local else [storage.read(stored)], local)
    for path, data in (replaced or {}).items():
        found[path] = _hash(path, [data], data)
    if need_whole and (CARD not in found or not any(is_owned(path) for path in found.keys() - {CARD})):
        raise ConfigError(f"run.dir={storage.url} holds no whole data set; finish the run with `synthgen run` first")
    return [found[path] for path in sorted(found)]


def read_file(storage: Storage, prefix: str, file: DataFile) -> bytes:
    """Return the bytes of a scanned file."""
    if isinstance(file.source, bytes):
        return file.source
    if isinstance(file.source, Path):
        return file.source.read_bytes()
    return storage.read(f"{prefix.strip('/')}/{file.path}".lstrip("/"))


def is_synthgen_card(card: str) -> bool:
    """Return whether a card's metadata carry the tag `synthgen`."""
    import yaml
    from huggingface_hub import DatasetCard

    try:
        data = DatasetCard(card, ignore_metadata_errors=True).data
    except (ValueError, TypeError, yaml.YAMLError):
        return False
    return "synthgen" in (data.get("tags") or [])


def hash_bytes(path: str, data: bytes) -> DataFile:
    """Return the `DataFile` of `data` under `path`."""
    return _hash(path, [data], data)


def _hash(path: str, blocks: Iterable[bytes], source: Path | bytes | None) -> DataFile:
    # A git object id starts with the size, so a local file's is taken from its directory entry.
    size = source.stat().st_size if isinstance(source, Path) else None
    if size is None:
        blocks = list(blocks)
        size = sum(map(len, blocks))
    sha256 = hashlib.sha256()
    blob = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    for block in blocks:
        sha256.update(block)
        blob.update(block)
    return DataFile(path, size, sha256.hexdigest(), blob.hexdigest(), source)


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as handle:
        while block := handle.read(_BLOCK_BYTES):
            yield block
