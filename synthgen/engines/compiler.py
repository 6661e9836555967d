"""What PyTorch compiles functions with while a model runs: a C++ compiler and Python's headers. Some lack them.

vLLM lets PyTorch compile the ranks of log-probabilities, which a judge asks for: without them its engine died with
the first judgement. Where something is missing, functions are run as they are.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

UNCOMPILED_ENVIRONMENT = {"TORCH_COMPILE_DISABLE": "1", "TORCHDYNAMO_DISABLE": "1"}
"""Lets PyTorch compile nothing; read when it is imported."""


def find_missing_tools(*, gpus: bool) -> str:
    """Return what this machine lacks to compile with, in words; empty: nothing.

    Args:
        gpus: whether kernels for GPUs are built (Triton takes a C compiler), else functions for CPUs (PyTorch takes the
            one C++ compiler that CXX names, or g++).
    """
    lacking = []
    if gpus:
        if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
            lacking.append("a C compiler")
    elif not shutil.which(os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")):
        lacking.append("a C++ compiler")
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        lacking.append("Python's headers")
    return " and ".join(lacking)


def make_compiler_environment() -> dict[str, str]:
    """Return the environment variables of a process that runs models here: none where everything is there."""
    return UNCOMPILED_ENVIRONMENT if find_missing_tools(gpus=has_gpus()) else {}


def has_gpus() -> bool:
    """Return whether this machine has NVIDIA's driver, which no library has to be loaded for."""
    return Path("/dev/nvidiactl").exists()


def name_packages() -> str:
    """Return the command that installs both on Debian and Ubuntu."""
    return f"apt-get install g++ python{sysconfig.get_python_version()}-dev"
