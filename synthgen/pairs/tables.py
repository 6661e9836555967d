"""The rows of the data set's three configs, built column by column from the tables of the run."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.pairs.index import BoolArray, FloatArray, IntArray, combine
from synthgen.pairs.policies import BY_GENERATOR
from synthgen.pairs.ratings import SCORE_DECIMALS, Ratings
from synthgen.pairs.selection import Selection
from synthgen.records import (
    CALLS_OF,
    KTO_SCHEMA,
    MESSAGES_TYPE,
    PAIRS_SCHEMA,
    SCORED_GENERATIONS_SCHEMA,
    TOOL_CALLS_FIELD,
    count_answer_tokens,
    extend_generations,
    list_call_columns,
)


def build_pairs(
    prompts: pa.Table, generations: pa.Table, scores: FloatArray, selection: Selection, policy: str
) -> pa.Table:
    """Return PAIRS_SCHEMA, one row per selected pair, in the selection's order."""
    rows = len(selection.prompt)
    chosen, rejected = pa.array(selection.chosen), pa.array(selection.rejected)
    columns: dict[str, pa.Array | pa.ChunkedArray] = {
        **_take_prompts(prompts, selection.prompt),
        "pair_policy": _repeat(policy, rows),
        "pair_index": pa.array(selection.pair_index, pa.int32()),
        "score_margin": pa.array(
            np.round(scores[selection.chosen] - scores[selection.rejected], SCORE_DECIMALS), from_pandas=True
        ),
    }
    tokens = count_answer_tokens(generations)
    for side, index in (("chosen", chosen), ("rejected", rejected)):
        columns[side] = _make_turns(generations["text"].take(index))
        columns[f"{side}_score"] = pa.array(scores[index.to_numpy()], from_pandas=True)
        for name, column in _SIDE_COLUMNS.items():
            columns[f"{side}_{name}"] = generations[column].take(index)
        columns[f"{side}_tokens"] = tokens.take(index)
        if "reasoning" in generations.column_names:
            columns[f"{side}_reasoning"] = generations["reasoning"].take(index)
        if "tools" in columns:
            columns[f"{side}{CALLS_OF}"] = _align_calls(generations, index)
    schema = _extend(
        PAIRS_SCHEMA, columns, ("chosen_reasoning", "rejected_reasoning"), ("prompt", "chosen", "rejected")
    )
    return _assemble(columns, _without_scores(schema) if policy == BY_GENERATOR else schema)


def build_kto(
    prompts: pa.Table, generations: pa.Table, scores: FloatArray, prompt: IntArray, rows: IntArray, labels: BoolArray
) -> pa.Table:
    """Return KTO_SCHEMA for the completions `rows`, in that order; labels[i] is true where rows[i] is desirable."""
    index = pa.array(rows)
    columns: dict[str, pa.Array | pa.ChunkedArray] = {
        **_take_prompts(prompts, prompt[rows]),
        "completion": _make_turns(generations["text"].take(index)),
        "label": pa.array(labels, pa.bool_()),
        "score": pa.array(scores[rows]),
        "completion_tokens": count_answer_tokens(generations).take(index),
        **{name: generations[name].take(index) for name in ("model", "generator", "completion_id")},
    }
    if "reasoning" in generations.column_names:
        columns["reasoning"] = generations["reasoning"].take(index)
    if "tools" in columns:
        columns[f"completion{CALLS_OF}"] = _align_calls(generations, index)
    return _assemble(columns, _extend(KTO_SCHEMA, columns, ("reasoning",), ("prompt", "completion")))


def build_generations(
    prompts: pa.Table,
    generations: pa.Table,
    prompt: IntArray,
    judgements: pa.Table | None,
    ratings: Ratings | None,
    scores: pa.Array | None,
) -> pa.Table:
    """Return SCORED_GENERATIONS_SCHEMA, one row per row of `generations`, in its order; `score` is not filled in yet.

    Args:
        judgements, ratings: the judge's; None: there is none. scores: SCORES_TYPE, None: no column of all scorers.
    """
    columns: dict[str, pa.Array | pa.ChunkedArray] = {name: generations[name] for name in generations.column_names}
    columns["prompt"] = prompts["messages"].take(pa.array(prompt))
    columns |= _take_calls(prompts, pa.array(prompt))
    columns["score"] = pa.nulls(len(generations), pa.float64())
    if judgements is None or ratings is None:
        columns["judgements"] = pa.array([[]] * len(generations), SCORED_GENERATIONS_SCHEMA.field("judgements").type)
    else:
        columns["judgements"] = _nest_judgements(judgements, ratings, len(generations))
    if scores is not None:
        columns["scores"] = scores
    return _assemble(columns, extend_generations(list(columns)))


def fill_scores(generations: pa.Table, scores: FloatArray) -> pa.Table:
    """Return SCORED_GENERATIONS_SCHEMA with the scores by which pairs are made."""
    place = generations.schema.get_field_index("score")
    return generations.set_column(place, generations.schema.field("score"), pa.array(scores, from_pandas=True))


_SIDE_COLUMNS = {
    "model": "model",
    "generator": "generator",
    "completion_id": "completion_id",
}


_OF_REQUESTS = ("aspect", "repetition", "status", "judge_model", "raw_text")


def _nest_judgements(judgements: pa.Table, ratings: Ratings, completions: int) -> pa.ListArray:
    """Return per completion the list of its judgements, by aspect, then repetition, then judge request."""
    order = np.lexsort((ratings.judgement, ratings.repetition, ratings.aspect, ratings.completion))
    row = pa.array(ratings.judgement[order])
    counts = np.bincount(ratings.completion, minlength=completions)
    fields = list(SCORED_GENERATIONS_SCHEMA.field("judgements").type.value_type)
    rows = {name: judgements[name].take(row) for name in _OF_REQUESTS}
    rows["rating"] = pa.array(ratings.rating[order], from_pandas=True).cast(pa.int32())
    rows["expected"] = pa.array(ratings.expected[order], from_pandas=True)
    rows["rationale"] = ratings.rationale.take(pa.array(order))
    rows["slot"] = pa.array(ratings.slot[order], pa.int32())
    rows["place"] = pa.nulls(len(order), pa.float64()) if ratings.place is None else pa.array(ratings.place[order])
    values = pa.StructArray.from_arrays([combine(rows[field.name]) for field in fields], fields=fields)
    return pa.ListArray.from_arrays(pa.array(np.concatenate(([0], np.cumsum(counts))), pa.int32()), values)


def _take_prompts(prompts: pa.Table, prompt: IntArray) -> dict[str, pa.ChunkedArray]:
    index = pa.array(prompt)
    taken = {name: prompts[name].take(index) for name in ("prompt_id", "source", "metadata")}
    return {**taken, "prompt": prompts["messages"].take(index), **_take_calls(prompts, index)}


def _take_calls(prompts: pa.Table, index: pa.Array) -> dict[str, pa.ChunkedArray]:
    """Return what stands beside a prompt in runs with tools."""
    if "tools" not in prompts.column_names:
        return {}
    return {"tools": prompts["tools"].take(index), f"prompt{CALLS_OF}": prompts["calls"].take(index)}


def _align_calls(generations: pa.Table, index: pa.Array) -> pa.ChunkedArray:
    """Return what stands beside an answer's one turn."""
    calls = generations[TOOL_CALLS_FIELD.name].take(index)
    return pc.binary_join_element_wise('[{"tool_calls":', calls, "}]", "")


def _make_turns(text: pa.ChunkedArray) -> pa.ListArray:
    """Return each text as a conversation of one assistant turn."""
    turns = pa.StructArray.from_arrays(
        [_repeat("assistant", len(text)), combine(text)], fields=list(MESSAGES_TYPE.value_type)
    )
    return pa.ListArray.from_arrays(pa.array(np.arange(len(text) + 1), pa.int32()), turns, type=MESSAGES_TYPE)


def _repeat(value: str, rows: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.string()), rows)


def _extend(
    schema: pa.Schema,
    columns: dict[str, pa.Array | pa.ChunkedArray],
    thoughts: tuple[str, ...],
    conversations: tuple[str, ...],
) -> pa.Schema:
    """Return the schema with the columns of thoughts and of calls, where there are some."""
    more = [*[pa.field(name, pa.string()) for name in thoughts], *list_call_columns(*conversations)]
    return pa.schema([*schema, *[field for field in more if field.name in columns]])


def _without_scores(schema: pa.Schema) -> pa.Schema:
    """Return the schema of pairs that need no score: null where there is none."""
    names = ("chosen_score", "rejected_score", "score_margin")
    return pa.schema([field.with_nullable(True) if field.name in names else field for field in schema])


def _assemble(columns: dict[str, pa.Array | pa.ChunkedArray], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)
