"""The shape of the code: rooms with a face, imports that point one way, heavy ones that wait (docs/architecture.md)."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# The rooms from the bottom up: one imports from rooms before it. Which of them, its face says (`IMPORTS`).
ROOMS = (
    "config", "models", "planning", "engines", "prompts", "tasks", "judge", "verifiers", "pairs", "trust", "ledger",
    "stages", "export", "publish", "judge_eval", "flow", "observe", "runtime", "doctor", "training", "quantize",
    "recovery", "proof", "api", "cli",
)  # fmt: skip
HALL = {"__init__", "__main__", "errors", "records"}
"""What belongs to no room; everybody may import the last two of them."""
ABOVE = {"pipelines": ("config", "export", "flow", "pairs", "publish", "stages"), "__main__": ("cli",)}
"""What stands above the rooms, and which it may import."""

HEAVY = {"vllm", "torch", "ray", "distilabel", "transformers", "datasets", "scipy", "matplotlib", "trl", "openai"}
ONLY_IN = {"vllm": {"engines"}, "openai": {"engines"}, "distilabel": {"judge", "tasks"}}
"""Packages that only some rooms know of."""
RAY = {"ray"}
FILES = {"os", "pathlib", "shutil", "tempfile", "glob", "io", "obstore", "fsspec", "huggingface_hub"}
KNOWS_NOTHING_OF: dict[str, set[str]] = {
    "errors": RAY, "records": RAY | FILES, "config": RAY, "prompts": RAY, "models": RAY, "tasks": RAY, "verifiers": RAY,
    "judge": RAY | FILES, "pairs": RAY | FILES, "stages": RAY | FILES, "trust": RAY | FILES, "ledger": RAY,
    "planning": {"vllm", "torch", "transformers"},
}  # fmt: skip
"""Packages that a room has no business with: what it does can be said, and tested, without them."""
READS_ITS_OWN = {"synthgen/judge/ultrafeedback.py"}
"""Files of a room without files that hold them all the same: texts that are part of the package."""


@dataclass(frozen=True)
class Face:
    """What a room's `__init__.py` declares."""

    doc: str
    public: tuple[str, ...]
    imports: tuple[str, ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """A source file: its path below the project, its room, its dotted name and its syntax tree."""

    path: str
    room: str
    module: str
    tree: ast.Module


def make_source(path: str, text: str) -> Source:
    parts = Path(path).with_suffix("").parts
    room = parts[0] if parts[0] == "pipelines" else parts[1]
    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Source(path, room, module, ast.parse(text))


@cache
def read_sources() -> tuple[Source, ...]:
    paths = sorted([*ROOT.glob("synthgen/**/*.py"), *ROOT.glob("pipelines/**/*.py")])
    return tuple(make_source(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")) for path in paths)


@cache
def read_face(room: str) -> Face:
    tree = ast.parse((ROOT / "synthgen" / room / "__init__.py").read_text(encoding="utf-8"))
    declared: dict[str, tuple[str, ...]] = {}
    for node in tree.body:
        target = (
            node.target
            if isinstance(node, ast.AnnAssign)
            else node.targets[0]
            if isinstance(node, ast.Assign)
            else None
        )
        if isinstance(target, ast.Name) and target.id in ("PUBLIC", "IMPORTS", "__all__"):
            assert node.value is not None
            declared[target.id] = tuple(ast.literal_eval(node.value))
    return Face(ast.get_docstring(tree) or "", declared["PUBLIC"], declared["IMPORTS"], declared.get("__all__", ()))


def imported_names(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """Yield (line, module, name) of every import below `tree`, in functions too; name is empty for `import`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.lineno, node.module, alias.name) for alias in node.names)


def imports_at_load(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the imports that run when the module is imported: not in a function, not for type checkers alone."""
    for node in tree.body:
        checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not checking and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from ((line, module) for line, module, _ in imported_names(node))


def list_module_names() -> set[str]:
    return {source.module for source in read_sources()}


def own_imports(source: Source) -> Iterator[tuple[int, str, str, str]]:
    """Yield (line, room, module within the room, name) of what a file imports from other rooms.

    `from synthgen.judge import parse` is of the module `parse`; where the face itself is asked, the module is empty.
    """
    for line, module, name in imported_names(source.tree):
        package, _, rest = module.partition(".")
        if package != "synthgen":
            continue
        if not rest:
            rest, name = (name, "") if f"synthgen.{name}" in list_module_names() else ("", name)
        elif f"{module}.{name}" in list_module_names():
            rest, name = f"{rest}.{name}", ""
        room, _, inside = rest.partition(".")
        if room and room != source.room:
            yield line, room, inside, name


def break_rules(source: Source) -> Iterator[str]:
    """Yield every way in which a file breaks the rules between rooms."""
    allowed = (
        ABOVE[source.room] if source.room in ABOVE else () if source.room in HALL else read_face(source.room).imports
    )
    for line, room, inside, name in own_imports(source):
        where = f"{source.path}:{line}"
        if room in HALL:
            continue
        if room not in allowed:
            yield f"{where}: {source.room} may not import {room}, by the IMPORTS of its face"
        elif inside and inside not in read_face(room).public:
            yield f"{where}: {room}.{inside} is private to {room}, by the PUBLIC of its face"
        elif not inside and name and name not in read_face(room).names:
            yield f"{where}: the face of {room} does not export {name}"
    for line, module, _ in imported_names(source.tree):
        package = module.split(".")[0]
        if source.room not in ONLY_IN.get(package, {source.room}):
            yield f"{source.path}:{line}: {package} is for {', '.join(ONLY_IN[package])} alone"
        if package in KNOWS_NOTHING_OF.get(source.room, set()) and source.path not in READS_ITS_OWN:
            yield f"{source.path}:{line}: {source.room} knows nothing of {package}"


def find_circles(edges: Mapping[str, set[str]]) -> list[tuple[str, ...]]:
    """Return the groups of modules that import each other, directly or through others."""

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for module in edges.get(waiting.pop(), set()) - seen:
                seen.add(module)
                waiting.append(module)
        return seen

    reached = {module: reach(module) for module in edges}
    circles = [tuple(sorted(b for b in seen if a in reached.get(b, set()))) for a, seen in reached.items() if a in seen]
    return sorted(set(circles))


def test_rooms_have_faces_and_the_hall_is_empty() -> None:
    found = {source.room for source in read_sources()} - {"pipelines"}
    assert found - HALL == set(ROOMS), "a new room stands in ROOMS, and nothing is loose in the hall"
    for room in ROOMS:
        face = read_face(room)
        assert face.doc, f"the face of {room} says what it is for"
        there = list_module_names()
        assert [name for name in face.public if f"synthgen.{room}.{name}" not in there] == [], room


def test_rooms_import_from_below() -> None:
    wrong = {room: face for room in ROOMS if (face := set(read_face(room).imports) - set(ROOMS[: ROOMS.index(room)]))}
    assert wrong == {}


def test_imports_keep_to_the_faces() -> None:
    assert [broken for source in read_sources() for broken in break_rules(source)] == []


def test_faces_declare_no_import_that_is_not_made() -> None:
    used: dict[str, set[str]] = {room: set() for room in ROOMS}
    for source in read_sources():
        used.setdefault(source.room, set()).update(room for _, room, _, _ in own_imports(source))
    assert {room: rest for room in ROOMS if (rest := set(read_face(room).imports) - used[room])} == {}


def test_imports_go_in_no_circle() -> None:
    modules = list_module_names()
    edges: dict[str, set[str]] = {}
    for source in read_sources():
        both = ((module, f"{module}.{name}") for _, module, name in imported_names(source.tree))
        edges[source.module] = {deep if deep in modules else module for module, deep in both} & modules
    assert find_circles(edges) == []


def test_imports_of_heavy_packages_wait() -> None:
    wrong = [
        f"{source.path}:{line}: import {name} where it is used"
        for source in read_sources()
        for line, name in imports_at_load(source.tree)
        if name.split(".")[0] in HEAVY
    ]
    assert wrong == []


def test_imports_of_the_command_line_are_light() -> None:
    names = ", ".join(source.module for source in read_sources() if source.module.startswith("synthgen.cli"))
    program = f"import sys, {names}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == []


def test_long_files_say_why_they_are_one() -> None:
    long = [source for source in read_sources() if (ROOT / source.path).read_text(encoding="utf-8").count("\n") > 300]
    assert long, "the reasons can go from the docstrings"
    assert [source.path for source in long if "One file because" not in (ast.get_docstring(source.tree) or "")] == []


@pytest.mark.parametrize(
    ("path", "text", "complaint"),
    [
        ("synthgen/stages/new.py", "from synthgen.runtime.run import run", "stages may not import runtime"),
        ("synthgen/stages/new.py", "from synthgen.judge import parse", "judge.parse is private to judge"),
        ("synthgen/stages/new.py", "from synthgen.judge.parse import parse_ratings", "judge.parse is private to judge"),
        ("synthgen/runtime/new.py", "from synthgen.flow import _module_name", "does not export _module_name"),
        ("synthgen/errors.py", "from synthgen.config import Config", "errors may not import config"),
        ("synthgen/stages/new.py", "def late():\n    import ray", "stages knows nothing of ray"),
        ("synthgen/judge/new.py", "from pathlib import Path", "judge knows nothing of pathlib"),
        ("synthgen/runtime/new.py", "import vllm", "vllm is for engines alone"),
        ("pipelines/new.py", "from synthgen.runtime.run import run", "pipelines may not import runtime"),
    ],
)
def test_rules_see_what_breaks_them(path: str, text: str, complaint: str) -> None:
    assert re.search(re.escape(complaint), "\n".join(break_rules(make_source(path, text))))


def test_circles_are_found() -> None:
    assert find_circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [("a", "b", "c")]


def test_architecture_page_lists_the_rooms_in_their_order_and_files_that_exist() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^\| \[`(\w+)`\]\(\.\./synthgen/\w+\) \|", page, re.MULTILINE)) == ROOMS
    named = set(re.findall(r"`((?:\w+/)*\w+\.py)`", page)) - {"path/to/file.py"}
    there = {str(path.relative_to(ROOT)) for path in ROOT.glob("**/*.py") if ".venv" not in path.parts}
    assert len(named) > 30
    assert sorted(name for name in named if not any(f"/{path}".endswith(f"/{name}") for path in there)) == []
