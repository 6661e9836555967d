"""A machine without a compiler or Python's headers: models run uncompiled, and the doctor says so."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from tiny_config import make_tiny_config

from synthgen.config import ModelConfig
from synthgen.doctor.software import check_compiler
from synthgen.engines import compiler, vllm_setup
from synthgen.engines.compiler import (
    UNCOMPILED_ENVIRONMENT,
    find_missing_tools,
    make_compiler_environment,
    name_packages,
)


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = {"g++"}
    monkeypatch.setattr(compiler.shutil, "which", lambda name: f"/usr/bin/{name}" if name in here else None)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv("CC", raising=False)
    assert find_missing_tools(gpus=False) == "Python's headers"
    (tmp_path / "Python.h").touch()
    assert find_missing_tools(gpus=False) == ""
    assert find_missing_tools(gpus=True) == "a C compiler"  # Triton's
    here.add("gcc")
    assert find_missing_tools(gpus=True) == ""
    monkeypatch.setenv("CXX", "ccache g++")  # PyTorch takes it as one name
    here.add("clang++")
    assert find_missing_tools(gpus=False) == "a C++ compiler"
    (tmp_path / "Python.h").unlink()
    assert find_missing_tools(gpus=False) == "a C++ compiler and Python's headers"
    assert make_compiler_environment() == UNCOMPILED_ENVIRONMENT


def test_clang_alone_is_not_what_pytorch_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(compiler.shutil, "which", lambda name: name if name == "clang++" else None)
    assert "a C++ compiler" in find_missing_tools(gpus=False)


def test_engine_compiles_nothing_where_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    resolved: list[ModelConfig] = []

    def resolve(model: ModelConfig, *_: Any) -> Any:
        resolved.append(model)

    for name in (*UNCOMPILED_ENVIRONMENT, *vllm_setup.QUIET_ENVIRONMENT, *vllm_setup.PATIENT_ENVIRONMENT):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(vllm_setup, "_resolve", resolve)
    monkeypatch.setattr(vllm_setup, "_detect_cpu", lambda model: True)
    monkeypatch.setattr(vllm_setup, "find_missing_tools", lambda gpus: "")
    vllm_setup.configure_vllm(make_tiny_config(enforce_eager=False), None)
    assert not any(name in os.environ for name in UNCOMPILED_ENVIRONMENT)
    monkeypatch.setattr(vllm_setup, "find_missing_tools", lambda gpus: "Python's headers")
    vllm_setup.configure_vllm(make_tiny_config(enforce_eager=False), None)
    assert [model.enforce_eager for model in resolved] == [False, True]
    assert all(os.environ[name] == "1" for name in UNCOMPILED_ENVIRONMENT)


def test_doctor_says_what_is_lost() -> None:
    assert check_compiler("", gpus=True).verdict == "ok"
    there, here = (check_compiler("Python's headers", gpus=gpus) for gpus in (True, False))
    assert (there.verdict, here.verdict) == ("missing", "warning")
    assert "uncompiled, which is slower" in here.text
    assert here.mend == name_packages()
    assert "-dev" in name_packages()
