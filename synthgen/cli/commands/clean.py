"""`synthgen clean`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from synthgen.cli.overrides import take_run_dir, take_value
from synthgen.errors import ConfigError, RunStoppedError


def main(overrides: Sequence[str], config_dir: str | None) -> int:
    """Show what no configuration of a run uses any more, and remove it once that is wanted."""
    from synthgen.ledger.lease import Lease
    from synthgen.ledger.run_dir import RunDir
    from synthgen.runtime.clean import find_unused, read_lease_s, remove

    path, rest = take_run_dir(overrides)
    answer, rest = take_value(rest, "yes")
    if path is None or rest or answer not in (None, "true", "false"):
        got = rest[0] if rest else f"yes={answer}"
        but = f", but got {got!r}" if rest or answer else ""
        raise ConfigError(f"clean takes the run's directory and yes=true{but}: synthgen clean run_dir=…")
    run_dir = RunDir(path)
    find_unused(run_dir)  # a directory that is no run's gets no lease
    lease = Lease(run_dir.storage, read_lease_s(run_dir), run_dir.retry_s)
    try:
        run_dir.guard(lease.check)
        pieces = find_unused(run_dir)
        for piece in pieces:
            files = f"{piece.files:,} file{'s' if piece.files != 1 else ''}"
            print(f"{_size(piece.size_bytes):>10}  {files:>12}  {piece.path}  ({piece.what})")
        if not pieces:
            print(f"{run_dir.url} holds nothing that is not in use")
            return 0
        total = _size(sum(piece.size_bytes for piece in pieces))
        if answer != "true" and not _ask(f"remove these {total} of {run_dir.url}?"):
            print(f"nothing was removed; yes=true removes these {total}")
            return 0
        remove(run_dir, pieces)
        print(f"removed {total}")
        return 0
    finally:
        lease.release()


def _ask(question: str) -> bool:
    """Return whether a person at a terminal says yes; nobody is asked where there is none."""
    if not sys.stdin.isatty():
        return False
    print(f"{question} [y/N] ", end="", flush=True)
    try:
        return sys.stdin.readline().strip().lower() in ("y", "yes")
    except KeyboardInterrupt as error:
        raise RunStoppedError("interrupted") from error


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"
