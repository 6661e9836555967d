"""How long prompts are at most: what a context is bounded by before anything is tokenized."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

TOKENS_OF_A_TURN = 32
"""What a chat template writes around a turn, at most."""


def measure_longest(prompts: pa.Table) -> dict[int, int]:
    """Return what no byte-level tokenizer makes more tokens of than: the longest prompt's bytes, and a few a turn.

    A prompt counts with its tools, its turns' calls and its reference, since a judge is shown all of them.

    Args:
        prompts: table of PROMPTS_SCHEMA.

    Returns:
        bytes by how many of a prompt's turns before the last nobody answers; their answers come on top
        (`bound_longest`). Empty for no prompts.
    """
    if not prompts.num_rows:
        return {}
    import numpy as np

    messages = prompts["messages"].combine_chunks()
    turns = pc.list_flatten(messages)
    parents = pc.list_parent_indices(messages).to_numpy()
    sizes = pc.fill_null(pc.binary_length(pc.cast(pc.struct_field(turns, "content"), pa.binary())), 0)
    totals = np.bincount(
        parents, weights=sizes.to_numpy(zero_copy_only=False) + TOKENS_OF_A_TURN, minlength=prompts.num_rows
    )
    for name in ("tools", "calls", "reference"):
        if name in prompts.column_names:  # JSON text has more bytes than what a template writes of it
            totals = totals + pc.fill_null(pc.binary_length(prompts[name]), 0).to_numpy()
    asks = pc.equal(pc.struct_field(turns, "role"), "user").to_numpy(zero_copy_only=False)
    unanswered = asks[:-1] & asks[1:] & (parents[:-1] == parents[1:])
    opened = np.bincount(parents[:-1][unanswered], minlength=prompts.num_rows)
    return {int(count): int(totals[opened == count].max()) for count in np.unique(opened)}


def bound_longest(longest: Mapping[int, int], answer: int = 0) -> int:
    """Return the bytes of the longest prompt once its open turns are answered.

    Args:
        longest: as `measure_longest` returns it.
        answer: most tokens of an answer to a turn before the last; 0: such turns stay open.
    """
    most = answer + TOKENS_OF_A_TURN if answer else 0
    return max((size + count * most for count, size in longest.items()), default=0)
