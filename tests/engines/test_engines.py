"""The registry: every kind of engine has its class, and nothing is loaded before it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from synthgen.config import EndpointConfig, ModelConfig
from synthgen.config.engine_type import ENGINES
from synthgen.engines import make_engine


@pytest.mark.parametrize("kind", ENGINES.names)
def test_make_engine_knows_every_kind(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    model = ModelConfig(name="m", id="m", engine=kind, endpoint=EndpointConfig(base_url="http://localhost:1/v1"))
    assert type(make_engine(model)).__name__.lower() == f"{kind}engine"


def test_make_engine_imports_no_vllm_before_start() -> None:
    code = (
        "import sys; from synthgen.config import ModelConfig; from synthgen.engines import make_engine;"
        "make_engine(ModelConfig(name='m', id='m')); print('vllm' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
