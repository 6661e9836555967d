"""The shape of the code: imports point one way, and heavy ones wait until they are used (docs/architecture.md)."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent

# From the bottom up. A module imports from its own layer and from those below it, never from one above.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "records"),
    ("config",),
    ("models",),
    ("planning",),
    ("engines",),
    ("prompts", "tasks", "judge", "pairs"),
    ("ledger",),
    ("stages", "trust"),
    ("export", "publish"),
    ("judge_eval",),
    ("flow",),
    ("observe",),
    ("runtime", "pipelines"),
    ("doctor", "training"),
    ("cli", "__main__"),
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}

HEAVY = {"vllm", "torch", "ray", "distilabel", "transformers", "datasets", "scipy", "matplotlib", "trl", "openai"}
# What only one part of the library knows of, and what a pure part knows nothing of.
ONLY_IN = {"vllm": {"engines"}, "openai": {"engines"}, "distilabel": {"judge", "tasks"}}
PURE = {"errors", "config", "records", "validate", "tasks", "judge", "pairs", "stages", "prompts"}


def part_of(path: Path) -> str:
    """Return the name of a source file in LAYERS: `synthgen/judge/parse.py` is of `judge`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0] if parts[0] == "pipelines" else parts[1]


def imported_modules(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of every import below `tree`, those inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def imports_at_load(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the imports that run when the module is imported: not in a function, not for type checkers alone."""
    for node in tree.body:
        checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not checking and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from imported_modules(node)


def read_sources() -> Iterator[tuple[str, str, ast.Module]]:
    """Yield (path, part, syntax tree) of every source file."""
    for path in sorted([*ROOT.glob("synthgen/**/*.py"), *ROOT.glob("pipelines/**/*.py")]):
        yield str(path.relative_to(ROOT)), part_of(path), ast.parse(path.read_text(encoding="utf-8"))


def own_parts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (line, part) of the project's own parts that a file imports."""
    for line, name in imported_modules(tree):
        package, _, rest = name.partition(".")
        part = {"synthgen": rest.split(".")[0], "pipelines": "pipelines"}.get(package)
        if part is not None and not part.startswith("__"):
            yield line, part


def test_imports_are_of_parts_that_have_a_layer() -> None:
    parts = {part for _, part, _ in read_sources()} - {"__init__"}
    assert sorted(parts - set(RANK)) == [], "add them to LAYERS, where they belong"


def test_imports_point_one_way() -> None:
    wrong = [
        f"{path}:{line}: {part} imports {imported}, which is above it"
        for path, part, tree in read_sources()
        for line, imported in own_parts(tree)
        if part in RANK and RANK.get(imported, 0) > RANK[part]
    ]
    assert wrong == []


def test_imports_keep_engines_and_ray_where_they_belong() -> None:
    wrong = []
    for path, part, tree in read_sources():
        for line, name in imported_modules(tree):
            package = name.split(".")[0]
            if part not in ONLY_IN.get(package, {part}):
                wrong.append(f"{path}:{line}: {package} is for {', '.join(ONLY_IN[package])} alone")
            if part in PURE and package == "ray":
                wrong.append(f"{path}:{line}: {part} knows nothing of Ray")
    assert wrong == []


def test_imports_of_heavy_packages_wait() -> None:
    wrong = [
        f"{path}:{line}: import {name} where it is used"
        for path, _, tree in read_sources()
        for line, name in imports_at_load(tree)
        if name.split(".")[0] in HEAVY
    ]
    assert wrong == []


def test_imports_of_the_command_line_are_light() -> None:
    program = f"import sys, synthgen.cli.commands; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == []
