"""Local clones of Hub data sets: a directory whose card or file names say which files are of which split."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthgen.errors import ConfigError, one_line
from synthgen.prompts.files import READERS, FileSource, data_suffix
from synthgen.prompts.hub import iterate_dataset
from synthgen.prompts.order import natural_key
from synthgen.prompts.rows import BadRow, Row, RowSource

_CARD_KEYS = re.compile(rb"^(configs|dataset_info):", re.MULTILINE)
_SHARD = re.compile(r"\w+-\d{5}-of-\d{5}(-\w+)?\.\w+")  # of `push_to_hub`


def is_clone(path: Path) -> bool:
    """Return whether a directory is laid out as a data set on the Hub: by its card, its leftovers, or its shards."""
    if (path / "dataset_infos.json").is_file() or (path / ".cache" / "huggingface").is_dir():
        return True
    card = path / "README.md"
    if card.is_file():
        head = card.read_bytes().split(b"\n---", 1)[0]
        if head.startswith(b"---") and _CARD_KEYS.search(head):
            return True
    return any(_SHARD.fullmatch(file.name) for folder in (path / "data", path) for file in folder.glob("*"))


@dataclass(frozen=True)
class CloneSource:
    """A split of a local data set of a form that only `datasets` reads; `files`: its data files."""

    path: Path
    config: str | None
    split: str
    files: tuple[Path, ...]

    @property
    def name(self) -> str:
        """The directory's name."""
        return self.path.name

    def identity(self) -> list[Any]:
        """Return configuration, split and the identities of the files."""
        files = [FileSource(file, str(file.relative_to(self.path))).identity() for file in self.files]
        return ["clone", self.config, self.split, *files]

    def rows(self) -> Iterator[Row | BadRow]:
        """Yield the split's rows, in the data set's order."""
        from datasets import load_dataset
        from datasets.exceptions import DatasetsError

        try:
            loaded = load_dataset(str(self.path), self.config, split=self.split)
        except (DatasetsError, OSError, ValueError) as error:
            raise _refuse(self.path, self.config, self.split, error) from error
        yield from iterate_dataset(loaded, self.name)


def locate_clone(path: Path, config: str | None, split: str) -> list[RowSource]:
    """Return the files of a split of the data set in a directory.

    Raises:
        ConfigError: it has no such configuration or split.
    """
    from datasets import load_dataset_builder
    from datasets.exceptions import DatasetsError

    try:
        builder = load_dataset_builder(str(path), config)
    except (DatasetsError, OSError, ValueError) as error:
        raise _refuse(path, config, split, error) from error
    by_split = {str(name): [Path(file) for file in files] for name, files in (builder.config.data_files or {}).items()}
    names = re.findall(r"\w+", re.sub(r"\[[^\]]*\]", "", split))
    missing = [name for name in names if name not in by_split]
    if missing or not names:
        raise ConfigError(f"prompts.split={split}: {path} has the splits {', '.join(by_split)}")
    found = sorted((file for name in names for file in by_split[name]), key=natural_key)
    if names != [split] or not all(data_suffix(file) in READERS for file in found):
        return [CloneSource(path, config, split, tuple(found))]
    root = path.resolve()
    return [FileSource(file, file.resolve().relative_to(root).as_posix()) for file in found]


def _refuse(path: Path, config: str | None, split: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"prompts.path={path} (prompts.config={config or 'null'}, prompts.split={split}) cannot be read as a data set: "
        f"{one_line(error)}"
    )
