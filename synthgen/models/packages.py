"""Packages of other projects in directories of their own, for work that wants other versions than the project has.

What the project has serves for the rest, whichever build of torch that is: nothing is installed with its dependencies.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from synthgen.errors import ConfigError
from synthgen.models.cache import find_cache, make_once


def ensure_packages(name: str, packages: Sequence[str]) -> Path:
    """Return the directory of pinned `packages`; the first time they are fetched.

    Args:
        name: of the project, for messages and the directory's name.

    Raises:
        ConfigError: they cannot be had.
    """
    return make_once(find_packages(name, packages), partial(_install, name, packages))


def find_packages(name: str, packages: Sequence[str]) -> Path:
    """Return where they are, or would be."""
    digest = hashlib.sha256(f"{tuple(packages)} {sys.version_info[:2]}".encode()).hexdigest()
    return find_cache() / f"{name}-{digest[:12]}"


def make_environment(directory: Path) -> dict[str, str]:
    """Return the environment variables that a process needs to work with them."""
    path = os.pathsep.join(filter(None, (str(directory), os.environ.get("PYTHONPATH"))))
    return {"PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false"}


def _install(name: str, packages: Sequence[str], directory: Path) -> None:
    if importlib.util.find_spec("pip"):
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    else:
        command = ["uv", "pip", "install", "--python", sys.executable]
    command += ["--quiet", "--no-deps", "--target", str(directory), *packages]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ConfigError(f"{name} cannot be installed: {error}; install pip in {sys.prefix}") from error
    if done.returncode:
        why = ([line for line in done.stderr.splitlines() if "rror" in line] or ["nothing was said"])[-1].strip()
        raise ConfigError(f"{name} cannot be installed: {why[:300]}")
