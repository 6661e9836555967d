"""An export on its way: its files are made aside, and take the place of the earlier data set once all are there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from synthgen.errors import ConfigError
from synthgen.export.files import CARD, ROOT, is_owned
from synthgen.export.manifest import MANIFEST_NAME, Manifest, describe_files, identify_files, read_manifest
from synthgen.ledger.directories import BEFORE
from synthgen.ledger.storage import LocalStorage, Storage

STAGING_PREFIX = ".tmp-export-"


@contextmanager
def stage_export(storage: Storage) -> Iterator[LocalStorage]:
    """Give a place on disk for the files of an export; in the run directory where that is local, since /tmp may be
    memory. It is gone after the block, as is what an export that was killed had left."""
    clear_left_over(storage)
    with TemporaryDirectory(prefix=STAGING_PREFIX, dir=storage.root) as directory:
        yield LocalStorage(Path(directory))


def commit_export(
    storage: Storage,
    staged: LocalStorage,
    *,
    config: str,
    stages: Mapping[str, str],
    dataset: Mapping[str, Any],
    report: Mapping[str, Any],
) -> Manifest:
    """Let the staged files take the place of `dataset/`, with their manifest, and return that. See `Manifest` for the
    arguments. Files of other kinds than synthgen writes (a LICENSE, notes) stay, and so does a `dataset_info.json` that
    is the user's."""
    assert staged.root is not None
    replaced = _list_earlier(storage)
    source = staged.root / ROOT
    files = describe_files(source)
    manifest = Manifest(
        files,
        export_id=identify_files(files),
        exported_at=datetime.now(UTC).isoformat(timespec="seconds"),
        stages=dict(stages),
        dataset=dict(dataset),
        config=config,
        report=dict(report),
    )
    staged.replace(f"{ROOT}/{MANIFEST_NAME}", manifest.dump())
    storage.replace_directory(ROOT, source, last=(CARD, MANIFEST_NAME), keep=lambda path: _is_foreign(path, replaced))
    return manifest


def clear_left_over(storage: Storage) -> None:
    """Remove what exports that were killed left in the directory of `storage`, which is made if it is not there.

    The earlier data set that such an export had put aside comes back to its place, with the user's own files in it.
    """
    if storage.root is not None:
        storage.root.mkdir(parents=True, exist_ok=True)
        for left_over in storage.root.glob(f"{STAGING_PREFIX}*"):
            before = left_over / f"{ROOT}{BEFORE}"  # killed between two renames: there is no other data set
            if before.is_dir() and not os.path.lexists(storage.root / ROOT):
                os.rename(before, storage.root / ROOT)
            shutil.rmtree(left_over, ignore_errors=True)


def _list_earlier(storage: Storage) -> frozenset[str]:
    """The paths of the data set that is there, as its manifest has them; empty where that is damaged or missing."""
    try:
        manifest = read_manifest(storage)
    except ConfigError:
        return frozenset()
    return frozenset(file.path for file in manifest.files) if manifest else frozenset()


def _is_foreign(path: str, earlier: Collection[str]) -> bool:
    return not is_owned(path) and path != MANIFEST_NAME and path not in earlier
