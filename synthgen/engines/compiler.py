"""What PyTorch compiles functions with while a model runs: a C++ compiler and Python's headers. Some lack them.

vLLM lets PyTorch compile the ranks of log-probabilities, which a judge asks for: without them its engine died with
the first judgement. Where something is missing, functions are run as they are.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path

UNCOMPILED_ENVIRONMENT = {"TORCH_COMPILE_DISABLE": "1", "TORCHDYNAMO_DISABLE": "1"}
"""Lets PyTorch compile nothing; read when it is imported."""


def find_missing_tools() -> str:
    """Return what this machine lacks to compile with, in words; empty: nothing."""
    lacking = []
    if not any(shutil.which(name) for name in (os.environ.get("CXX") or "g++", "clang++")):
        lacking.append("a C++ compiler")
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        lacking.append("Python's headers")
    return " and ".join(lacking)


def name_packages() -> str:
    """Return the command that installs both on Debian and Ubuntu."""
    return f"apt-get install g++ python{sysconfig.get_python_version()}-dev"
