"""synthgen's cache: directories that are made once, whole or not at all, however many processes ask for them."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from synthgen.errors import ConfigError


def find_cache(cache_dir: Path | None = None) -> Path:
    """Return the cache directory: `cache_dir`, else $XDG_CACHE_HOME/synthgen, else ~/.cache/synthgen."""
    return cache_dir or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "synthgen"


def make_once(target: Path, write: Callable[[Path], None]) -> Path:
    """Return the directory `target`; where it is missing, `write` fills a new directory that then gets its name.

    Safe under concurrent callers, of this machine (who comes later waits for who is at work) and of others that share
    the cache (the first to rename wins). A caller that is killed leaves a `.…` directory beside `target` at most.

    Raises:
        ConfigError: the cache directory cannot be written.
    """
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target):
            if target.is_dir():
                return target
            scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
            try:
                write(scratch)
                scratch.chmod(0o755)
                _rename(scratch, target)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise ConfigError(
            f"cannot write to {target.parent} ({error.strerror}); "
            "set XDG_CACHE_HOME to a directory that you can write to"
        ) from error
    return target


def _rename(scratch: Path, target: Path) -> None:
    try:
        scratch.rename(target)
    except OSError:
        if not target.is_dir():
            raise


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Hold the lock of `target`; the kernel lets it go when its holder dies. Without locks nobody waits.

    The lock spares work and keeps nothing right, so its file may go: whoever waits for it finds `target` made.
    """
    import fcntl

    path = target.parent / f".{target.name}.lock"
    with path.open("w") as file:
        with contextlib.suppress(OSError):  # a file system that has none
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
