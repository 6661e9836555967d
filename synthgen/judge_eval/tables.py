"""Labelled pairs in, the tables of a run out: the ordinary judge stage judges them as it judges any completions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from synthgen.config.stage_names import name_generations
from synthgen.judge_eval.labelled import LabelledPair, LabelledSet
from synthgen.records import GENERATIONS_SCHEMA, PROMPTS_SCHEMA, Tables, dump_calls, extend_schema, stable_hex

GENERATOR = "labelled"
"""The generator that the texts seem to come from: A is its sample 0, B its sample 1."""


def to_unit_tables(labelled: LabelledSet | Sequence[LabelledPair]) -> Tables:
    """Return the tables `prompts` (a row per pair) and `generate-labelled` (two rows per pair: A, then B).

    Nothing in them tells which text is better, and the order in which the judge is shown them does not depend on it.

    Args:
        labelled: all pairs, or the part of them that makes a unit.
    """
    pairs = labelled.pairs if isinstance(labelled, LabelledSet) else labelled
    prompts: list[dict[str, Any]] = [
        {
            "prompt_id": make_pair_id(pair),
            "messages": list(pair.messages),
            "source": pair.subset,
            "source_row": row,
            "reference": None,
            "metadata": json.dumps({"id": pair.id, "subset": pair.subset}, ensure_ascii=False),
        }
        for row, pair in enumerate(pairs)
    ]
    texts = [
        {
            "prompt_id": make_pair_id(pair),
            "completion_id": completion_id,
            "generator": GENERATOR,
            "model": GENERATOR,
            "sample_index": sample_index,
            "seed": 0,
            "text": pair.texts[sample_index],
            "finish_reason": "stop",
        }
        for pair in pairs
        for sample_index, completion_id in enumerate(COMPLETION_IDS)
    ]
    calls = dump_calls([pair.messages for pair in pairs], [()] * len(pairs))
    for name, column in calls.items():
        for prompt, value in zip(prompts, column, strict=True):
            prompt[name] = value
    return {
        "prompts": pa.Table.from_pylist(prompts, schema=extend_schema(PROMPTS_SCHEMA, list(calls))),
        name_generations(GENERATOR): pa.Table.from_pylist(texts, schema=GENERATIONS_SCHEMA),
    }


COMPLETION_IDS = (f"{GENERATOR}:0", f"{GENERATOR}:1")


def make_pair_id(pair: LabelledPair) -> str:
    """Return the prompt_id of a pair: of its id, because sets hold several pairs for one prompt."""
    return stable_hex("labelled", pair.id, digits=20)
