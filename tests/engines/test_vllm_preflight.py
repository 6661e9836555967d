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
from synthgen.models.tiny import ensure_tiny_model
from synthgen.records import Message, Request, Sampling

pytestmark = pytest.mark.vllm

WIDTH = 128
"""Of the tiny model's queries."""
NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
)


def write_adapter(path: Path, width: int, scale: float) -> str:
    """Write an adapter of the first layer's queries, and return its directory; `scale` 0 changes nothing."""
    import numpy as np
    from safetensors.numpy import save_file

    path.mkdir()
    settings = {"r": 8, "lora_alpha": 8, "target_modules": ["q_proj"], "peft_type": "LORA"}
    (path / "adapter_config.json").write_text(json.dumps(settings))
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    draw = np.random.default_rng(0)
    tensors = {
        f"{name}.lora_A.weight": draw.normal(size=(8, width)).astype(np.float32),
        f"{name}.lora_B.weight": (scale * draw.normal(size=(width, 8))).astype(np.float32),
    }
    save_file(tensors, path / "adapter_model.safetensors")
    return str(path)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny model without its quantization: on a CPU without AMX vLLM puts no adapter on INT8 weights."""
    import shutil

    import torch
    from safetensors.torch import load_file
    from safetensors.torch import save_file as save

    source, target = ensure_tiny_model(), tmp_path_factory.mktemp("plain")
    for path in source.iterdir():
        shutil.copy(path, target)
    tensors = load_file(target / "model.safetensors")
    scales = {name.removesuffix("_scale"): tensors.pop(name) for name in list(tensors) if name.endswith("_scale")}
    for name, scale in scales.items():
        tensors[name] = (tensors[name].float() * scale.float()).to(torch.bfloat16)
    save(tensors, target / "model.safetensors", {"format": "pt"})
    config = json.loads((target / "config.json").read_text())
    del config["quantization_config"]
    (target / "config.json").write_text(json.dumps(config))
    return str(target)


CPU = Path("/proc/cpuinfo")


@pytest.mark.skipif(not CPU.exists() or "amx_tile" in CPU.read_text(), reason="with AMX vLLM can, elsewhere not known")
async def test_adapter_on_a_quantized_model_is_refused_where_vllm_cannot(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "same", WIDTH, 0.0)
    with pytest.raises(ConfigError, match="cannot be put on builtin:tiny, which is quantized, on this CPU"):
        await VllmEngine(make_tiny_config(lora=adapter)).start()


async def test_adapter_of_another_shape_ends_the_start_and_is_named(plain: str, tmp_path: Path) -> None:
    model = make_tiny_config(id=plain, lora=write_adapter(tmp_path / "wide", 4096, 0.0))
    assert check_adapter(model) is None, "its files alone do not tell"
    engine = VllmEngine(model)
    with pytest.raises(ConfigError, match=rf"model\.lora={tmp_path / 'wide'} cannot be loaded into {plain}: "):
        await engine.start()


async def test_one_engine_serves_the_model_and_its_adapters_and_folds_system_messages(
    plain: str, tmp_path: Path
) -> None:
    adapters = {name: write_adapter(tmp_path / name, WIDTH, scale) for name, scale in (("same", 0.0), ("other", 1.0))}
    engine = VllmEngine(make_tiny_config(id=plain, chat_template=NO_SYSTEM, adapters=adapters))
    try:
        info = await engine.start()
        assert info.details["system_messages"] == "in the user turn"
        turns = [Message(role="system", content="Be brief."), Message(role="user", content="Hello")]
        greedy = Sampling(temperature=0, max_tokens=12)
        requests = [Request(str(name), turns, greedy, adapter=name) for name in (None, "same", "other")]
        encoded = await asyncio.to_thread(engine.encode, requests)
        # One after the other: what a step computes beside a request may change its last bits.
        answers = [await engine.generate(one) for one in encoded if isinstance(one, Request)]
        base, same, other = (completions[0].text for completions in answers)
        assert base
        assert same == base
        assert other != base
    finally:
        await engine.close()
