"""What a job of `jobs/` says of itself: the head of its configuration file, and its keys with their comments."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import typing
from collections.abc import Sequence
from enum import Enum
from typing import Any

from synthgen.config.resources import project_path

ASKED = ("--help", "-h")


def asks_for_help(overrides: Sequence[str]) -> bool:
    """Return whether a command line of a job asks for help."""
    return any(override in ASKED for override in overrides)


def make_job_help(group: str, name: str, schema: type[Any]) -> str:
    """Return the help of the job whose configuration is `conf/<group>/<name>.yaml`, of the type `schema`."""
    lines = (project_path("conf") / group / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    heads = [index for index, line in enumerate(lines) if not line.startswith("#")]
    head, rest = lines[: heads[0]], "\n".join(lines[heads[0] :]).partition("- _self_")[2].strip("\n")
    parts = ["\n".join(line.removeprefix("#").removeprefix(" ") for line in head)]
    parts.append("Keys, given as key=value (Hydra's grammar):\n\n" + textwrap.indent(_list_fields(schema), "  "))
    for key, hint in typing.get_type_hints(schema).items():
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            parts.append(f"Keys of {key}, such as {key}.<key>=value:\n\n{textwrap.indent(_list_fields(hint), '  ')}")
    for key, hint in typing.get_type_hints(schema).items():
        if isinstance(hint, type) and issubclass(hint, Enum):
            parts.append(f"Values of {key}: {', '.join(str(one.value) for one in hint)}")
    if rest:
        parts.append(f"What the file sets:\n\n{textwrap.indent(rest, '  ')}")
    return "\n\n".join(parts)


def _list_fields(schema: type[Any]) -> str:
    """Return the fields of a dataclass as its source has them, with their comments."""
    source = textwrap.dedent(inspect.getsource(schema))
    tree = ast.parse(source).body[0]
    assert isinstance(tree, ast.ClassDef)
    fields = [item for item in tree.body if isinstance(item, ast.AnnAssign)]
    lines = source.splitlines()
    first = tree.body[0].end_lineno or 0  # the docstring
    last = max(item.end_lineno or 0 for item in fields)
    return textwrap.dedent("\n".join(lines[first:last])).strip("\n").replace(" = MISSING", "  (required)")
