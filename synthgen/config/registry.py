"""Registries: what can be chosen by its name: this package's own, what other installed packages add, and what a file of
the user's holds (`path/to/mine.py:name`, see own_files.py; docs/extending.md has one of each).

A package adds something by an entry point (https://packaging.python.org/specifications/entry-points/) in the group of
the registry; nothing is imported before it is asked for. CONTRIBUTING.md shows one of each.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from synthgen.config.own_files import check_own, load_own, split_own
from synthgen.errors import ConfigError, one_line


class Registry:
    """Objects by name.

    Args:
        group: of the entry points, such as `synthgen.engines`.
        own: this package's own, as `module:object`. A name of these cannot be taken by another package.
    """

    def __init__(self, group: str, own: Mapping[str, str]) -> None:
        self.group = group
        self.own = dict(own)
        self._loaded: dict[str, Any] = {}

    @property
    def names(self) -> list[str]:
        """All names, this package's own first."""
        return [*self.own, *(name for name in self._added if name not in self.own)]

    def __contains__(self, name: str) -> bool:
        return name in self.own or name in self._added

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def load(self, name: str, key: str) -> Any:
        """Return the object called `name`; `key`: of the configuration that names it, for messages.

        Raises:
            ConfigError: there is none of that name, or the package or the file that adds it cannot be imported.
        """
        if split_own(name) is not None:
            return load_own(name, key)
        self.check(name, key)
        if name not in self._loaded:
            self._loaded[name] = self._import(name, key)
        return self._loaded[name]

    def check(self, name: str, key: str) -> None:
        """Raise ConfigError if there is nothing called `name`; a file of the user's is looked for, and not run."""
        if split_own(name) is not None:
            check_own(name, key)
            return
        if name in self:
            return
        near = difflib.get_close_matches(name, self.names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(self.names)}"
        raise ConfigError(f"{key}={name!r} is not known; {hint} (your own: path/to/file.py:name)")

    def _import(self, name: str, key: str) -> Any:
        if name in self.own:
            module, _, attribute = self.own[name].partition(":")
            return getattr(import_module(module), attribute)
        point = self._added[name]
        try:
            return point.load()
        except Exception as error:
            where = f"{point.value} of the package {point.dist.name}" if point.dist else point.value
            raise ConfigError(f"{key}={name}: {where} cannot be imported: {one_line(error)}") from error

    @cached_property
    def _added(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}
