"""What a run's scorers say, and how far they agree: a block of completions at a time in, the report's part out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.pairs.index import FloatArray, combine, find_in
from synthgen.trust.comparisons import TIE, list_comparisons
from synthgen.trust.intervals import make_blocks, ratio_interval, share_interval, sum_blocks

IntArray = npt.NDArray[np.int64]

EXAMPLES = 10
"""Flips that are listed."""
BINS = 10
"""Bins of a histogram of a scorer that gives more than so many different values."""


class ScorerStats:
    """Collects the column `scores` of `generations` (SCORES_TYPE), and says what is in it.

    A number per completion and scorer is kept in memory, and no text.

    Args:
        of_prompts: names of the scorers that look at prompts: each prompt counts once, and agrees with nothing.
    """

    def __init__(self, of_prompts: Collection[str] = ()) -> None:
        self._of_prompts = frozenset(of_prompts)
        self._prompts = 0
        self._characters: list[FloatArray] = []
        self._ids: list[pa.Table] = []
        self._prompt: list[IntArray] = []
        self._values: dict[str, list[FloatArray]] = {}
        self._verdicts: dict[str, list[FloatArray]] = {}
        self._reasons: dict[str, Counter[str]] = {}

    def add(self, generations: pa.Table) -> None:
        """Take completions whose prompts are in no other table; each has an entry of every scorer, in one order."""
        if "scores" not in generations.column_names or not len(generations):
            return
        ids = combine(generations["prompt_id"])
        known = pc.unique(ids)
        self._prompt.append(find_in(ids, known).astype(np.int64) + self._prompts)
        self._prompts += len(known)
        self._characters.append(_floats(combine(pc.utf8_length(generations["text"]).cast(pa.float64()))))
        self._ids.append(generations.select(["prompt_id", "completion_id"]))
        flat = pc.list_flatten(combine(generations["scores"]))
        names = pc.struct_field(flat, "scorer")
        for name in pc.unique(names).to_pylist():
            mine = flat.filter(pc.equal(names, name))
            self._values.setdefault(name, []).append(_floats(pc.struct_field(mine, "value")))
            self._verdicts.setdefault(name, []).append(_floats(pc.struct_field(mine, "verdict").cast(pa.float64())))
            reasons = pc.struct_field(mine, "reason")
            if name in self._of_prompts:
                reasons = reasons.take(pc.index_in(known, value_set=ids))
            self._reasons.setdefault(name, Counter()).update(reasons.drop_null().to_pylist())

    def describe(self, seed: int, recorded: Sequence[str] = ()) -> dict[str, Any]:
        """Return `scorers` (by name), `scorer_agreement` and `flips` of the report; empty where only the judge scores.

        Args:
            seed: of resampling (`run.seed`). recorded: names of the scorers that are choices made before.
        """
        if not self._values:
            return {}
        prompt = np.concatenate(self._prompt)
        order = np.argsort(prompt, kind="stable")
        prompt = prompt[order]
        values = {name: np.concatenate(parts)[order] for name, parts in self._values.items()}
        verdicts = {name: np.concatenate(parts)[order] for name, parts in self._verdicts.items()}
        blocks = make_blocks(self._prompts, seed)
        left, right = (side.astype(np.int64) for side in list_comparisons(prompt, seed))
        flips = [
            {"recorded": one, "scorer": other}
            | _measure_flips(values[one], values[other], np.concatenate(self._characters)[order], left, right)
            for one in recorded
            for other in values
            if other not in recorded and other not in self._of_prompts
        ]
        for entry in flips:
            entry["examples"] = [self._name(order, *rows) for rows in entry["examples"]]
        return {
            **({"flips": flips} if flips else {}),
            "scorers": {
                name: self._describe_one(name, values[name], verdicts[name], prompt, blocks) for name in values
            },
            "scorer_agreement": [
                {"scorer": one, "other": other}
                | _compare(values[one], values[other], prompt, self._prompts, left, right, blocks)
                for one, other in combinations([name for name in values if name not in self._of_prompts], 2)
            ],
        }

    def _describe_one(
        self, name: str, values: FloatArray, verdicts: FloatArray, prompt: IntArray, blocks: IntArray
    ) -> dict[str, Any]:
        if name not in self._of_prompts:
            return _describe(values, verdicts, self._reasons[name], blocks[prompt])
        first = np.flatnonzero(np.diff(prompt, prepend=-1))
        found = _describe(values[first], verdicts[first], self._reasons[name], blocks[prompt[first]])
        return {"prompts": found.pop("completions"), **found}

    def _name(self, order: npt.NDArray[Any], chosen: int, rejected: int, margin: float) -> dict[str, Any]:
        ids = pa.concat_tables(self._ids)
        one, other = (ids.slice(int(order[row]), 1).to_pylist()[0] for row in (chosen, rejected))
        return {
            "prompt_id": one["prompt_id"],
            "recorded_chosen": one["completion_id"],
            "recorded_rejected": other["completion_id"],
            "margin": round(margin, 6),
        }


def _measure_flips(
    recorded: FloatArray, other: FloatArray, characters: FloatArray, left: IntArray, right: IntArray
) -> dict[str, Any]:
    """Return how often a scorer prefers what was recorded as the worse of two completions of a prompt.

    `by_margin`: thirds of |difference| by the scorer, the narrowest first. `by_length`: whether the recorded choice is
    the longer text, in characters. `examples`: (chosen, rejected, margin) of the widest, as rows.
    """
    with np.errstate(invalid="ignore"):
        swap = recorded[left] < recorded[right]
        differs = np.abs(recorded[left] - recorded[right]) >= TIE
    chosen, rejected = np.where(swap, right, left)[differs], np.where(swap, left, right)[differs]
    margin = other[chosen] - other[rejected]
    known = ~np.isnan(margin)
    told = known & (np.abs(margin) >= TIE)
    chosen, rejected, apart = chosen[told], rejected[told], margin[told]
    flipped = apart < 0
    edges = np.quantile(np.abs(apart), [0, 1 / 3, 2 / 3, 1]) if len(apart) else np.empty(0)
    third = np.clip(np.searchsorted(edges[1:-1], np.abs(apart), side="left"), 0, 2) if len(apart) else np.empty(0)
    longer = characters[chosen] > characters[rejected]
    widest = np.flatnonzero(flipped)[np.argsort(apart[flipped], kind="stable")][:EXAMPLES]
    return {
        **_rate(flipped),
        "ties": int((known & ~told).sum()),
        "by_margin": [
            {"from": float(edges[i]), "to": float(edges[i + 1]), **_rate(flipped[third == i])} for i in range(3)
        ]
        if len(apart)
        else [],
        "by_length": {"chosen_longer": _rate(flipped[longer]), "chosen_not_longer": _rate(flipped[~longer])},
        "examples": [(int(chosen[i]), int(rejected[i]), float(-apart[i])) for i in widest],
    }


def _rate(flipped: npt.NDArray[np.bool_]) -> dict[str, Any]:
    return {"comparisons": len(flipped), "flip_rate": float(flipped.mean()) if len(flipped) else None}


def _describe(values: FloatArray, verdicts: FloatArray, reasons: Mapping[str, int], block: IntArray) -> dict[str, Any]:
    """Return a scorer's distribution, what passed (95% interval, over prompts), and why it was silent."""
    known = values[~np.isnan(values)]
    judged = ~np.isnan(verdicts)
    passed = judged & (verdicts > 0)
    interval = share_interval(sum_blocks(passed, block), sum_blocks(judged, block))
    return {
        "completions": len(values),
        "values": len(known),
        "mean": float(known.mean()) if len(known) else None,
        "sd": float(known.std()) if len(known) else None,
        "min": float(known.min()) if len(known) else None,
        "max": float(known.max()) if len(known) else None,
        "passed": int(passed.sum()),
        "failed": int((judged & ~passed).sum()),
        "pass_rate": float(passed.sum() / judged.sum()) if judged.any() else None,
        "pass_interval": interval and list(interval),
        "no_value": dict(sorted(reasons.items())),
        "histogram": _count(known),
    }


def _compare(
    one: FloatArray,
    other: FloatArray,
    prompt: IntArray,
    prompts: int,
    left: IntArray,
    right: IntArray,
    blocks: IntArray,
) -> dict[str, Any]:
    """Return how two scorers order the completions of a prompt.

    flip_rate = P(sign(d) = -sign(d') | d ≠ 0, d' ≠ 0) for the differences d, d' of two completions by each; 0.5 is what
    a coin gives. spearman = mean over prompts of the correlation of the ranks within the prompt, ties sharing their
    mean rank (Spearman 1904), where both scorers tell completions apart. Intervals: 95%, over prompts.
    """
    with np.errstate(invalid="ignore"):
        d, e = one[left] - one[right], other[left] - other[right]
        strict = (np.abs(d) >= TIE) & (np.abs(e) >= TIE)  # NaN, no value, is neither
    flips = strict & (np.sign(d) != np.sign(e))
    block = blocks[prompt[left]]
    interval = share_interval(sum_blocks(flips, block), sum_blocks(strict, block))
    rho = _rank_correlations(one, other, prompt, prompts)
    told = ~np.isnan(rho)
    rho_interval = ratio_interval(sum_blocks(np.where(told, rho, 0.0), blocks), sum_blocks(told, blocks))
    return {
        "comparisons": int(strict.sum()),
        "flip_rate": float(flips.sum() / strict.sum()) if strict.any() else None,
        "flip_interval": interval and list(interval),
        "prompts": int(told.sum()),
        "spearman": float(rho[told].mean()) if told.any() else None,
        "spearman_interval": rho_interval and list(rho_interval),
    }


def compare_scores(one: FloatArray, other: FloatArray, prompt: IntArray, seed: int = 0) -> dict[str, Any]:
    """Return how two scorings of the same completions order those of a prompt, as `scorer_agreement` has it.

    Args:
        one, other: scores by completion. prompt: its number, from 0 up; completions of a prompt stand together.
    """
    prompts = int(prompt.max(initial=-1)) + 1
    left, right = (side.astype(np.int64) for side in list_comparisons(prompt, seed))
    return _compare(one, other, prompt, prompts, left, right, make_blocks(prompts, seed))


def _rank_correlations(one: FloatArray, other: FloatArray, prompt: IntArray, prompts: int) -> FloatArray:
    """Return Spearman's rho of each prompt over the completions that both gave a value; NaN where it cannot be told."""
    import polars as pl

    both = ~np.isnan(one) & ~np.isnan(other)
    frame = pl.DataFrame({"prompt": prompt[both], "one": one[both], "other": other[both]})
    ranks = frame.with_columns(pl.col("one", "other").rank("average").over("prompt"))
    found = ranks.group_by("prompt").agg(
        rho=pl.when((pl.col("one").std() > 0) & (pl.col("other").std() > 0)).then(pl.corr("one", "other"))
    )
    rho = np.full(prompts, np.nan)
    rho[found["prompt"].to_numpy()] = found["rho"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return rho


def _count(values: FloatArray) -> dict[str, Any]:
    """Return a histogram as the report has them: by value where there are few, else in BINS equal bins."""
    different, counts = np.unique(values, return_counts=True)
    if len(different) <= BINS:
        return {f"{value:g}": int(count) for value, count in zip(different, counts, strict=True)}
    counts, edges = np.histogram(values, BINS)
    return {"edges": edges.tolist(), "counts": counts.tolist()}


def _floats(column: pa.Array) -> FloatArray:
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)
