"""The KV cache in blocks, as vLLM deals them out: layers of several kinds share one pool of blocks of equal size.

Layers that keep alike form groups of as many layers each; a block is a page in every layer of a group, and a request
takes blocks of each group (`vllm/v1/core/kv_cache_utils.py`, `_get_kv_cache_groups_uniform_page_size`). Where there are
states, the block of the attention layers is made so long that a page holds a state
(`Platform.update_block_size_for_backend`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from synthgen.models.architecture import Architecture
from synthgen.models.layers import Cache

ALIGNED_STATES = 2
"""Blocks of a state that a request holds while prefixes are cached (`MambaSpec`, mode `align`); else 1."""


@dataclass(frozen=True, slots=True)
class Group:
    """Layers that share a block table.

    Attributes:
        layers: of this kind. groups: block tables that they need.
        block: tokens of a block; 0: a state. window: tokens back; None: all.
    """

    layers: int
    groups: int
    block: int
    window: int | None = None
    chunk: bool = False


@dataclass(frozen=True, slots=True)
class Blocks:
    """How a model's cache is cut on one GPU.

    Attributes:
        block_bytes: of one block, in all layers of a group.
    """

    groups: tuple[Group, ...]
    block_bytes: int

    def count(self, tokens: float, *, slack: int | None = None, states: int = 1) -> int:
        """Return the blocks of a sequence of `tokens`.

        Args:
            slack: tokens that are under way at once (`max_num_batched_tokens`), for what vLLM sets aside for a request
                of full length; None: what a running sequence holds.
            states: blocks of each state.
        """
        return sum(group.groups * _count(group, tokens, slack, states) for group in self.groups)


def cut_blocks(
    arch: Architecture,
    element_bytes: float,
    *,
    tensor_parallel_size: int = 1,
    layers: int | None = None,
    block: int = 16,
) -> Blocks:
    """Return the blocks of `arch`'s cache on a GPU that holds its first `layers` layers (None: all)."""
    caches = arch.caches if layers is None else tuple(cache for cache in arch.caches if cache.layer < layers)
    return _cut(caches, element_bytes, arch.dtype_bytes, tensor_parallel_size, block)


def page_bytes(cache: Cache, element_bytes: float, dtype_bytes: int, tp: int) -> int:
    """Return the bytes of one token, or of one state, in one layer on one GPU."""
    if cache.state:
        return sum(math.ceil(numbers / tp) * (size or dtype_bytes) for numbers, size in cache.state)
    heads = cache.heads if cache.whole else max(1, cache.heads // tp)
    return math.ceil(heads * cache.width * element_bytes / cache.period) + cache.extra


@lru_cache(maxsize=4096)
def _cut(caches: tuple[Cache, ...], element: float, dtype: int, tp: int, block: int) -> Blocks:
    kinds: dict[tuple[int, bool, int | None, bool], int] = {}
    for cache in caches:
        size = page_bytes(cache, element, dtype, tp)
        key = (size, bool(cache.state), cache.window, cache.chunk)
        kinds[key] = kinds.get(key, 0) + 1
    if not kinds:
        return Blocks((), 1)
    if len({(state, window, chunk) for _, state, window, chunk in kinds}) == 1:  # all alike but for the page's size
        [(state, window, chunk)] = {(state, window, chunk) for _, state, window, chunk in kinds}
        tokens = 0 if state else block
        total = sum(size * count for (size, *_), count in kinds.items())
        return Blocks((Group(sum(kinds.values()), 1, tokens, window, chunk),), total * max(1, tokens))
    attention = [size for size, state, _, _ in kinds if not state]
    states = [size for size, state, _, _ in kinds if state]
    # The block of the smallest page grows until it holds a state, and other pages follow it.
    unit = min(attention)
    grown = block * max(1, math.ceil(max(states, default=0) / (block * unit)))
    widest = max(max(attention) * block, grown * unit) if not states else max(grown * unit, max(attention) * grown)
    groups = [
        Group(count, 1, 0 if state else max(block, widest // size // block * block), window, chunk)
        for (size, state, window, chunk), count in kinds.items()
    ]
    return _share_pages(groups, widest)


def _share_pages(groups: Sequence[Group], page: int) -> Blocks:
    """Return groups of as many layers each: as the smallest kind has, or the largest where they are nearly alike."""
    if len(groups) == 1:
        return Blocks(tuple(groups), page * groups[0].layers)
    counts = [group.layers for group in groups]
    size = max(counts) if max(counts) < 1.5 * min(counts) else min(counts)
    shared = tuple(replace(group, groups=math.ceil(group.layers / size)) for group in groups)
    return Blocks(shared, page * size)


def _count(group: Group, tokens: float, slack: int | None, states: int) -> int:
    if not group.block:
        return states
    if group.window is None:
        return math.ceil(tokens / group.block)
    if slack is None:
        return math.ceil(min(tokens, group.window) / group.block)
    if group.chunk:
        return math.ceil(min(group.window + slack, tokens) / group.block)
    return math.ceil(min(group.window - 1 + slack, tokens) / group.block) + 1
