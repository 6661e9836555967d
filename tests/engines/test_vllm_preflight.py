"""What preflight cannot know, on the real vLLM: an adapter of another shape, and a system text in the user turn."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from tiny_config import make_tiny_config

from synthgen.engines.adapters import check_adapter
from synthgen.engines.vllm import VllmEngine
from synthgen.errors import ConfigError
from synthgen.records import Message, Request, Sampling

pytestmark = pytest.mark.vllm

NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
)


async def test_adapter_of_another_shape_ends_the_start_and_is_named(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    settings = {"r": 8, "lora_alpha": 8, "target_modules": ["q_proj"], "peft_type": "LORA"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    tensors = {
        f"{name}.lora_A.weight": np.zeros((8, 4096), np.float32),
        f"{name}.lora_B.weight": np.zeros((4096, 8), np.float32),
    }
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    model = make_tiny_config(lora=str(tmp_path))
    assert check_adapter(model) is None, "its files alone do not tell"
    engine = VllmEngine(model)
    with pytest.raises(ConfigError, match=rf"model\.lora={tmp_path} cannot be loaded into builtin:tiny: "):
        await engine.start()


async def test_system_message_that_the_template_refuses_is_in_the_user_turn() -> None:
    engine = VllmEngine(make_tiny_config(chat_template=NO_SYSTEM))
    try:
        info = await engine.start()
        assert info.details["system_messages"] == "in the user turn"
        turns = [Message(role="system", content="Be brief."), Message(role="user", content="Hello")]
        request = Request("r", turns, Sampling(max_tokens=4))
        (encoded,) = await asyncio.to_thread(engine.encode, [request])
        assert isinstance(encoded, Request), encoded
        (completion,) = await engine.generate(encoded)
        assert completion.output_tokens > 0
    finally:
        await engine.close()
