"""The kinds of verifier by name, and a scorer's configuration as a kind reads it.

A package adds one by an entry point in the group `synthgen.verifiers` that names a `Kind`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from synthgen.config.registry import Registry


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of verifier.

    Attributes:
        module: dotted name of the module with `make(settings) -> Verify` and, where settings can be wrong,
            `find_problems(settings)`, which yields the rest of a message after the scorer's key.
        version: raised when the same completion may get another value: part of the stage's fingerprint.
        settings: fields of ScorerConfig that it reads.
        needs_reference: without a right answer it has no verdict.
        reads_metadata: it looks at the other columns of the prompt.
        packages: modules that must be importable.
    """

    module: str
    version: int = 1
    settings: tuple[str, ...] = ()
    needs_reference: bool = False
    reads_metadata: bool = False
    packages: tuple[str, ...] = ()

    def find_problems(self, settings: Mapping[str, Any]) -> Iterator[str]:
        """Yield (after the scorer's key) what cannot work."""
        for package in self.packages:
            if find_spec(package) is None:
                name = package.replace("_", "-")
                yield f" needs the package {name}; install it with: pip install {name}"
                return
        found: Callable[[Mapping[str, Any]], Iterator[str]] | None
        found = getattr(import_module(self.module), "find_problems", None)
        if found is not None:
            yield from found(settings)


MATH = Kind("synthgen.verifiers.math", needs_reference=True, packages=("math_verify",))
CONSTRAINTS = Kind("synthgen.verifiers.constraints", settings=("constraints", "strict"), reads_metadata=True)
JSON_SCHEMA = Kind("synthgen.verifiers.json_schema", settings=("schema",), packages=("jsonschema",))
REGEX = Kind("synthgen.verifiers.regex", settings=("pattern", "ignore_case"))
EXACT = Kind("synthgen.verifiers.exact", settings=("extract", "ignore_case"), needs_reference=True)
OWN = Kind("synthgen.verifiers.own", reads_metadata=True)
"""`kind=python:…`; its settings are the file's text, its path and the name of the function."""

KINDS = Registry(
    "synthgen.verifiers",
    {
        "math": "synthgen.verifiers.kinds:MATH",
        "constraints": "synthgen.verifiers.kinds:CONSTRAINTS",
        "json_schema": "synthgen.verifiers.kinds:JSON_SCHEMA",
        "regex": "synthgen.verifiers.kinds:REGEX",
        "exact": "synthgen.verifiers.kinds:EXACT",
    },
)
