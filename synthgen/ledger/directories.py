"""A whole directory in the place of another one: in one step on a disk, with a mark of wholeness in an object store."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)
"""What file systems answer that cannot exchange two names (NFS, some FUSE mounts)."""


BEFORE = "-before"
"""Follows the name of a directory while what was there in its place is put aside."""


class WholeFiles(Protocol):
    """What `replace_files` needs of a storage: see synthgen.ledger.storage.Storage."""

    def list(self, prefix: str) -> list[str]: ...

    def replace(self, path: str, data: bytes) -> None: ...

    def delete(self, path: str) -> None: ...


def exchange_directories(source: Path, target: Path) -> None:
    """Put the directory `source` in the place of `target`, durably; afterwards `source` holds what was there, if any.

    A reader finds either directory under `target` at any moment (renameat2 with RENAME_EXCHANGE). Where the file
    system cannot do that, two renames follow one another: then a reader may find none, but never a mixture.
    """
    for directory, _, _ in os.walk(source):
        sync_directory(Path(directory))
    if not os.path.lexists(target):
        os.rename(source, target)
    elif not _exchange(source, target):
        aside = source.with_name(f"{source.name}{BEFORE}")
        os.rename(target, aside)
        try:
            os.rename(source, target)
        except OSError:
            os.rename(aside, target)
            raise
        os.rename(aside, source)
    sync_directory(target.parent)


def link_kept(old: Path, new: Path, keep: Callable[[str], bool]) -> None:
    """Give `new` the files of `old` that it lacks and for whose relative path `keep` holds."""
    for directory, _, names in os.walk(old):
        for name in names:
            path = Path(directory) / name
            relative = path.relative_to(old)
            target = new / relative
            if name.startswith(".tmp-") or not keep(relative.as_posix()) or os.path.lexists(target):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, target, follow_symlinks=False)
            except OSError:  # no hard links here
                import shutil

                shutil.copy2(path, target, follow_symlinks=False)


def replace_files(
    storage: WholeFiles, path: str, source: Path, *, last: Sequence[str], keep: Callable[[str], bool]
) -> None:
    """Do for an object store, file by file, what `Storage.replace_directory` says."""
    files = {file.relative_to(source).as_posix(): file for file in source.rglob("*") if file.is_file()}
    for name in reversed(last):
        storage.delete(f"{path}/{name}")
    for name in sorted(files.keys() - set(last)):
        storage.replace(f"{path}/{name}", files[name].read_bytes())
    for stored in storage.list(path):
        name = stored.removeprefix(f"{path}/")
        if name not in files and not keep(name):
            storage.delete(stored)
    for name in last:
        if name in files:
            storage.replace(f"{path}/{name}", files[name].read_bytes())


def sync_directory(directory: Path) -> None:
    """Make the names in a directory survive a loss of power."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(source: Path, target: Path) -> bool:
    """Exchange two names in one step. Return False where the system cannot."""
    with contextlib.suppress(AttributeError):  # not Linux
        rename = ctypes.CDLL(None, use_errno=True).renameat2
        done = rename(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_EXCHANGE)
        if done == 0:
            return True
        number = ctypes.get_errno()
        if number not in _NO_EXCHANGE:
            raise OSError(number, os.strerror(number), str(target))
    return False
