"""From `prompts.path` to the sources that it names."""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from synthgen.config import PromptsConfig
from synthgen.errors import ConfigError
from synthgen.prompts.clone import is_clone, locate_clone
from synthgen.prompts.columns import RULES
from synthgen.prompts.files import READERS, FileSource, data_suffix
from synthgen.prompts.hub import SAVED_MARKERS, HubSource, SavedSource
from synthgen.prompts.order import DESCRIPTIONS, is_hidden, natural_key
from synthgen.prompts.remote import is_url, locate_remote
from synthgen.prompts.rows import RowSource

BUILTIN = {
    "builtin:examples": "examples/prompts.jsonl",
    "builtin:easy": "examples/easy.jsonl",
    "builtin:concise": "examples/concise.jsonl",
    "builtin:facts": "examples/facts.jsonl",
}
"""Prompt files that ship with the package: `prompts.path` → path inside it."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_PAGE = re.compile(r"https?://(?:huggingface\.co|hf\.co)/datasets/([\w.-]+/[\w.-]+)/?")


@dataclass(frozen=True)
class Located:
    """What a path names: sources in the order in which they are read (never empty), and what a user should know."""

    sources: list[RowSource]
    notes: list[str] = field(default_factory=list)


def locate_sources(config: PromptsConfig, key: str = "prompts.path") -> list[RowSource]:
    """Return the sources that `locate` finds."""
    return locate(config, key).sources


def locate(config: PromptsConfig, key: str = "prompts.path", rules: int = RULES) -> Located:
    """Return what `config.path` names: one thing, or a list of such.

    Args:
        config: the prompts group.
        key: the dotted key that holds the path, for error messages.
        rules: see RULES.

    Raises:
        ConfigError: there is nothing of that name, or nothing in it that can be read.
    """
    paths = list_paths(config, key)
    found = [_locate_one(path, config, key, rules) for path in paths]
    sources = [source for one in found for source in one.sources]
    if len(paths) > 1 and len({source.name for source in sources}) < len(sources):
        sources = _tell_apart(paths, found)
    return Located(sources, [note for one in found for note in one.notes])


def _tell_apart(paths: list[str], found: list[Located]) -> list[RowSource]:
    """The sources; files are called by so much of the end of the paths that were typed as tells them apart."""
    whole = [
        path if path.rstrip("/").endswith(source.name) else f"{path.rstrip('/')}/{source.name}"
        for path, one in zip(paths, found, strict=True)
        for source in one.sources
    ]
    parts = [name.split("/") for name in whole]
    # Names are published, so they say of the directories of this machine no more than tells the files apart.
    enough = next(
        (count for count in range(1, 99) if len({tuple(part[-count:]) for part in parts}) == len({*whole})), 99
    )
    sources = [source for one in found for source in one.sources]
    return [
        FileSource(source.path, "/".join(part[-enough:])) if isinstance(source, FileSource) else source
        for source, part in zip(sources, parts, strict=True)
    ]


def list_paths(config: PromptsConfig, key: str = "prompts.path") -> list[str]:
    """Return the paths that are named, one or several. Raises ConfigError where they are no texts."""
    paths = config.path if isinstance(config.path, list | tuple) else [config.path]
    if not paths or not all(isinstance(path, str) and path for path in paths):
        raise ConfigError(f"{key}={config.path} must be a path or a list of paths")
    return list(paths)


def _locate_one(given: str, config: PromptsConfig, key: str, rules: int) -> Located:
    if given in BUILTIN:
        return Located([FileSource(Path(str(files("synthgen"))) / BUILTIN[given], given)])
    page = _HUB_PAGE.fullmatch(given)
    if page:
        return Located([HubSource(page[1], config.config, config.split, config.revision)])
    if is_url(given) and not given.startswith("file://"):
        return Located(locate_remote(given, key))
    path = Path(given.removeprefix("file://")).expanduser()
    if path.is_file():
        if data_suffix(path) not in READERS:
            raise ConfigError(f"{key}={given}: unknown format; the suffix must be one of {', '.join(READERS)}")
        return Located([FileSource(path, path.name)])
    if path.is_dir():
        return _locate_in_directory(path, given, config, key, rules)
    if glob.has_magic(given):
        return _locate_glob(path, given, key)
    if _HUB_ID.fullmatch(given) and data_suffix(path) not in READERS:
        return Located([HubSource(given, config.config, config.split, config.revision)])
    raise ConfigError(
        f"{key}={given} does not exist; give a file, a glob, a directory, a URL, the id of a Hub data set (org/name), "
        f"or {', '.join(BUILTIN)}"
    )


def _locate_glob(path: Path, given: str, key: str) -> Located:
    found = sorted((Path(name) for name in glob.glob(str(path), recursive=True)), key=natural_key)
    data = [file for file in found if file.is_file() and data_suffix(file) in READERS]
    if not data:
        what = f"matches {len(found)} names, and" if found else "matches no file:"
        raise ConfigError(f"{key}={given} {what} no data file ({', '.join(READERS)}) is there")
    magic = next(i for i, part in enumerate(path.parts) if glob.has_magic(part))
    root = Path(*path.parts[:magic])
    return Located([FileSource(file, file.relative_to(root).as_posix()) for file in data])


def _locate_in_directory(path: Path, given: str, config: PromptsConfig, key: str, rules: int) -> Located:
    if any((path / marker).is_file() for marker in SAVED_MARKERS):
        return Located([SavedSource(path, config.split)])
    saved = {folder.name: folder for folder in path.iterdir() if (folder / SAVED_MARKERS[0]).is_file()}
    if saved:  # splits that were saved one by one
        if config.split not in saved:
            raise ConfigError(f"prompts.split={config.split}: {given} has the splits {', '.join(sorted(saved))}")
        return Located([SavedSource(saved[config.split], config.split)])
    sets = {folder.name: folder for folder in path.iterdir() if (folder / SAVED_MARKERS[-1]).is_file()}
    if sets:  # a distiset: each of its configs was saved as a data set with splits
        name = config.config or ("default" if "default" in sets else next(iter(sets)))
        if name not in sets or (len(sets) > 1 and not config.config and name != "default"):
            raise ConfigError(f"{key}={given} holds {', '.join(sorted(sets))}: give the directory of one of them")
        return Located([SavedSource(sets[name], config.split)])
    if rules >= 1 and is_clone(path):
        return Located(locate_clone(path, config.config, config.split))
    found = [
        file
        for file in path.rglob("*")
        if file.is_file()
        and data_suffix(file) in READERS
        and file.name not in DESCRIPTIONS
        and not is_hidden(file.relative_to(path))
    ]
    if not found:
        raise ConfigError(f"{key}={given} holds no data file ({', '.join(READERS)})")
    found.sort(key=natural_key if rules >= 1 else None)
    notes: list[str] = []
    names = {file: file.relative_to(path).as_posix() for file in found}
    if rules >= 1 and config.split != "train":
        kept = [file for file in found if _names_split(names[file], config.split)]
        if not kept:
            raise ConfigError(
                f"prompts.split={config.split}: no file of {given} is called so ({', '.join(names.values())[:200]}); "
                "prompts.split=train reads all of them"
            )
        found = kept
    elif others := [
        split for split in ("test", "validation", "dev") if any(_names_split(names[f], split) for f in found)
    ]:
        notes.append(f"{given}: all its files are read, those of {' and '.join(others)} too; give a glob to choose")
    return Located([FileSource(file, names[file]) for file in found], notes)


def _names_split(name: str, split: str) -> bool:
    return re.search(rf"(?<![^\W_]){re.escape(split)}(?![^\W_])", name) is not None
