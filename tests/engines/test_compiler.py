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
from synthgen.engines.compiler import UNCOMPILED_ENVIRONMENT, find_missing_tools, name_packages


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler.shutil, "which", lambda name: f"/usr/bin/{name}" if name == "g++" else None)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    assert find_missing_tools() == "Python's headers"
    (tmp_path / "Python.h").touch()
    assert find_missing_tools() == ""
    monkeypatch.setenv("CXX", "/opt/none/c++")
    assert find_missing_tools() == "a C++ compiler"
    (tmp_path / "Python.h").unlink()
    assert find_missing_tools() == "a C++ compiler and Python's headers"


def test_engine_compiles_nothing_where_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    resolved: list[ModelConfig] = []

    def resolve(model: ModelConfig, *_: Any) -> Any:
        resolved.append(model)

    for name in (*UNCOMPILED_ENVIRONMENT, *vllm_setup.QUIET_ENVIRONMENT, *vllm_setup.PATIENT_ENVIRONMENT):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(vllm_setup, "_resolve", resolve)
    monkeypatch.setattr(vllm_setup, "_detect_cpu", lambda model: True)
    monkeypatch.setattr(vllm_setup, "find_missing_tools", lambda: "")
    vllm_setup.configure_vllm(make_tiny_config(enforce_eager=False), None)
    assert not any(name in os.environ for name in UNCOMPILED_ENVIRONMENT)
    monkeypatch.setattr(vllm_setup, "find_missing_tools", lambda: "Python's headers")
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
