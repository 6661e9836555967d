"""Judgements in, what a place in the prompt adds to a rating out; and ratings without it.

A judge may rate what it is shown first, or last, higher than the same text elsewhere. The order is drawn, so what a
place adds shows as the mean of the ratings given there, and can be taken out of every rating at no cost in tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.pairs.index import FloatArray, IntArray, index_completions
from synthgen.pairs.ratings import Ratings, drop_canaries, flatten_ratings

CHANCE = 0.05
"""What chance alone would show in one run of twenty is not taken out: a judge without a liking keeps its ratings."""

_LEAST_NOISE = 1e-4
"""Least share of the noise in the variance of a text's ratings: what is asked for twice must not outweigh all else."""


@dataclass(frozen=True, slots=True)
class PlaceEffects:
    """What each place adds, in rating points; 0 on average over the places of a request.

    Attributes:
        points: (aspect, number of texts shown together) → what place 0, 1, … adds. Absent: nothing is taken out.
        measured: the same before it was held against chance and shrunk, for the report.
    """

    points: Mapping[tuple[str, int], FloatArray] = field(default_factory=dict)
    measured: Mapping[tuple[str, int], FloatArray] = field(default_factory=dict)


def estimate_place(judgements: pa.Table, use_expected: bool) -> PlaceEffects:
    """Return what each place adds, per aspect and number of texts shown together.

    rating = level of the request + text + place + noise, by least squares, texts as random effects: a text's ratings in
    several orders tell the place by their differences, and where these say nothing the texts of other places stand
    against each other. (Random-effects estimator, by quasi-demeaning with θ = 1 - √(σ² / (σ² + K·σ_t²)), K ratings of a
    text, noise variance σ², variance between texts σ_t²: Wooldridge, Econometric Analysis of Cross Section and Panel
    Data, 2010, chapter 10.4; standard errors robust within prompts, chapter 7.8.)

    An estimate b with covariance V that F(r, G - r) of G prompts gives more than CHANCE is left at 0. Any other shrinks
    to τ²·(V + τ²)⁻¹·b, τ² = (b'b - tr V) / r: little where data are many (empirical Bayes: Efron, Morris 1973,
    doi 10.1080/01621459.1973.10481350).

    Args:
        judgements: JUDGEMENTS_SCHEMA; canaries are left out.
        use_expected: take expected ratings where they exist.
    """
    judgements = drop_canaries(judgements)
    ratings = flatten_ratings(index_completions(list_texts(judgements)), judgements)
    prompt = _number(judgements["prompt_id"])[ratings.judgement]
    value = ratings.values(use_expected)
    points, measured = {}, {}
    for code, aspect in enumerate(ratings.aspects):
        for size in np.unique(ratings.size[ratings.aspect == code]).tolist():
            here = (ratings.aspect == code) & (ratings.size == size) & ~np.isnan(value)
            found = _estimate(
                value[here], ratings.slot[here], ratings.judgement[here], ratings.completion[here], prompt[here], size
            )
            if found is not None:
                measured[aspect, size] = found.estimate
                if found.chance <= CHANCE:
                    points[aspect, size] = found.shrunk
    return PlaceEffects(points, measured)


def take_out_place(ratings: Ratings, effects: PlaceEffects) -> Ratings:
    """Return the ratings with what their places add (`Ratings.place`), which `Ratings.values` takes off."""
    place = np.zeros(len(ratings.slot))
    for (aspect, size), points in effects.points.items():
        if aspect in ratings.aspects:
            here = (ratings.aspect == ratings.aspects.index(aspect)) & (ratings.size == size)
            place[here] = points[ratings.slot[here]]
    return replace(ratings, place=place)


@dataclass(frozen=True, slots=True)
class _Estimate:
    """`estimate` and `shrunk` by place; `chance`: how often a judge without a liking would show as much."""

    estimate: FloatArray
    shrunk: FloatArray
    chance: float


def _estimate(
    value: FloatArray, slot: IntArray, request: IntArray, text: IntArray, prompt: IntArray, size: int
) -> _Estimate | None:
    """Return what each of `size` places adds, None where too little was shown to tell anything."""
    from scipy.stats import f

    if size < 2 or len(value) == 0:
        return None
    _, request = np.unique(request, return_inverse=True)
    _, text = np.unique(text, return_inverse=True)
    _, prompt = np.unique(prompt, return_inverse=True)
    y = _centre(value, request)
    x = _centre(np.eye(size)[slot], request)
    weight = _weigh_texts(y - x @ np.linalg.lstsq(x, y, rcond=None)[0], text)
    y, x = y - weight * _means(y, text), x - weight[:, None] * _means(x, text)
    level, axes = np.linalg.eigh(x.T @ x)
    known = level > 1e-9 * max(level.max(), 1e-12)
    axes, level = axes[:, known], level[known]  # the places together have no effect: at most size - 1 axes
    z = x @ axes
    b = (z.T @ y) / level
    clusters, axes_known = int(prompt.max()) + 1, len(level)
    if axes_known == 0 or clusters < axes_known + 2:
        return None
    residual = z * (y - z @ b)[:, None]
    sums = np.stack([np.bincount(prompt, weights=column) for column in residual.T], axis=1)
    spread = sums.T @ sums * clusters / (clusters - 1) / np.outer(level, level)
    least = 1e-12 * max(float(np.mean(value**2)), 1e-12)
    spread += least * np.eye(axes_known)
    statistic = float(b @ np.linalg.solve(spread, b)) * (clusters - axes_known) / (axes_known * (clusters - 1))
    prior = max(0.0, (float(b @ b) - float(np.trace(spread))) / axes_known)
    shrunk = prior * np.linalg.solve(spread + prior * np.eye(axes_known), b)
    return _Estimate(axes @ b, axes @ shrunk, float(f.sf(statistic, axes_known, clusters - axes_known)))


def _weigh_texts(residual: FloatArray, text: IntArray) -> FloatArray:
    """Return θ of each rating's text: how much of the text's mean is taken out of its ratings."""
    count = np.bincount(text)
    mean = np.bincount(text, weights=residual) / count
    repeats = len(text) - len(count)
    if repeats == 0:
        return np.zeros(len(text))
    noise = float(((residual - mean[text]) ** 2).sum()) / repeats
    between = max(float((mean**2).mean()) - noise * float((1 / count).mean()), 0.0)
    if between == 0:
        return np.zeros(len(text))
    noise = max(noise, _LEAST_NOISE * between)
    return np.asarray((1 - np.sqrt(noise / (noise + count * between)))[text])


def _centre(values: FloatArray, group: IntArray) -> FloatArray:
    return np.asarray(values - _means(values, group))


def _means(values: FloatArray, group: IntArray) -> FloatArray:
    """Return the mean of each element's group; of every column where there are several."""
    count = np.bincount(group)
    if values.ndim == 1:
        return np.asarray((np.bincount(group, weights=values) / count)[group])
    sums = np.stack([np.bincount(group, weights=column) for column in values.T], axis=1)
    return np.asarray((sums / count[:, None])[group])


def list_texts(judgements: pa.Table) -> pa.Table:
    """Return (prompt_id, completion_id) of everything that was shown, each once, sorted."""

    ids = judgements["completion_ids"].combine_chunks()
    prompts = judgements["prompt_id"].take(pc.list_parent_indices(ids))
    shown = pa.table({"prompt_id": prompts, "completion_id": pc.list_flatten(ids)})
    texts = shown.group_by(["prompt_id", "completion_id"]).aggregate([])
    return texts.sort_by([("prompt_id", "ascending"), ("completion_id", "ascending")])


def _number(column: Any) -> IntArray:
    return np.asarray(column.combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False), np.int64)
