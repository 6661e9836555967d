"""An adapter becomes a part of its base's weights: a checkpoint that every server loads, at the base's own speed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

DEQUANTIZED = "dequantized"
"""In the directory of a training: the weights of a quantized model that it trains on."""


def merge_adapter(adapter: Path, place: Path, dtype: str) -> None:
    """Write the base of `adapter` with the adapter in it to `place`, whole or not at all.

    The sum is made in float32 and stored as `dtype`: what is smaller than its rounding is lost.

    Args:
        adapter: directory of a PEFT adapter, which names its base, with its tokenizer. A base that was dequantized to
            be trained lies in it.
        dtype: name of a torch type, such as `bfloat16`.
    """
    import torch
    from peft import PeftConfig, PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    named = PeftConfig.from_pretrained(str(adapter))
    base, revision = named.base_model_name_or_path, named.revision
    if (adapter / DEQUANTIZED).is_dir():  # what it was trained on; its configuration names the quantized checkpoint
        base, revision = str(adapter / DEQUANTIZED), None
    model: Any = AutoModelForCausalLM.from_pretrained(base, revision=revision, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer))
    merged = PeftModel.from_pretrained(model, adapter).merge_and_unload().to(getattr(torch, dtype))
    made = place.with_name(f".tmp-{place.name}")
    shutil.rmtree(made, ignore_errors=True)
    merged.save_pretrained(made)
    tokenizer.save_pretrained(made)
    made.rename(place)
