"""`python -m benchmarks.mutants [MODULE …] [--sample N] [--seed S]`: can the tests of the ledger fail?

Changes one thing at a time in a copy of the sources (a comparison, a condition, a constant, a call that is left out, an
error that is not raised) and runs the tests of that module. A change that no test notices is printed: it is either
equivalent, and then listed in EQUIVALENT with the reason, or it wants a test.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

ROOT = Path(__file__).resolve().parent.parent
LIMIT_S = 240.0
QUIET: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

# What holds a module to its word. In order: the quick ones first, they end most mutants.
TARGETS: dict[str, tuple[str, ...]] = {
    "synthgen/ledger/manifest.py": ("tests/ledger/test_manifest.py", "tests/ledger/test_ingest.py"),
    "synthgen/ledger/ingest.py": ("tests/ledger/test_ingest_damage.py", "tests/ledger/test_ingest.py"),
    "synthgen/ledger/run_dir.py": ("tests/ledger/test_run_dir.py", "tests/ledger/test_ingest.py"),
    "synthgen/ledger/storage.py": ("tests/ledger/test_storage.py",),
    "synthgen/ledger/object_store.py": ("tests/ledger/test_object_store.py", "tests/ledger/test_storage.py"),
    "synthgen/ledger/lease.py": ("tests/ledger/test_storage.py", "tests/runtime/test_session.py"),
    "synthgen/runtime/scheduler.py": ("tests/runtime/test_scheduler.py",),
    "synthgen/runtime/losses.py": ("tests/runtime/test_losses.py",),
    "synthgen/runtime/units.py": (
        "tests/runtime/test_units.py",
        "tests/runtime/test_changed_prompts.py",
        "tests/runtime/test_damaged_runs.py",
    ),
}

# Mutants that change nothing that anyone could see: "module: the line after the change" → why.
EQUIVALENT: dict[str, str] = {}

SWAPPED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change: its place (the node's number in `ast.walk`, which change of it), and the line before and after."""

    module: str
    node: int
    variant: int
    line: int
    before: str
    after: str

    @property
    def key(self) -> str:
        """How EQUIVALENT names it."""
        return f"{self.module}: {self.after}"

    def source(self) -> str:
        """Return the whole changed module."""
        tree = ast.parse((ROOT / self.module).read_text(encoding="utf-8"))
        old = next(node for number, node in enumerate(ast.walk(tree)) if number == self.node)
        new = _mutate(old, self.variant)
        assert new is not None
        return ast.unparse(ast.fix_missing_locations(_Exchange(old, new).visit(tree)))


def list_mutants(module: str) -> Iterator[Mutant]:
    """Yield every mutant of a module."""
    tree = ast.parse((ROOT / module).read_text(encoding="utf-8"))
    flags = {id(part) for node in ast.walk(tree) for part in _list_flags(node)}
    for number, node in enumerate(ast.walk(tree)):
        if id(node) in flags:
            continue
        for variant in range(2):
            changed = _mutate(node, variant)
            if changed is None:
                break
            yield Mutant(module, number, variant, getattr(node, "lineno", 0), _show(node), _show(changed))


def _list_flags(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the parts of a class's decorators: what `frozen` and `slots` forbid, nobody tries."""
    if isinstance(node, ast.ClassDef):
        for decorator in node.decorator_list:
            yield from ast.walk(decorator)


def _show(node: ast.AST) -> str:
    return ast.unparse(ast.fix_missing_locations(node)).split("\n", 1)[0][:160]


class _Exchange(ast.NodeTransformer):
    """Puts one node in the place of another."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self._old = old
        self._new = new

    def visit(self, node: ast.AST) -> ast.AST:
        return self._new if node is self._old else self.generic_visit(node)


def _mutate(node: ast.AST, variant: int) -> ast.AST | None:
    """Return a changed copy of a node, None where there is no such variant."""
    node = copy.deepcopy(node)
    if isinstance(node, ast.If | ast.While):
        node.test = ast.Constant(value=variant == 0)
        return node
    if variant > 0:
        return None
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPPED:
        node.ops[0] = SWAPPED[type(node.ops[0])]()
    elif isinstance(node, ast.BoolOp):
        node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        node.value = not node.value
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        node.value += 1
    elif _is_left_out(node):
        node.value = ast.Constant(value=None)
    elif isinstance(node, ast.Raise) and node.exc is not None:
        return ast.copy_location(ast.Pass(), node)
    else:
        return None
    return node


def _is_left_out(node: ast.AST) -> TypeGuard[ast.Return | ast.Expr]:
    """Whether a mutant leaves this out: the value of a return, or a call whose value nobody takes, logging apart."""
    if isinstance(node, ast.Return):
        return node.value is not None and not isinstance(node.value, ast.Constant)
    call = node.value if isinstance(node, ast.Expr) else None
    return isinstance(call, ast.Call) and not ast.unparse(call.func).startswith("logger.")


def make_copy(directory: Path) -> None:
    """Lay out a copy of the project whose sources can be changed; the rest are links."""
    shutil.copytree(ROOT / "synthgen", directory / "synthgen", ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if path.name not in ("synthgen", ".git", ".venv", "runs"):
            (directory / path.name).symlink_to(path)


def survives(mutant: Mutant, directory: Path) -> bool:
    """Return whether the module's tests pass all the same."""
    path = directory / mutant.module
    path.write_text(mutant.source(), encoding="utf-8")
    tests = [test for test in TARGETS[mutant.module] if (ROOT / test).exists()]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(directory), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=directory, env=environment, capture_output=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    finally:
        shutil.copy(ROOT / mutant.module, path)
    return done.returncode == 0


def main() -> None:
    """Run a sample of the mutants and print those that no test noticed. Exit status 1 where one is not known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", default=list(TARGETS))
    parser.add_argument("--sample", type=int, default=0, help="mutants per module; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    unknown = 0
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        make_copy(directory)
        for module in options.modules:
            mutants = list(list_mutants(module))
            if options.sample and options.sample < len(mutants):
                mutants = random.Random(options.seed).sample(mutants, options.sample)
            began = time.monotonic()
            alive = [mutant for mutant in mutants if survives(mutant, directory)]
            print(f"{module}: {len(mutants) - len(alive)} of {len(mutants)} noticed, {time.monotonic() - began:.0f} s")
            for mutant in alive:
                why = EQUIVALENT.get(mutant.key)
                unknown += why is None
                print(
                    f"  line {mutant.line}: {mutant.before}\n       -> {mutant.after}   {why or 'NO TEST NOTICES'}",
                    flush=True,
                )
    raise SystemExit(1 if unknown else 0)


if __name__ == "__main__":
    main()
