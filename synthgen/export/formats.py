"""Optional exports (`export.formats`): the same pairs in the columns that other trainers and tools expect.

Each is one function from a block's tables to one table; its docstring names the columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config import Config, ExportColumns, ExportConfig, ExportReasoning
from synthgen.export.calls import TURNS_TYPE, has_calls, join_turn_calls, write_openai
from synthgen.export.sharegpt import SHAREGPT_TYPE, TURN_TYPE, align_turns, name_turns
from synthgen.export.thoughts import bare_turns, read_thoughts
from synthgen.export.transcripts import append_turn, render_hh, render_text
from synthgen.pairs import UnitPairs
from synthgen.pairs.eligibility import find_faults, find_whole
from synthgen.records import CALLS_OF, MESSAGES_TYPE


def make_sft(block: UnitPairs, config: Config) -> pa.Table:
    """Return the best completion of each prompt, for supervised fine-tuning: prompt_id, messages (prompt and
    completion), model, generator, completion_id, score.

    The best is the best-scored of those that the model ended itself and that may be chosen (not empty, no refusal); of
    equals the first.
    """
    best = _take_best(block, config)
    names = ("prompt_id", "model", "generator", "completion_id", "score")
    columns = {name: best[name] for name in names}
    inline = config.export.reasoning is ExportReasoning.inline
    thoughts = best["reasoning"] if inline else None
    messages = append_turn(best["prompt"], best["text"], thoughts, config.export.reasoning_key)
    if has_calls(best):
        answers = pc.binary_join_element_wise('[{"tool_calls":', best["tool_calls"], "}]", "")
        columns["tools"] = best["tools"]
        columns[f"messages{CALLS_OF}"] = join_turn_calls(best["prompt"], best[f"prompt{CALLS_OF}"], answers)
    return pa.table({"prompt_id": columns.pop("prompt_id"), "messages": messages, **columns})


def make_sharegpt_sft(block: UnitPairs, config: Config) -> pa.Table:
    """Return the rows of `sft` in ShareGPT's form: prompt_id, conversations (turns of `from` and `value` that
    alternate: see `align_turns`), score."""
    best = _take_best(block, config)
    whole: list[Any] = append_turn(_align(best["prompt"]), best["text"]).to_pylist()
    return pa.table(
        {
            "prompt_id": best["prompt_id"],
            "conversations": pa.array([name_turns(messages) for messages in whole], SHAREGPT_TYPE),
            "score": best["score"],
        }
    )


def _take_best(block: UnitPairs, config: Config) -> pa.Table:
    """The rows of `generations` that `make_sft` describes."""
    table = block.generations
    score = table["score"].to_numpy()
    usable = find_whole(table, cut_off=False) & (find_faults(table, config.pairs.drop_refusals) < 0) & ~np.isnan(score)
    rows = np.flatnonzero(usable)
    prompt = pc.rank(table["prompt_id"], tiebreaker="min").to_numpy()[rows]
    order = rows[np.lexsort((rows, -score[rows], prompt))]
    first = np.flatnonzero(np.diff(np.sort(prompt), prepend=0))
    return table.take(pa.array(order[first]))


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
    """Return the pairs in the columns of argilla/ultrafeedback-binarized-preferences-cleaned: source, instruction (the
    prompt as text), chosen and rejected (messages with the prompt), and the rating and model of each.

    The text is not called `prompt` as it is there: TRL 1.16 takes `prompt` for the one of `chosen` and `rejected`, and
    stops at a text beside messages.
    """
    pairs = block.pairs
    columns: dict[str, Any] = {"source": pairs["source"], "instruction": _render(pairs, render_text)}
    for side in ("chosen", "rejected"):
        columns[side] = append_turn(pairs["prompt"], _read_answers(pairs[side]))
        columns[f"{side}-rating"] = pairs[f"{side}_score"]
        columns[f"{side}-model"] = pairs[f"{side}_model"]
    return pa.table(columns)


def make_conversations(block: UnitPairs, config: Config) -> pa.Table:
    """Return the pairs as two whole conversations each: prompt_id, chosen, rejected (prompt and completion), both
    scores. The form of trainers that take all turns of `chosen` but the last one for the prompt."""
    pairs = block.pairs
    return pa.table(
        {
            "prompt_id": pairs["prompt_id"],
            **{side: _append(pairs["prompt"], pairs[side], config) for side in ("chosen", "rejected")},
            **{name: pairs[name] for name in ("chosen_score", "rejected_score")},
            **_join_calls(pairs),
        }
    )


def make_kto_conversations(block: UnitPairs, config: Config) -> pa.Table:
    """Return the KTO rows as whole conversations: prompt_id, completion (prompt and completion, in turns that
    alternate: see `align_turns`), label, score."""
    kto = block.kto
    whole = _append(_align(kto["prompt"]), kto["completion"], config)
    return pa.table({"prompt_id": kto["prompt_id"], "completion": whole, "label": kto["label"], "score": kto["score"]})


def make_sharegpt(block: UnitPairs, config: Config) -> pa.Table:
    """Return the pairs in ShareGPT's form: prompt_id, conversations (turns of `from` and `value`), chosen, rejected
    (one turn each), both scores. Turns alternate (see `align_turns`)."""
    pairs = block.pairs
    prompts: list[Any] = pairs["prompt"].to_pylist()
    sides = {}
    for side in ("chosen", "rejected"):
        texts = _read_answers(pairs[side]).combine_chunks()
        names = pa.repeat(pa.scalar("gpt", pa.string()), len(texts))
        sides[side] = pa.StructArray.from_arrays([names, texts], fields=list(TURN_TYPE))
    return pa.table(
        {
            "prompt_id": pairs["prompt_id"],
            "conversations": pa.array([name_turns(align_turns(messages)) for messages in prompts], SHAREGPT_TYPE),
            **sides,
            **{name: pairs[name] for name in ("chosen_score", "rejected_score")},
        }
    )


def make_ranked(block: UnitPairs, config: Config) -> pa.Table:
    """Return the pairs as NeMo-RL's preference data: prompt_id, context (messages), completions (two of rank and
    completion; rank 0 is the better one)."""
    pairs = block.pairs
    sides = [pairs[side].combine_chunks().cast(pairs["chosen"].type) for side in ("chosen", "rejected")]
    ranks = [pa.repeat(pa.scalar(rank, pa.int64()), pairs.num_rows) for rank in range(2)]
    entries = [
        pa.StructArray.from_arrays([rank, side], names=["rank", "completion"])
        for rank, side in zip(ranks, sides, strict=True)
    ]
    order = np.arange(2 * pairs.num_rows).reshape(2, -1).T.ravel()  # row i: its better entry, then its worse one
    offsets = pa.array(np.arange(pairs.num_rows + 1) * 2, pa.int32())
    flat = pa.concat_arrays(entries).take(pa.array(order))
    return pa.table(
        {
            "prompt_id": pairs["prompt_id"],
            "context": pairs["prompt"],
            "completions": pa.ListArray.from_arrays(offsets, flat),
        }
    )


def make_jsonl(block: UnitPairs, config: Config) -> pa.Table:
    """Return the pairs as OpenAI's preference fine-tuning takes them (written as JSON lines): input.messages,
    preferred_output, non_preferred_output."""
    pairs = block.pairs
    if has_calls(pairs):
        return _make_jsonl_calls(pairs, config)
    prompts = pairs["prompt"].combine_chunks().cast(MESSAGES_TYPE)
    return pa.table(
        {
            "input": pa.StructArray.from_arrays([prompts], names=["messages"]),
            "preferred_output": bare_turns(pairs["chosen"], config.export.reasoning_key),
            "non_preferred_output": bare_turns(pairs["rejected"], config.export.reasoning_key),
        }
    )


def _make_jsonl_calls(pairs: pa.Table, config: Config) -> pa.Table:
    """Return the rows of `jsonl` with the tools, and calls in OpenAI's form: arguments as text, an id for each."""
    prompts = zip(pairs["prompt"].to_pylist(), pairs[f"prompt{CALLS_OF}"].to_pylist(), strict=True)
    messages = [write_openai(turns, calls) for turns, calls in prompts]
    tools = pairs["tools"].combine_chunks().cast(pa.json_())
    columns: dict[str, pa.Array] = {
        "input": pa.StructArray.from_arrays(
            [pa.array(messages, pa.list_(pa.string())).cast(TURNS_TYPE), tools], names=["messages", "tools"]
        )
    }
    for side, name in (("chosen", "preferred_output"), ("rejected", "non_preferred_output")):
        turns = bare_turns(pairs[side], config.export.reasoning_key).to_pylist()
        answers = zip(turns, pairs[f"{side}{CALLS_OF}"].to_pylist(), strict=True)
        written = pa.array([write_openai(one, calls) for one, calls in answers], pa.list_(pa.string()))
        columns[name] = written.cast(TURNS_TYPE)
    return pa.table(columns)


FORMATS: dict[str, Callable[[UnitPairs, Config], pa.Table]] = {
    "sft": make_sft,
    "text": make_text,
    "hh": make_hh,
    "ultrafeedback": make_ultrafeedback,
    "conversations": make_conversations,
    "kto_conversations": make_kto_conversations,
    "sharegpt": make_sharegpt,
    "sharegpt_sft": make_sharegpt_sft,
    "ranked": make_ranked,
    "jsonl": make_jsonl,
}
"""Export by the name in `export.formats`, which is also its config and its directory."""

TAKE_CALLS = frozenset({"sft", "conversations", "jsonl"})
"""Formats whose turns can call tools; those of the others have calls in their text."""

MINIMAL = {
    "default": ("prompt", "chosen", "rejected"),
    "kto": ("prompt", "completion", "label"),
    "sft": ("messages",),
    "text": ("prompt", "chosen", "rejected"),
    "ultrafeedback": ("instruction", "chosen", "rejected"),
    "conversations": ("chosen", "rejected"),
    "kto_conversations": ("completion", "label"),
    "sharegpt": ("conversations", "chosen", "rejected"),
    "sharegpt_sft": ("conversations",),
    "ranked": ("context", "completions"),
}
"""What `export.columns=minimal` leaves of each config; one that is not here keeps all: it has no others (hh, jsonl), or
is no trainer's but the record of the run (generations)."""


def select_columns(config: str, table: pa.Table, export: ExportConfig) -> pa.Table:
    """Return a config's table with the columns that `export.columns` and `export.keep_columns` ask for."""
    wanted = MINIMAL.get(config)
    if export.columns is ExportColumns.all or wanted is None:
        return table
    thoughts = [name for name in ("chosen_reasoning", "rejected_reasoning", "reasoning") if name in table.column_names]
    kept = [name for name in export.keep_columns if name in table.column_names]
    tools = [name for name in table.column_names if name == "tools" or name.endswith(CALLS_OF)]
    return table.select([*wanted, *thoughts, *dict.fromkeys([*tools, *kept])])


def _append(prompts: pa.ChunkedArray, turns: pa.ChunkedArray, config: Config) -> pa.ListArray:
    key = config.export.reasoning_key
    return append_turn(prompts, _read_answers(turns), read_thoughts(turns, key), key)


def _join_calls(pairs: pa.Table) -> dict[str, Any]:
    """Return the columns beside whole conversations where the run has tools."""
    if not has_calls(pairs):
        return {}
    sides = {
        f"{side}{CALLS_OF}": join_turn_calls(pairs["prompt"], pairs[f"prompt{CALLS_OF}"], pairs[f"{side}{CALLS_OF}"])
        for side in ("chosen", "rejected")
    }
    return {"tools": pairs["tools"], **sides}


def _render(pairs: pa.Table, render: Callable[[Any], str]) -> pa.Array:
    prompts: list[Any] = pairs["prompt"].to_pylist()
    return pa.array([render(messages) for messages in prompts], pa.string())


def _align(prompts: pa.ChunkedArray) -> pa.ChunkedArray:
    listed: list[Any] = prompts.to_pylist()
    return pa.chunked_array([pa.array([align_turns(messages) for messages in listed], MESSAGES_TYPE)])


def _render_answers(turns: pa.ChunkedArray) -> pa.Array:
    answers: list[Any] = turns.to_pylist()
    return pa.array([render_hh(messages) for messages in answers], pa.string())


def _read_answers(turns: pa.ChunkedArray) -> pa.ChunkedArray:
    """The text of columns that hold one assistant turn each."""
    return pc.struct_field(pc.list_flatten(turns), "content")
