"""What a run directory holds and no configuration of the run uses any more: found first, removed then.

In use is what the data set was exported from, what `config.yaml` would make, and what the last start would make,
finished or not. Everything else below `stages/` is of an earlier configuration: a start with that one would make it
anew. The order of removal does not matter to a kill: what is left of an old stage is reused or set aside as ever.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from yaml import YAMLError

from synthgen.config import Config
from synthgen.config.saved import read_saved_config
from synthgen.errors import ConfigError, one_line
from synthgen.export.manifest import read_manifest
from synthgen.export.swap import STAGING_PREFIX, clear_left_over
from synthgen.flow import load_flow, resolve_flow
from synthgen.ledger.run_dir import RunDir
from synthgen.ledger.sessions import SESSIONS
from synthgen.runtime.framing import settle_framing

TORN = "failures/torn"
TEMPORARY_AGE_S = 3600.0
"""A temporary file that is younger may be one that a replica of a driver which is gone still writes."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Something that can go.

    Attributes:
        path: a directory below the run directory. what: in words. files, size_bytes: of it.
        local: whether it is hidden from the storage, and lies on a local disk.
    """

    path: str
    what: str
    files: int
    size_bytes: int
    local: bool = False


def find_unused(run_dir: RunDir) -> list[Piece]:
    """Return what is not in use, the largest first. Changes nothing.

    Raises:
        ConfigError: it is not known what the run uses: no configuration is there, or none that can be read.
    """
    used = _list_used(run_dir)
    names = {path.removeprefix("stages/").rpartition("-")[0] for path in used}
    pieces: list[Piece] = []
    for prefix, what in (("stages", "of an earlier configuration"), ("retries/stages", "kept for an earlier one")):
        for directory, sizes in _group(run_dir.storage.measure(prefix), prefix).items():
            if directory.removeprefix("retries/") not in used:
                pieces.append(Piece(directory, what, len(sizes), sum(sizes)))
    for directory, sizes in _group(run_dir.storage.measure("failures"), "failures").items():
        if directory == TORN:
            pieces.append(Piece(directory, "damaged or outdated files that were set aside", len(sizes), sum(sizes)))
        elif directory.removeprefix("failures/") not in {*names, "prompts"}:
            pieces.append(Piece(directory, "failures of a stage that is no more", len(sizes), sum(sizes)))
    if run_dir.storage.root is not None:
        pieces += _find_local(run_dir.storage.root)
    return sorted(pieces, key=lambda piece: (-piece.size_bytes, piece.path))


def remove(run_dir: RunDir, pieces: list[Piece]) -> None:
    """Remove what `find_unused` found; the caller holds the lease."""
    for piece in pieces:
        if not piece.local:
            run_dir.storage.delete_tree(piece.path)
    root = run_dir.storage.root
    if root is None:
        return
    clear_left_over(run_dir.storage)  # a data set that a killed export had put aside comes back first
    for piece in pieces:
        path = root / piece.path
        if piece.local:
            path.unlink(missing_ok=True)
        elif path.is_dir() and not any(file.is_file() for file in path.rglob("*")):
            shutil.rmtree(path, ignore_errors=True)


def read_lease_s(run_dir: RunDir) -> float:
    """Return `run.lease_s` of the run as it was last saved, the default where that cannot be read."""
    try:
        return read_saved_config(run_dir.read_or(b"", "config.yaml").decode("utf-8", "replace")).run.lease_s
    except (ConfigError, YAMLError, ValueError, AttributeError):
        return Config().run.lease_s


def _list_used(run_dir: RunDir) -> set[str]:
    """Return the directories of stages that are in use."""
    manifest = read_manifest(run_dir.storage)
    texts = {"dataset/.export.json": manifest.config} if manifest else {}
    if saved := run_dir.read_or(b"", "config.yaml").decode("utf-8", "replace").strip():
        texts["config.yaml"] = saved
    sessions = sorted(name for name in run_dir.storage.list(SESSIONS) if name.endswith(".json"))
    if sessions:
        record = run_dir.read_json(sessions[-1], "config")
        if record is None:
            raise ConfigError(
                f"run_dir={run_dir.url}: {sessions[-1]} is damaged, and with it what the last start used; "
                "finish that run (synthgen run run_dir=…), then delete the file"
            )
        texts[sessions[-1]] = str(record["config"])
    if not texts:
        raise ConfigError(f"run_dir={run_dir.url} holds no configuration of a run; give the run.dir of one")
    used = set(manifest.stages.values()) if manifest else set()
    for name, text in texts.items():
        try:
            config, _ = settle_framing(read_saved_config(text), run_dir)
            used |= {stage.files.directory for stage in resolve_flow(load_flow(config))}
        except (ConfigError, YAMLError, ValueError) as error:
            raise ConfigError(
                f"run_dir={run_dir.url}: what {name} uses cannot be told, and nothing is removed: {one_line(error)}"
            ) from error
    return used


def _group(sizes: Mapping[str, int], prefix: str) -> dict[str, list[int]]:
    """Return the sizes of files by the directory directly below `prefix` that they lie in."""
    found: dict[str, list[int]] = {}
    for path, size in sizes.items():
        name, slash, _ = path.removeprefix(f"{prefix}/").partition("/")
        if slash:
            found.setdefault(f"{prefix}/{name}", []).append(size)
    return found


def _find_local(root: Path) -> Iterator[Piece]:
    """Yield what killed processes left on a disk, which no listing of the storage shows."""
    for left_over in sorted(root.glob(f"{STAGING_PREFIX}*")):
        sizes = [file.lstat().st_size for file in left_over.rglob("*") if file.is_file()]
        yield Piece(left_over.name, "an export that was killed", len(sizes), sum(sizes))
    oldest = time.time() - TEMPORARY_AGE_S
    for part in ("prompts", "stages", "retries", "failures", "sessions", "given"):
        for file in sorted((root / part).rglob(".tmp-*")):
            if file.is_file() and not file.name.startswith(".tmp-lock-") and file.stat().st_mtime < oldest:
                path = file.relative_to(root).as_posix()
                yield Piece(path, "a file that was never finished", 1, file.stat().st_size, local=True)
