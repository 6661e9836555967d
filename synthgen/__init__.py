"""Preference datasets from open models on your own GPUs.

From Python: `synthgen.run`, `plan`, `prove`, `compose`, `open_run` and `pair` (docs/python.md), imported when asked
for; `__init__.pyi` has their types.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
DISTRIBUTION = "synthgen-preference"
"""What pip calls this project. Never its import name: on PyPI that is another project's package."""

__all__ = [
    "ConfigError",
    "Plan",
    "Run",
    "RunFailedError",
    "RunStoppedError",
    "SynthgenError",
    "compose",
    "open_run",
    "pair",
    "plan",
    "prove",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'synthgen' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("synthgen.errors" if name.endswith("Error") else "synthgen.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
