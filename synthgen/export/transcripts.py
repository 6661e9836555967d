"""Conversations as one text, and conversations with one more turn."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa

from synthgen.export.thoughts import extend_turns
from synthgen.records import MESSAGES_TYPE, Messages

_HH_ROLES = {"user": "Human", "assistant": "Assistant"}
_HH_MARK = re.compile(r"\n\n(?=(?:Human|Assistant):)")


def render_text(messages: Messages) -> str:
    """Return a prompt as text: its one user turn, or a transcript `System: …`, `User: …` with blank lines between."""
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"{message['role'].capitalize()}: {message['content']}" for message in messages)


def render_hh(messages: Messages) -> str:
    """Return `\\n\\nHuman: …\\n\\nAssistant: …`; a system message comes first, bare.

    Turns that hold such a mark themselves get a space into it, so that a reader finds the right number of turns.
    """
    parts = []
    for message in messages:
        role = _HH_ROLES.get(message["role"])
        text = _HH_MARK.sub("\n \n", message["content"])
        parts.append(f"\n\n{role}: {text}" if role else text)
    return "".join(parts)


def append_turn(
    prompts: pa.ChunkedArray, answers: pa.ChunkedArray, thoughts: pa.ChunkedArray | None = None, key: str = ""
) -> pa.ListArray:
    """Return each conversation with the assistant's answer as its last turn (type MESSAGES_TYPE).

    Args:
        thoughts: before the answers; every turn then has a field `key`, null in those of the prompt. None: no field.
    """
    turns = prompts.combine_chunks()
    texts = answers.combine_chunks()
    lengths = turns.value_lengths().to_numpy()
    roles = pa.repeat(pa.scalar("assistant", pa.string()), len(texts))
    fields = list(MESSAGES_TYPE.value_type)
    added = pa.StructArray.from_arrays([roles, texts], fields=fields)
    flat = pa.concat_arrays([turns.flatten().cast(MESSAGES_TYPE.value_type), added])
    offsets = np.concatenate(([0], np.cumsum(lengths + 1)))
    # Row i takes its own turns, which stand one after the other in `flat`, then its answer from behind all turns.
    order = np.empty(offsets[-1], dtype=np.int64)
    last = offsets[1:] - 1
    order[last] = int(lengths.sum()) + np.arange(len(texts))
    order[np.setdiff1d(np.arange(len(order)), last, assume_unique=True)] = np.arange(int(lengths.sum()))
    whole = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat.take(pa.array(order)), type=MESSAGES_TYPE)
    if thoughts is None:
        return whole
    none = pa.nulls(int(lengths.sum()), pa.string())
    return extend_turns(whole, pa.concat_arrays([none, thoughts.combine_chunks()]).take(pa.array(order)), key)
