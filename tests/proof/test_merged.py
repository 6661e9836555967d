"""Adapters that answer as a part of their base's weights: what is written, and when it is chosen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from synthgen.config import ProveServe
from synthgen.config.compose import compose_config
from synthgen.models.dequantize import dequantize_checkpoint
from synthgen.proof.answers import make_generators
from synthgen.proof.settings import settle
from synthgen.training.child import run_merge
from synthgen.training.merge import DEQUANTIZED
from synthgen.training.train import _name_base


@pytest.mark.parametrize("quantized", [False, True])
def test_the_merged_checkpoint_says_what_base_and_adapter_say(
    tiny_model_dir: Path, tmp_path: Path, quantized: bool
) -> None:
    """Of a quantized base, too, which the adapter's configuration names once it is trained."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    adapter, place = tmp_path / "adapter", tmp_path / "adapter/merged"
    base = adapter / DEQUANTIZED if quantized else tmp_path / "base"
    dequantize_checkpoint(str(tiny_model_dir), base)
    model = AutoModelForCausalLM.from_pretrained(base, torch_dtype=torch.float32)
    tuned = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    tuned.save_pretrained(adapter)
    AutoTokenizer.from_pretrained(base).save_pretrained(adapter)
    _name_base(adapter, "builtin:tiny")
    named = json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert named == ("builtin:tiny" if quantized else str(base))
    (adapter / ".tmp-merged").mkdir()  # of a merge that was killed
    run_merge(adapter, place, "float32", check=lambda: None)
    assert not (adapter / ".tmp-merged").exists()
    tokens = AutoTokenizer.from_pretrained(place)("What is a lighthouse?", return_tensors="pt")
    merged = AutoModelForCausalLM.from_pretrained(place, torch_dtype=torch.float32)
    with torch.no_grad():
        wanted, found = tuned(**tokens).logits, merged(**tokens).logits
        plain = AutoModelForCausalLM.from_pretrained(base, torch_dtype=torch.float32)(**tokens).logits
    assert torch.allclose(found, wanted, atol=1e-3)
    assert not torch.allclose(found, plain, atol=1e-1), "the adapter says something else than its base"


@pytest.mark.parametrize(
    ("model", "cluster", "serve", "merged"),
    [
        ("tiny", "local", None, True),
        ("tiny", "8xh100-80", None, False),
        ("tiny", "8xh100-80", ProveServe.merged, True),
        ("tiny", "local", ProveServe.adapters, False),
        ("echo", "local", None, False),
    ],
)
def test_adapters_are_merged_on_a_cpu_unless_told(
    model: str, cluster: str, serve: ProveServe | None, merged: bool, tmp_path: Path
) -> None:
    said = [f"prove.serve={serve.value}"] if serve else []
    config = compose_config(
        ["experiment=prove", f"model@generators.main.model={model}", f"cluster={cluster}", f"run.dir={tmp_path}", *said]
    )
    settings = settle(config, config)
    assert settings.merged is merged
    places = {name: str(settings.find_place(tmp_path, name)) for name in ("after", "control")}
    generators = make_generators(settings, places)
    engines = {one.model.id for one in generators.values()}
    assert len(engines) == (3 if merged else 1)
    assert [one.adapter for one in generators.values()] == ([None] * 3 if merged else [None, "after", "control"])
    assert all(place.endswith("merged") is merged for place in places.values())
