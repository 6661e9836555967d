"""What a user's own code says, as a hash: part of the fingerprint of whatever is made by it.

It counts the definition, what it names in its file, and what it imports from its own folder, however deep; comments,
blank lines and what else the file holds do not count. Code that is reached by a text (`getattr`) is not seen.
A `version` attribute takes the place of all this: as long as it stays, a change is said to be cosmetic.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from synthgen.config.own_files import find_beside, is_own, split_own
from synthgen.records import stable_hex

Whole = None
"""In the place of a name: everything that a file holds."""


def fingerprint_own(value: Any) -> str | None:
    """Return the hash of what defines an object's class (or a class, or a function); None: it is not the user's own."""
    one = value if isinstance(value, type) or hasattr(value, "__qualname__") else type(value)
    classes = one.__mro__ if isinstance(one, type) else (one,)
    own = [item for item in classes if is_own(item.__module__)]
    if not own:
        return None
    version = getattr(value, "version", None)
    if version is not None:
        return stable_hex("version", str(version), digits=12)
    places = [(Path(str(sys.modules[item.__module__].__file__)), item.__qualname__.partition(".")[0]) for item in own]
    return stable_hex(*_collect(places), digits=12)


def fingerprint_named(name: str, value: Any) -> str:
    """Return the hash of what `path/to/mine.py:name` names, which is `value`; see `fingerprint_own`."""
    version = getattr(value, "version", None)
    if version is not None:
        return stable_hex("version", str(version), digits=12)
    found = split_own(name)
    assert found is not None
    return stable_hex(*_collect([(found[0], found[1])]), digits=12)


def _collect(places: list[tuple[Path, str]]) -> list[str]:
    """Return the texts that the named definitions stand on, each once, in an order of their own."""
    waiting: list[tuple[Path, str | None]] = [(path.resolve(), name) for path, name in places]
    seen: set[tuple[Path, str | None]] = set()
    texts: set[str] = set()
    files: dict[Path, _File] = {}
    while waiting:
        path, name = waiting.pop()
        if (path, name) in seen:
            continue
        seen.add((path, name))
        if path not in files:
            files[path] = _File(path)
        found, further = files[path].read(name)
        texts |= set(found)
        waiting += further
    return sorted(texts)


class _File:
    """One of the user's files: its statements by the names that they bind."""

    def __init__(self, path: Path) -> None:
        self.path = path
        text = path.read_text(encoding="utf-8")
        self.lines = _strip_comments(text)
        self.named: dict[str, list[ast.stmt]] = {}
        self.loose: list[ast.stmt] = []
        for statement in ast.parse(text).body:
            names = list(_bound_names(statement))
            for name in names:
                self.named.setdefault(name, []).append(statement)
            if not names and not _is_idle(statement):
                self.loose.append(statement)

    def read(self, name: str | None) -> tuple[list[str], list[tuple[Path, str | None]]]:
        """Return the texts that bind `name` (Whole: all), and the (file, name) that they stand on in turn."""
        everything = [*self.loose, *(one for many in self.named.values() for one in many)]
        named = [_only(one, name) for one in self.named.get(name, [])] if name is not Whole else everything
        statements = named if name is Whole else [*named, *self.loose]
        texts: list[str] = []
        further: list[tuple[Path, str | None]] = []
        for statement in statements:
            is_import = isinstance(statement, ast.Import | ast.ImportFrom)
            texts.append(ast.unparse(statement) if is_import else self._text(statement))
            further += [
                (self.path, node.id)
                for node in ast.walk(statement)
                if isinstance(node, ast.Name) and node.id in self.named and node.id != name
            ]
            for node in ast.walk(statement):
                further += self._imports(node)
        return texts, further

    def _text(self, statement: ast.stmt) -> str:
        first = min([statement.lineno, *(one.lineno for one in getattr(statement, "decorator_list", []))])
        return "\n".join(line for line in self.lines[first - 1 : statement.end_lineno] if line is not None)

    def _imports(self, node: ast.AST) -> Iterator[tuple[Path, str | None]]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from ((path, Whole) for path in self._find(alias.name))
        elif isinstance(node, ast.ImportFrom):
            for path in self._find(node.module or "", node.level):
                is_file = path.name != "__init__.py" and not node.level
                yield from ((path, one.name if is_file and one.name != "*" else Whole) for one in node.names)

    def _find(self, module: str, level: int = 0) -> list[Path]:
        """Return the user's files that an import takes: of a package all."""
        if level:
            return sorted(self.path.parent.rglob("*.py"))
        top = find_beside(self.path.parent, module.partition(".")[0])
        if top is None:
            return []
        return [top.resolve()] if top.is_file() else sorted(path.resolve() for path in top.rglob("*.py"))


def _bound_names(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        for alias in statement.names:
            yield alias.asname or alias.name.partition(".")[0]
    elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for target in targets:
            yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))


def _only(statement: ast.stmt, name: str) -> ast.stmt:
    """Return an import with the name alone that is asked for; another statement as it is."""
    if isinstance(statement, ast.ImportFrom):
        names = [one for one in statement.names if name in (one.asname or one.name, "*")]
        return ast.ImportFrom(statement.module, names, statement.level)
    if isinstance(statement, ast.Import):
        return ast.Import([one for one in statement.names if name == (one.asname or one.name.partition(".")[0])])
    return statement


def _is_idle(statement: ast.stmt) -> bool:
    """Whether a statement makes nothing: a docstring, or what only happens where the file is the program."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return True
    return isinstance(statement, ast.If) and "__name__" in {
        node.id for node in ast.walk(statement.test) if isinstance(node, ast.Name)
    }


def _strip_comments(text: str) -> list[str | None]:
    """Return the lines without comments; None for those that are blank then, outside of texts."""
    lines: list[str | None] = list(text.split("\n"))
    blank = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = (lines[row - 1] or "")[:column].rstrip()
        elif token.type == tokenize.NL:
            blank.append(token.start[0] - 1)
    for row in blank:
        if not (lines[row] or "").strip():
            lines[row] = None
    return lines
