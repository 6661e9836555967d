"""Copy of a data set to a directory or an object store: only what changed, read back and compared, the card last.

A data set without its card is unfinished. The card is taken away before the first change and put back after the last
check, so a cut copy never looks whole, and the same command finishes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from synthgen.errors import ConfigError, PublishError, SynthgenError
from synthgen.export.files import CARD, is_owned
from synthgen.ledger.storage import Storage, open_storage
from synthgen.publish.files import (
    Changes,
    DataFile,
    hash_bytes,
    is_synthgen_card,
    read_file,
)
from synthgen.publish.markup import plain

MARKER = ".synthgen-publishing"
"""Name of the file that says, while it is there, that a copy is under way or was cut."""


@dataclass(frozen=True, slots=True)
class DirectoryCopy:
    """What a copy did (paths; bytes written)."""

    url: str
    sent: tuple[str, ...]
    removed: tuple[str, ...]
    sent_bytes: int


def copy_to_directory(storage: Storage, prefix: str, files: Sequence[DataFile], to_dir: str) -> DirectoryCopy:
    """Make `to_dir` hold exactly `files` and return what that took. Files of other kinds in there are left alone.

    Args:
        storage: where the files are, below the directory `prefix`.
        to_dir: a path or an object-store URL.

    Raises:
        ConfigError: `to_dir` cannot be used, or holds something else.
        PublishError: a file could not be written, or did not arrive as it was sent.
    """
    target = open_storage(to_dir, key="publish.to_dir")
    try:
        present = target.list("")
        _check_owner(target, present, to_dir)
        changes = _compare(target, files, present)
        if changes or MARKER in present:
            _copy(storage, prefix, files, target, changes)
    except SynthgenError:
        raise
    except Exception as error:  # obstore has one class of error per cloud
        raise PublishError(
            f"publish.to_dir={to_dir}: {plain(str(error), 300)}; mend that, then start the same command again"
        ) from error
    sent = tuple(file.path for file in changes.send)
    return DirectoryCopy(target.url, sent, changes.remove, sum(file.size for file in changes.send))


def _check_owner(target: Storage, present: Sequence[str], to_dir: str) -> None:
    if not present or MARKER in present:
        return
    if CARD not in present or not is_synthgen_card(target.read(CARD).decode("utf-8", "replace")):
        raise ConfigError(
            f"publish.to_dir={to_dir} is not empty and holds no data set of synthgen; choose an empty directory"
        )


def _compare(target: Storage, files: Sequence[DataFile], present: Sequence[str]) -> Changes:
    there = set(present)
    send = tuple(file for file in files if file.path not in there or not _arrived(target, file))
    wanted = {file.path for file in files}
    return Changes(send, tuple(path for path in present if is_owned(path) and path not in wanted))


def _copy(storage: Storage, prefix: str, files: Sequence[DataFile], target: Storage, changes: Changes) -> None:
    card = next(file for file in files if file.path == CARD)
    target.replace(MARKER, b"")
    target.delete(CARD)
    for file in changes.send:
        if file is not card:
            _write(target, file, read_file(storage, prefix, file))
    for path in changes.remove:
        target.delete(path)
    _write(target, card, read_file(storage, prefix, card))
    target.delete(MARKER)


def _write(target: Storage, file: DataFile, data: bytes) -> None:
    target.replace(file.path, data)
    if not _arrived(target, file):
        raise PublishError(f"{target.url}/{file.path} is not what was written there; start the same command again")


def _arrived(target: Storage, file: DataFile) -> bool:
    return hash_bytes(file.path, target.read(file.path)).sha256 == file.sha256
