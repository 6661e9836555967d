"""What the planner does not know it asks of vLLM and transformers, in a process of its own, once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from synthgen.errors import ConfigError
from synthgen.models.inquiry import Answer, ask
from synthgen.planning import resolve_architecture
from tests.planning.public_configs import CONFIGS


@pytest.mark.vllm
def test_vllm_and_transformers_are_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from synthgen.config import ModelConfig
    from synthgen.models.tensors import count_parameters

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["ai21labs/Jamba-v0.1"]))
    arch = resolve_architecture(ModelConfig(name="jamba", id=str(tmp_path)))
    assert arch.source == "the model that transformers builds of its config.json"
    assert count_parameters(arch) == 51_570_323_328
    [kept] = (tmp_path / "cache/synthgen/inquiries").iterdir()
    stored = json.loads(kept.read_text())
    assert stored["refusal"] is None
    kept.write_text(json.dumps({**stored, "refusal": "has no class for architectures=['JambaForCausalLM']"}))
    from synthgen.models.inquiry import _ask

    _ask.cache_clear()
    with pytest.raises(ConfigError, match=r"vLLM .* has no class for architectures"):  # by the answer that was kept
        resolve_architecture(ModelConfig(name="jamba", id=str(tmp_path)))
    _ask.cache_clear()


def test_nothing_is_asked_where_there_is_nothing_to_ask() -> None:
    assert ask({"model_type": "llama"}, count=False, check=False) == Answer()
