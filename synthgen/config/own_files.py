"""Files of the user's own: `path/to/mine.py:name` wherever a registered name is taken, and pipelines.

A file is run once for each text that it has; what it imports from its own folder is found there, on replicas too, which
need not have the file (`pack_own`, `unpack_own`). `own_source.py` hashes what such files hold.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from synthgen.errors import ConfigError, one_line

_SPEC = re.compile(r"(?:python:)?(.+\.py):([A-Za-z_]\w*)")
_PACKAGE = Path(__file__).resolve().parent.parent
_MODULES: dict[Path, tuple[str, ModuleType]] = {}
"""Files that were run, with the hash of their text and what became of them."""
_UNPACKED: dict[str, Any] = {}
"""What a replica was sent, by the name that the configuration has for it."""
_LOADED: dict[str, Any] = {}
_LOCK = threading.Lock()
"""Exports ask for a policy from several threads."""


def split_own(name: str) -> tuple[Path, str] | None:
    """Return the file and the name in it of `path/to/mine.py:name`, None for another form."""
    found = _SPEC.fullmatch(name)
    return (Path(found[1]).expanduser(), found[2]) if found else None


def public_own(name: str) -> str:
    """Return `mine.py:name` without the folders of its file; another name as it is."""
    found = split_own(name)
    return f"{found[0].name}:{found[1]}" if found else name


def check_own(name: str, key: str) -> None:
    """Raise ConfigError where the file of `path/to/mine.py:name` is not there; nothing of it is run."""
    found = split_own(name)
    if found is not None and name not in _UNPACKED and not found[0].is_file():
        raise ConfigError(f"{key}={name}: there is no file {found[0]}; give the path from where the command runs")


def load_own(name: str, key: str) -> Any:
    """Return the object that `path/to/mine.py:name` names; `key`: of the configuration that names it, for messages.

    It is what it was until `forget_own`, whatever becomes of the file.

    Raises:
        ConfigError: the file is not there, cannot be run, or has nothing of that name.
    """
    with _LOCK:
        if name in _UNPACKED or name in _LOADED:
            return _UNPACKED[name] if name in _UNPACKED else _LOADED[name]
        check_own(name, key)
        found = split_own(name)
        assert found is not None
        module = load_file(found[0], f"{key}={name}")
        if not hasattr(module, found[1]):
            there = ", ".join(sorted(one for one in vars(module) if not one.startswith("_"))) or "nothing"
            raise ConfigError(f"{key}={name}: {found[0].name} has no {found[1]}; it has {there}")
        _LOADED[name] = getattr(module, found[1])
        return _LOADED[name]


def forget_own() -> None:
    """Read the user's files anew from here on: a run begins, and they may have been edited in between."""
    with _LOCK:
        _LOADED.clear()


def load_file(path: Path, said: str) -> ModuleType:
    """Return the module that a file makes, run anew when its text or what it imports from its folder has changed.

    Args:
        said: `key=value` of the configuration, for messages.

    Raises:
        ConfigError: it cannot be read or run.
    """
    path = path.resolve()
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{said}: {path.name} cannot be read: {error.strerror}") from error
    digest = hashlib.sha256(b"\0".join([text, *_read_beside(path.parent)])).hexdigest()
    if path in _MODULES and _MODULES[path][0] == digest:
        return _MODULES[path][1]
    # Two folders may each have a `helper.py`.
    for earlier in list(_iterate_beside(path.parent, *(one.parent for one in _MODULES))):
        if find_beside(path.parent, earlier.__name__.partition(".")[0]) is not None:
            del sys.modules[earlier.__name__]
    name = f"synthgen_own_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look for it
    folder = str(path.parent)
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        _MODULES.pop(path, None)
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        where = f"{path.name}:{lines[-1]}" if lines else path.name
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{said}: {where} cannot be run: {type(error).__name__}: {one_line(error)}") from error
    finally:
        sys.path.remove(folder)
    if folder not in sys.path:
        sys.path.append(folder)  # for imports inside of functions; last, so that it hides no package
    digest = hashlib.sha256(b"\0".join([text, *_read_beside(path.parent)])).hexdigest()
    _MODULES[path] = (digest, module)
    return module


def list_own_modules() -> list[ModuleType]:
    """Return every module of the user's files that was run, and what they import from their folders."""
    found = {module.__name__: module for _, module in _MODULES.values()}
    found |= {module.__name__: module for module in _iterate_beside(*(path.parent for path in _MODULES))}
    return list(found.values())


def is_own(module: str) -> bool:
    """Return whether the module of that name is one of `list_own_modules`."""
    if any(one.__name__ == module for _, one in _MODULES.values()):
        return True
    there = sys.modules.get(module)
    return there is not None and any(_is_beside(path.parent, module, there) for path in _MODULES)


def pack_own() -> dict[str, Any]:
    """Return what was loaded by name, for replicas on machines that need not have the files."""
    return dict(_LOADED)


def unpack_own(packed: Mapping[str, Any]) -> None:
    """Take what `pack_own` gave the driver."""
    _UNPACKED.update({name: value for name, value in packed.items() if name not in _LOADED})


def find_beside(folder: Path, name: str) -> Path | None:
    """Return the file or folder that `import name` takes from the user's folder; None: it is somebody else's."""
    if (folder / f"{name}.py").is_file():
        return folder / f"{name}.py"
    package = (folder / name).resolve()
    is_ours = package in (_PACKAGE, _PACKAGE.parent / "pipelines")
    return package if (package / "__init__.py").is_file() and not is_ours else None


def _iterate_beside(*folders: Path) -> Iterator[ModuleType]:
    """Yield the modules that were imported from the user's folders."""
    prefixes = tuple({f"{folder}/" for folder in folders})
    for name, module in list(sys.modules.items()):
        place = getattr(module, "__file__", None)
        if not place or not place.startswith(prefixes):  # one look at each: a process may have ten thousand
            continue
        if any(_is_beside(folder, name, module) for folder in folders):
            yield module


def _is_beside(folder: Path, name: str, module: ModuleType) -> bool:
    place = getattr(module, "__file__", None)
    if not place or not place.startswith(f"{folder}/") or name == "__main__" or name.startswith("synthgen_own_"):
        return False
    top = find_beside(folder, name.partition(".")[0])
    return top is not None and Path(place).is_relative_to(top)


def _read_beside(folder: Path) -> Iterator[bytes]:
    """Yield the texts of the modules that were imported from the user's folder."""
    for module in sorted(_iterate_beside(folder), key=lambda module: module.__name__):
        try:
            yield Path(str(module.__file__)).read_bytes()
        except OSError:
            yield b""
