"""From `prompts.path` to the sources that it names."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from synthgen.config import PromptsConfig
from synthgen.errors import ConfigError
from synthgen.prompts.files import READERS, FileSource, data_suffix
from synthgen.prompts.hub import SAVED_MARKERS, HubSource, SavedSource
from synthgen.prompts.rows import RowSource

BUILTIN = {"builtin:examples": "examples/prompts.jsonl", "builtin:easy": "examples/easy.jsonl"}
"""Prompt files that ship with the package: `prompts.path` → path inside it."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def locate_sources(config: PromptsConfig, key: str = "prompts.path") -> list[RowSource]:
    """Return what `config.path` names, in the order in which it is read; never empty.

    Args:
        config: the prompts group.
        key: the dotted key that holds the path, for error messages.

    Raises:
        ConfigError: there is nothing of that name, or nothing in it that can be read.
    """
    if config.path in BUILTIN:
        return [FileSource(Path(str(files("synthgen"))) / BUILTIN[config.path], config.path)]
    path = Path(config.path).expanduser()
    if path.is_file():
        if data_suffix(path) not in READERS:
            raise ConfigError(f"{key}={config.path}: unknown format; the suffix must be one of {', '.join(READERS)}")
        return [FileSource(path, path.name)]
    if path.is_dir():
        return _locate_in_directory(path, config, key)
    if _HUB_ID.fullmatch(config.path) and data_suffix(path) not in READERS:
        return [HubSource(config.path, config.config, config.split, config.revision)]
    raise ConfigError(
        f"{key}={config.path} does not exist; give a file, a directory, the id of a Hub data set (org/name), "
        f"or {', '.join(BUILTIN)}"
    )


def _locate_in_directory(path: Path, config: PromptsConfig, key: str) -> list[RowSource]:
    if any((path / marker).is_file() for marker in SAVED_MARKERS):
        return [SavedSource(path, config.split)]
    found = sorted(
        file
        for file in path.rglob("*")
        if file.is_file() and data_suffix(file) in READERS and not _is_hidden(file.relative_to(path))
    )
    if not found:
        raise ConfigError(f"{key}={config.path} holds no data file ({', '.join(READERS)})")
    return [FileSource(file, file.relative_to(path).as_posix()) for file in found]


def _is_hidden(relative: Path) -> bool:
    """Whether a name on the way starts with a dot or an underscore (checkpoints, caches, Spark's `_SUCCESS`)."""
    return any(part.startswith((".", "_")) for part in relative.parts)
