"""The files of the data set: where they are and what they are called."""

from __future__ import annotations

from dataclasses import dataclass

ROOT = "dataset"
"""Directory of the data set within the run directory."""

DIRECTORIES = {"default": "data"}
"""Directory of a config's files; a config that is not here has one of its own name."""

CARD = "README.md"
OWNED_SUFFIXES = (".parquet", ".jsonl", ".png")
"""Endings of the files that synthgen writes below a data set's root. It replaces and removes no others but the card."""

JSON_LINES = "jsonl"
"""The one config whose files are not Parquet."""


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """One shard of one split.

    Attributes:
        path: within the run directory.
        config: name of the config, such as `default`.
        split: `train` or `test`.
        rows: rows in the file.
        memory_bytes: size of the rows as Arrow tables.
        file_bytes: size of the file.
    """

    path: str
    config: str
    split: str
    rows: int
    memory_bytes: int
    file_bytes: int


def is_owned(path: str) -> bool:
    """Return whether synthgen writes such files: the card, and data and pictures in directories."""
    return path == CARD or ("/" in path and path.endswith(OWNED_SUFFIXES))


def config_directory(config: str) -> str:
    """Return the directory of a config's files, relative to the data set."""
    return DIRECTORIES.get(config, config)


def shard_path(config: str, split: str, shard: int, shards: int) -> str:
    """Return the path of a shard within the run directory, named as `datasets` names shards on the Hub."""
    suffix = "jsonl" if config == JSON_LINES else "parquet"
    return f"{ROOT}/{config_directory(config)}/{split}-{shard:05d}-of-{shards:05d}.{suffix}"
