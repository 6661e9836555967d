"""Blocks of the KV cache, against vLLM's own grouping of the same layers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from synthgen.models.layers import Cache
from synthgen.planning.cache_blocks import _cut

BLOCK = 16
LENGTH = 8192
STEP = 2048

FULL = {"heads": 8, "width": 256}
SHAPES: dict[str, list[Cache]] = {
    "full attention": [Cache(layer, **FULL) for layer in range(32)],
    "every second layer a window": [Cache(layer, **FULL, window=128 if layer % 2 else None) for layer in range(24)],
    "five windows to one": [Cache(layer, **FULL, window=None if layer % 6 == 5 else 1024) for layer in range(62)],
    "other heads in windows": [
        Cache(layer, heads=8 if layer % 5 else 4, width=512, window=128 if layer % 5 else None) for layer in range(30)
    ],
    "states": [
        Cache(layer, heads=2, width=512) if layer % 4 == 3 else Cache(layer, state=((24_576, 2), (524_288, 4)))
        for layer in range(40)
    ],
}


def spec_of(cache: Cache, blocks: Any) -> Any:
    """Return vLLM's spec of a layer; a state's page is padded to that of the attention, as the platform does."""
    import torch
    from vllm.v1.kv_cache_interface import FullAttentionSpec, MambaSpec, SlidingWindowSpec

    attention = next(group.block for group in blocks.groups if group.block)
    states = any(not group.block for group in blocks.groups)
    block = attention if states else BLOCK
    if cache.state:
        shapes, dtypes = ((24_576,), (524_288,)), (torch.bfloat16, torch.float32)
        page = block * 2 * 512 * 2
        return MambaSpec(shapes=shapes, dtypes=dtypes, block_size=block, page_size_padded=page)
    common = {
        "block_size": block,
        "num_kv_heads": cache.heads,
        "head_size": cache.width // 2,
        "dtype": torch.bfloat16,
    }
    if cache.window is not None:
        return SlidingWindowSpec(**common, sliding_window=cache.window)
    return FullAttentionSpec(**common)


@pytest.mark.vllm
def test_blocks_equal_vllms_groups() -> None:
    from vllm.v1.core.kv_cache_utils import get_kv_cache_groups

    layout = SimpleNamespace(is_block_outermost=False)
    config: Any = SimpleNamespace(
        scheduler_config=SimpleNamespace(disable_hybrid_kv_cache_manager=False),
        cache_config=SimpleNamespace(get_resolved_kv_cache_layout=lambda: layout, mamba_cache_mode="none"),
        parallel_config=SimpleNamespace(decode_context_parallel_size=1, prefill_context_parallel_size=1),
        model_config=SimpleNamespace(max_model_len=LENGTH),
        speculative_config=None,
        attention_config=SimpleNamespace(hisparse_config=None),
        hisparse_config=None,
        max_in_flight_tokens=STEP,
    )
    for name, caches in SHAPES.items():
        ours = _cut(tuple(caches), 2, 2, 1, BLOCK)
        groups = get_kv_cache_groups(config, {f"layer.{cache.layer}": spec_of(cache, ours) for cache in caches})
        blocks = sum(
            -(-group.kv_cache_spec.max_memory_usage_bytes(config) // group.kv_cache_spec.page_size_bytes)
            for group in groups
        )
        widest = max(len(group.layer_names) for group in groups)
        assert ours.count(LENGTH, slack=STEP) == blocks, name
        assert ours.block_bytes == widest * groups[0].kv_cache_spec.page_size_bytes, name
