"""A function of the user's own: `kind=python:path/to/file.py:function`.

    value = function(prompt=messages, completion=text, reference=text or None, metadata=dict)

One that has a parameter `tool_calls` is given what the completion calls too, in OpenAI's form. It returns a number, or
None for no verdict. What it raises, a value that is no number, and a check that takes longer than `timeout_s` or ends
the process are rows with a reason. The file's text travels with the run, so machines need not have it; what it imports
they must have.
"""

from __future__ import annotations

import ast
import inspect
import math
import sys
import traceback
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from synthgen.verifiers.cases import Case, CheckError, Verdict, Verify

PREFIX = "python:"


def make(settings: Mapping[str, Any]) -> Verify:
    """Return the verifier of `source` (the file's text), `path` and `function`. Raises what the file raises."""
    path = settings["path"]
    module = types.ModuleType("synthgen_own_verifier")
    module.__file__ = path
    sys.modules[module.__name__] = module  # dataclasses and pickle look for it
    directory = str(Path(path).parent)
    if directory not in sys.path:
        sys.path.insert(0, directory)
    exec(compile(settings["source"], path, "exec"), module.__dict__)
    function = getattr(module, settings["function"])
    takes_calls = _has_parameter(function, "tool_calls")

    def check(case: Case) -> Verdict:
        try:
            value = function(
                prompt=[dict(turn) for turn in case.prompt],
                completion=case.completion,
                reference=case.reference,
                metadata=dict(case.metadata),
                **({"tool_calls": [dict(call) for call in case.tool_calls]} if takes_calls else {}),
            )
        except Exception as error:
            raise CheckError("raised", _describe(error, path)) from error
        return to_verdict(value)

    return check


def _has_parameter(function: Any, name: str) -> bool:
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):  # what is no function of Python's does not say
        return False


def to_verdict(value: Any) -> Verdict:
    """Return what a function's value says. Raises CheckError for one that is no finite number."""
    if value is None:
        return Verdict(None, "no_verdict")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise CheckError("bad_value", f"it returned {value!r:.80}, which is no number and not None") from None
    if isinstance(value, str) or not math.isfinite(number):
        raise CheckError("bad_value", f"it returned {value!r:.80}; return a finite number, or None for no verdict")
    return Verdict(number)


def split_kind(kind: str) -> tuple[str, str] | None:
    """Return (path, function) of `python:<path>:<function>`, None for another form."""
    path, _, function = kind.removeprefix(PREFIX).rpartition(":")
    return (path, function) if path and function.isidentifier() else None


def find_problems(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield (after the scorer's key) what cannot work; nothing of the file is run."""
    try:
        tree = ast.parse(settings["source"])
    except SyntaxError as error:
        yield f".kind: {settings['path']}:{error.lineno} is not Python: {error.msg}"
        return
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    names |= {
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    names |= {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    if settings["function"] not in names:
        found = ", ".join(sorted(names)) or "none"
        yield f".kind: {settings['path']} has no function {settings['function']!r}; it has {found}"


def _describe(error: Exception, path: str) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    where = f" (line {lines[-1]} of {Path(path).name})" if lines else ""
    return f"{type(error).__name__}: {error}{where}"
