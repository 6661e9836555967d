"""Optional exports (`export.formats`): the same pairs in the columns that other trainers and tools expect.

Each is one function from a block's tables to one table; its docstring names the columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config import Config
from synthgen.export.transcripts import append_turn, render_hh, render_text
from synthgen.pairs import UnitPairs
from synthgen.pairs.eligibility import find_faults
from synthgen.records import MESSAGES_TYPE


def make_sft(block: UnitPairs, config: Config) -> pa.Table:
    """Return the best completion of each prompt, for supervised fine-tuning: prompt_id, messages (prompt and
    completion), model, generator, completion_id, score.

    The best is the best-scored of those that may be chosen (not cut off, empty or a refusal); of equals the first.
    """
    table = block.generations
    score = table["score"].to_numpy()
    usable = (find_faults(table, config.pairs.drop_refusals) < 0) & ~np.isnan(score)
    rows = np.flatnonzero(usable)
    prompt = pc.rank(table["prompt_id"], tiebreaker="min").to_numpy()[rows]
    order = rows[np.lexsort((rows, -score[rows], prompt))]
    first = np.flatnonzero(np.diff(np.sort(prompt), prepend=0))
    best = table.take(pa.array(order[first]))
    names = ("prompt_id", "model", "generator", "completion_id", "score")
    columns = {name: best[name] for name in names}
    messages = append_turn(best["prompt"], best["text"])
    return pa.table({"prompt_id": columns.pop("prompt_id"), "messages": messages, **columns})


def make_text(block: UnitPairs, config: Config) -> pa.Table:
    """Return the pairs as plain text: prompt_id, prompt, chosen, rejected, chosen_score, rejected_score.

    A prompt of one user turn is its text; a longer conversation is a transcript with the role before each turn.
    """
    pairs = block.pairs
    return pa.table(
        {
            "prompt_id": pairs["prompt_id"],
            "prompt": _render(pairs, render_text),
            "chosen": _read_answers(pairs["chosen"]),
            "rejected": _read_answers(pairs["rejected"]),
            "chosen_score": pairs["chosen_score"],
            "rejected_score": pairs["rejected_score"],
        }
    )


def make_hh(block: UnitPairs, config: Config) -> pa.Table:
    """Return the pairs as Anthropic/hh-rlhf has them: chosen, rejected, each the whole conversation as one text with
    `Human:` and `Assistant:` before the turns."""
    pairs = block.pairs
    prompts = _render(pairs, render_hh)
    return pa.table(
        {
            side: pc.binary_join_element_wise(prompts, _render_answers(pairs[side]), "")
            for side in ("chosen", "rejected")
        }
    )


def make_ultrafeedback(block: UnitPairs, config: Config) -> pa.Table:
    """Return the pairs in the columns of argilla/ultrafeedback-binarized-preferences-cleaned: source, prompt (text),
    chosen and rejected (messages with the prompt), and the rating and model of each."""
    pairs = block.pairs
    columns: dict[str, Any] = {"source": pairs["source"], "prompt": _render(pairs, render_text)}
    for side in ("chosen", "rejected"):
        columns[side] = append_turn(pairs["prompt"], _read_answers(pairs[side]))
        columns[f"{side}-rating"] = pairs[f"{side}_score"]
        columns[f"{side}-model"] = pairs[f"{side}_model"]
    return pa.table(columns)


def make_jsonl(block: UnitPairs, config: Config) -> pa.Table:
    """Return the pairs as OpenAI's preference fine-tuning takes them (written as JSON lines): input.messages,
    preferred_output, non_preferred_output."""
    pairs = block.pairs
    prompts = pairs["prompt"].combine_chunks().cast(MESSAGES_TYPE)
    return pa.table(
        {
            "input": pa.StructArray.from_arrays([prompts], names=["messages"]),
            "preferred_output": pairs["chosen"],
            "non_preferred_output": pairs["rejected"],
        }
    )


FORMATS: dict[str, Callable[[UnitPairs, Config], pa.Table]] = {
    "sft": make_sft,
    "text": make_text,
    "hh": make_hh,
    "ultrafeedback": make_ultrafeedback,
    "jsonl": make_jsonl,
}
"""Export by the name in `export.formats`, which is also its config and its directory."""


def _render(pairs: pa.Table, render: Callable[[Any], str]) -> pa.Array:
    prompts: list[Any] = pairs["prompt"].to_pylist()
    return pa.array([render(messages) for messages in prompts], pa.string())


def _render_answers(turns: pa.ChunkedArray) -> pa.Array:
    answers: list[Any] = turns.to_pylist()
    return pa.array([render_hh(messages) for messages in answers], pa.string())


def _read_answers(turns: pa.ChunkedArray) -> pa.ChunkedArray:
    """The text of columns that hold one assistant turn each."""
    return pc.struct_field(pc.list_flatten(turns), "content")
