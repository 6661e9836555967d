"""Data sets of a few arbitrary files in a run directory, for tests of how they are sent."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from synthgen.ledger.storage import LocalStorage

CARD = "---\nlicense: mit\ntags:\n- synthetic\n- synthgen\n---\n\n# Data\n"
REPORT: dict[str, Any] = {"complete": True, "pairs": {"made": 7}, "config_fingerprint": "0123456789abcdef"}


def write_dataset(run_dir: Path, shards: int = 3, shard_bytes: int = 20_000, card: str = CARD) -> LocalStorage:
    """Write a data set; shard k of the same size has the same bytes however many shards there are."""
    files = {"README.md": card.encode(), "figures/ratings.png": b"\x89PNG" + bytes(100)}
    for index in range(shards):
        content = random.Random(index).randbytes(shard_bytes)
        files[f"data/train-{index:05d}-of-{shards:05d}.parquet"] = content
    storage = LocalStorage(run_dir)
    for path in storage.list("dataset"):
        storage.delete(path)
    for path, data in files.items():
        storage.replace(f"dataset/{path}", data)
    return storage


def read_dataset(storage: LocalStorage) -> dict[str, bytes]:
    """Return the data set's files by path."""
    return {path.removeprefix("dataset/"): storage.read(path) for path in storage.list("dataset")}
