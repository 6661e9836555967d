"""Files of a run, on a local or shared file system or in an object store, with one rule of commit.

`create` is the commit: either the whole file appears under its name or nothing does, and whoever comes second changes
nothing. Paths are relative to the root, with forward slashes. `open_storage` picks the implementation by the URL.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from synthgen.config import StorageConfig
from synthgen.ledger.directories import exchange_directories, link_kept, replace_files, sync_directory

RETRY_S = StorageConfig.retry_s
"""How long what may pass is tried again in an object store where nobody said otherwise (`storage.retry_s`), s."""


class Storage(Protocol):
    """A tree of whole files. `url` names its root, `root` is its local directory or None for an object store."""

    url: str
    root: Path | None

    def read(self, path: str) -> bytes:
        """Return the file's bytes. Raises FileNotFoundError."""

    def exists(self, path: str) -> bool:
        """Return whether the file is there."""

    def list(self, prefix: str) -> list[str]:
        """Return the sorted paths of all files below the directory `prefix` (at any depth; `""`: the root)."""

    def measure(self, prefix: str) -> dict[str, int]:
        """Return the bytes of each file that `list` names, by path."""

    def create(self, path: str, data: bytes) -> bool:
        """Write a new file, durably and whole. Return False, changing nothing, where it exists already."""

    def replace(self, path: str, data: bytes) -> None:
        """Write a file whole, over an older one if there is one."""

    def swap(self, path: str, old: bytes, new: bytes) -> bool:
        """Replace the file only if its bytes are still `old`. Return whether that happened."""

    def delete(self, path: str) -> None:
        """Remove a file; one that is not there is fine."""

    def delete_tree(self, prefix: str) -> None:
        """Remove every file below the directory `prefix`."""

    def replace_directory(self, path: str, source: Path, *, last: Sequence[str], keep: Callable[[str], bool]) -> None:
        """Make the directory `path` hold what the local directory `source` holds. `source` is used up.

        On a disk that is one step: a reader finds the old files or the new ones. An object store has no such step:
        there the files `last` are taken away first and written last, in their order, so that what lacks the last of
        them is not whole.

        Args:
            keep: whether a file that only `path` has stays (by its path relative to `path`).
        """

    def hurried(self, retry_s: float) -> Storage:
        """Return the same storage for callers that would rather have an error than wait longer than `retry_s`."""


def open_storage(url: str, *, retry_s: float = RETRY_S, key: str = "run.dir") -> Storage:
    """Return the storage at `url`: a path, `file://…`, or an object store (`s3://`, `gs://`, `az://`).

    Object stores take their credentials and endpoint from the usual environment variables (`AWS_ACCESS_KEY_ID`,
    `AWS_ENDPOINT_URL`, `GOOGLE_APPLICATION_CREDENTIALS`, …).

    Args:
        retry_s: in an object store, how long what may pass is tried again, s.
        key: of the configuration, for messages.
    """
    if "://" in url and not url.startswith("file://"):
        from synthgen.ledger.object_store import ObjectStorage

        return ObjectStorage(url, retry_s=retry_s, key=key)
    return LocalStorage(Path(url.removeprefix("file://")))


class LocalStorage:
    """A directory. Commit: temporary name beside it, fsync, hard link to the final name, fsync of the directory.

    A hard link fails where the name is taken, which is what makes the first commit win; file systems without hard links
    get a rename, which is as atomic but lets the later of two equal commits win.
    """

    def __init__(self, root: Path) -> None:
        self.root: Path | None = Path(os.path.abspath(root))
        self._root = self.root
        self.url = str(self.root)

    def read(self, path: str) -> bytes:
        with open(f"{self.url}/{path}", "rb") as handle:
            return handle.read()

    def exists(self, path: str) -> bool:
        return (self._root / path).exists()

    def list(self, prefix: str) -> list[str]:
        found: list[str] = []
        stack = [prefix.strip("/")]
        while stack:
            directory = stack.pop()
            head = f"{directory}/" if directory else ""
            try:
                entries = list(os.scandir(self._root / directory))
            except FileNotFoundError:
                continue
            for entry in entries:
                if entry.name.startswith(".tmp-"):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    stack.append(head + entry.name)
                else:
                    found.append(head + entry.name)
        return sorted(found)

    def measure(self, prefix: str) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for path in self.list(prefix):
            with contextlib.suppress(FileNotFoundError):
                sizes[path] = (self._root / path).lstat().st_size
        return sizes

    def create(self, path: str, data: bytes) -> bool:
        final = self._root / path
        if final.exists():
            return False
        temporary = self._write_temporary(final, data)
        try:
            os.link(temporary, final)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS):
                raise
            os.rename(temporary, final)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        sync_directory(final.parent)
        return True

    def replace(self, path: str, data: bytes) -> None:
        final = self._root / path
        os.replace(self._write_temporary(final, data), final)
        sync_directory(final.parent)

    def swap(self, path: str, old: bytes, new: bytes) -> bool:
        # A lock file by O_EXCL would outlive a crash; the kernel drops a flock with its process.
        import fcntl

        lock = self._root / f".tmp-lock-{path.replace('/', '-')}"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with open(lock, "w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            try:
                if self.read(path) != old:
                    return False
            except FileNotFoundError:
                return False
            self.replace(path, new)
            return True

    def delete(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self._root / path).unlink()

    def delete_tree(self, prefix: str) -> None:
        shutil.rmtree(self._root / prefix, ignore_errors=True)

    def replace_directory(self, path: str, source: Path, *, last: Sequence[str], keep: Callable[[str], bool]) -> None:
        link_kept(self._root / path, source, keep)
        exchange_directories(source, self._root / path)

    def hurried(self, retry_s: float) -> Storage:
        return self

    def _write_temporary(self, final: Path, data: bytes) -> Path:
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.parent / f".tmp-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        try:
            with open(temporary, "xb") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        return temporary


class GuardedStorage:
    """A storage that asks before each change and each read: `change` and `read` raise where it must not be.

    `change` is for a lost lease, which forbids changes; `read` for the wish to stop, which any access may answer to.
    """

    def __init__(self, storage: Storage, change: Callable[[], None], read: Callable[[], None] | None = None) -> None:
        self.url = storage.url
        self.root = storage.root
        self._storage = storage
        self._check = change
        self._check_read = read or (lambda: None)

    def read(self, path: str) -> bytes:
        self._check_read()
        return self._storage.read(path)

    def exists(self, path: str) -> bool:
        self._check_read()
        return self._storage.exists(path)

    def list(self, prefix: str) -> list[str]:
        self._check_read()
        return self._storage.list(prefix)

    def measure(self, prefix: str) -> dict[str, int]:
        self._check_read()
        return self._storage.measure(prefix)

    def create(self, path: str, data: bytes) -> bool:
        self._check()
        return self._storage.create(path, data)

    def replace(self, path: str, data: bytes) -> None:
        self._check()
        self._storage.replace(path, data)

    def swap(self, path: str, old: bytes, new: bytes) -> bool:
        self._check()
        return self._storage.swap(path, old, new)

    def delete(self, path: str) -> None:
        self._check()
        self._storage.delete(path)

    def delete_tree(self, prefix: str) -> None:
        self._check()
        self._storage.delete_tree(prefix)

    def replace_directory(self, path: str, source: Path, *, last: Sequence[str], keep: Callable[[str], bool]) -> None:
        self._check()
        if self.root is not None:
            self._storage.replace_directory(path, source, last=last, keep=keep)
        else:
            replace_files(self, path, source, last=last, keep=keep)  # each file after a check of its own

    def hurried(self, retry_s: float) -> Storage:
        return GuardedStorage(self._storage.hurried(retry_s), self._check, self._check_read)
