"""An adapter becomes a part of its base's weights: a checkpoint that every server loads, at the base's own speed."""

from __future__ import annotations

import shutil
from pathlib import Path


def merge_adapter(adapter: Path, place: Path, dtype: str) -> None:
    """Write the base of `adapter` with the adapter in it to `place`, whole or not at all.

    The sum is made in float32 and stored as `dtype`: what is smaller than its rounding is lost.

    Args:
        adapter: directory of a PEFT adapter, which names its base, with its tokenizer.
        dtype: name of a torch type, such as `bfloat16`.
    """
    import torch
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    model = AutoPeftModelForCausalLM.from_pretrained(adapter, torch_dtype=torch.float32)
    merged = model.merge_and_unload().to(getattr(torch, dtype))
    made = place.with_name(f".tmp-{place.name}")
    shutil.rmtree(made, ignore_errors=True)
    merged.save_pretrained(made)
    AutoTokenizer.from_pretrained(adapter).save_pretrained(made)
    made.rename(place)
