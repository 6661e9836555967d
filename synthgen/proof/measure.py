"""The answers' tables in, what changed out: figures of every scorer, lengths, refusals, and what got worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config import Config
from synthgen.config.stage_names import JUDGE, OTHER_JUDGE, SIDE, name_generations, name_scores
from synthgen.pairs import score_unit
from synthgen.pairs.refusals import find_refusals
from synthgen.proof.answers import AFTER, BEFORE, CONTROL
from synthgen.proof.settings import ProofSettings, is_rate
from synthgen.proof.statistics import Difference, compare, control_length, control_wins
from synthgen.records import count_answer_tokens

FloatArray = npt.NDArray[np.float64]
TRAITS = ("tokens", "refusals", "cut off", "no answer")
"""What is told of answers beside scores: their mean length, and shares."""
WORSE_WHEN = {"refusals": 1, "cut off": 1, "no answer": 1, SIDE: -1}
"""Which side of 0 is the bad one; a length is told and not judged."""


@dataclass(frozen=True)
class Answers:
    """All answers, a row each, aligned: of every generator to every prompt.

    Attributes:
        prompt: number of the prompt. generator: its name.
        values: by scorer; NaN without one. traits: by TRAITS.
    """

    prompt: npt.NDArray[np.int64]
    generator: npt.NDArray[np.str_]
    values: Mapping[str, FloatArray]
    traits: Mapping[str, FloatArray]
    texts: Sequence[str | None]

    def by_prompt(self, values: FloatArray, generator: str, prompts: int) -> FloatArray:
        """Return the mean per prompt of a generator's values; NaN where it has none."""
        mine = (self.generator == generator) & ~np.isnan(values)
        count = np.bincount(self.prompt[mine], minlength=prompts)
        total = np.bincount(self.prompt[mine], weights=values[mine], minlength=prompts)
        means = np.full(prompts, np.nan)
        np.divide(total, count, out=means, where=count > 0)
        return means


def gather(tables: Mapping[str, pa.Table], config: Config, prompt_ids: Sequence[str]) -> Answers:
    """Return the answers of all generators of `config`, with what every scorer gave them.

    Args:
        tables: all units' tables by stage. prompt_ids: numbers prompts.
    """
    parts = [tables[name_generations(name)] for name in config.generators]
    names = ("prompt_id", "completion_id", "generator", "text", "finish_reason", "error")
    answers = pa.concat_tables([part.select(names) for part in parts])
    tokens = pa.chunked_array([chunk for part in parts for chunk in count_answer_tokens(part).chunks], pa.int32())
    place = {prompt_id: number for number, prompt_id in enumerate(prompt_ids)}
    keys = list(zip(answers["prompt_id"].to_pylist(), answers["completion_id"].to_pylist(), strict=True))
    row = {key: number for number, key in enumerate(keys)}
    values = {}
    for name in config.scorers:
        found = _align(tables[name_scores(name)], "value", row)
        one = {**config.scorers, **config.prove.scorers}[name]
        values[name] = np.where(np.isnan(found), np.nan, found >= one.threshold) if is_rate(config, name) else found
    for name, judge in ((JUDGE, config.judge), (OTHER_JUDGE, config.prove.judge)):
        if name in tables:
            values[name] = _align(score_unit(_all(parts), tables[name], judge.expected), "score", row)
    whole = pc.and_(answers["error"].is_null(), answers["text"].is_valid())
    return Answers(
        prompt=np.array([place[prompt_id] for prompt_id, _ in keys], np.int64),
        generator=np.array(answers["generator"].to_pylist()),
        values=values,
        traits={
            "tokens": _numbers(tokens),
            "refusals": _shares(find_refusals(answers["text"])),
            "cut off": _shares(pc.equal(answers["finish_reason"], "length")),
            "no answer": 1.0 - np.asarray(pc.fill_null(whole, False).to_numpy(), np.float64),
        },
        texts=answers["text"].to_pylist(),
    )


def measure(answers: Answers, prompts: Sequence[int], total: int, settings: ProofSettings) -> dict[str, Any]:
    """Return what changed on some prompts: by scorer and trait, after and control against before, and over the control.

    Args:
        prompts: numbers of the prompts that count. total: how many there are in all.
    """
    figures: dict[str, Any] = {"scorers": {}, "traits": {}, "prompts": len(prompts)}
    chosen = np.asarray(prompts, np.int64)
    longer = _log_ratio(answers, chosen, total)
    for kind, measured in (("scorers", answers.values), ("traits", answers.traits)):
        for name, values in measured.items():
            means = {one: answers.by_prompt(values, one, total)[chosen] for one in (BEFORE, AFTER, CONTROL)}
            changes = compare_all(means)
            if changes["effect"] is None:
                continue
            entry = {key: None if one is None else one.to_dict() for key, one in changes.items()}
            if name in (JUDGE, OTHER_JUDGE):
                change = means[AFTER] - means[BEFORE]
                equal = control_length(change, longer)
                entry["at_equal_length"] = None if equal is None else equal.to_dict()
                entry["win_rate"] = control_wins(change, longer)
            figures[kind][name] = entry
    return figures


def compare_all(means: Mapping[str, FloatArray]) -> dict[str, Difference | None]:
    """Return `effect` (after minus before), `control` (control minus before), `over_control` (after minus control)."""
    return {
        "effect": compare(means[BEFORE], means[AFTER]),
        "control": compare(means[BEFORE], means[CONTROL]),
        "over_control": compare(means[CONTROL], means[AFTER]),
    }


def read_difference(entry: Mapping[str, Any] | None, key: str) -> Difference | None:
    """Return a difference of `measure`'s figures again."""
    found = (entry or {}).get(key)
    return Difference(**found) if found else None


def _align(table: pa.Table, column: str, row: Mapping[tuple[str, str], int]) -> FloatArray:
    found = np.full(len(row), np.nan)
    for prompt_id, completion_id, value in zip(
        *(table[name].to_pylist() for name in ("prompt_id", "completion_id", column)), strict=True
    ):
        number = row.get((prompt_id, completion_id))
        if number is not None and value is not None:
            found[number] = value
    return found


def _all(parts: Sequence[pa.Table]) -> pa.Table:
    names = [name for name in parts[0].column_names if all(name in part.column_names for part in parts)]
    return pa.concat_tables([part.select(names) for part in parts])


def _numbers(column: pa.ChunkedArray) -> FloatArray:
    return np.asarray(pc.fill_null(column.cast(pa.float64()), float("nan")).to_numpy(), np.float64)


def _shares(column: pa.ChunkedArray) -> FloatArray:
    """True as 1, False as 0, null as NaN."""
    return _numbers(column.cast(pa.int8()))


def _log_ratio(answers: Answers, chosen: npt.NDArray[np.int64], total: int) -> FloatArray:
    before = answers.by_prompt(answers.traits["tokens"], BEFORE, total)[chosen]
    after = answers.by_prompt(answers.traits["tokens"], AFTER, total)[chosen]
    return np.asarray(np.log1p(after) - np.log1p(before), np.float64)
