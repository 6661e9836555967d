"""Values of several scorers in, one score per completion out: what pairs are made by, and who may stand on which side.

One scorer's values are taken as they are. Several are put on one scale first:

    z_s(y) = (value_s(y) - mean_s) / spread_s      score(y) = mean_a + spread_a · Σ w_s·z_s(y) / Σ |w_s|

`mean_s` is the mean of the scorer's values and `spread_s` their pooled standard deviation within prompts (pairs compare
within a prompt, so what differs between prompts is no scale), both over the run's first unit alone: a run that grows
keeps its scores. `a` is the judge where it has a weight, else the first name in the alphabet: the score reads in the
points of that scorer. A completion that one of them gives no value has no score.

With `pairs.length_control` what length alone adds is taken out of the score:

    score'(y) = score(y) - b · (log(1 + tokens(y)) - mean over the prompt's completions)

b is the least-squares slope of score on log length within prompts, over the same first unit (a within-prompt form of
the regression of length-controlled AlpacaEval, arXiv 2404.04475; rewards that follow length: arXiv 2310.03716).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config import Config, PairsConfig
from synthgen.config.stage_names import JUDGE
from synthgen.pairs.counts import PROMPT_FAILED, PROMPT_PASSED
from synthgen.pairs.index import BoolArray, CompletionIndex, FloatArray, IntArray
from synthgen.pairs.ratings import SCORE_DECIMALS

PASS, FAIL, NONE = 1, 0, -1
"""Verdicts."""
UNFIT = (PROMPT_FAILED, PROMPT_PASSED)
"""Why a prompt is left out with all of its completions."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Where a scorer's values lie: their mean, their pooled standard deviation within prompts, how many they were."""

    mean: float = 0.0
    spread: float = 1.0
    values: int = 0


@dataclass(frozen=True, slots=True)
class Fit:
    """What is estimated once, on the run's first unit. Empty where nothing has to be.

    Attributes:
        scales: by scorer. length_slope: points of score per unit of log length, within prompts; 0: none is taken out.
    """

    scales: Mapping[str, Scale] = field(default_factory=dict)
    length_slope: float = 0.0


@dataclass(frozen=True, slots=True)
class Scored:
    """The values of some completions by all scorers; every array has an element per completion.

    Attributes:
        rows: how many completions there are.
        values: by scorer of completions; NaN without one. table: those of all scorers, as they go into `generations`
            (SCORES_TYPE), None: the judge alone.
    """

    rows: int
    values: Mapping[str, FloatArray]
    table: pa.Array | None = None


def resolve_weights(config: PairsConfig, scorers: Sequence[str]) -> dict[str, float]:
    """Return what each scorer weighs; empty: nothing scores.

    Args:
        scorers: names of those there are, the judge first.
    """
    if config.weights:
        return {name: float(weight) for name, weight in sorted(config.weights.items()) if weight}
    if config.score is not None:
        return {config.score: 1.0}
    chosen = scorers[:1] if scorers[:1] == [JUDGE] or len(scorers) == 1 else []
    return dict.fromkeys(chosen, 1.0)


def find_anchor(weights: Mapping[str, float]) -> str | None:
    """Return the scorer in whose points the score reads, None without any."""
    return JUDGE if JUDGE in weights else min(weights, default=None)


def combine_scores(
    scored: Scored, weights: Mapping[str, float], fit: Fit, index: CompletionIndex, tokens: FloatArray
) -> FloatArray:
    """Return the score per completion; NaN without one.

    Args:
        tokens: length of each completion, NaN where it is not known; used where a slope was fitted.
    """
    score = weigh(scored, weights, fit)
    if fit.length_slope:
        score = score - fit.length_slope * center(log_length(tokens), index.prompt, len(index.prompt_ids))
    return np.round(score, SCORE_DECIMALS)


def weigh(scored: Scored, weights: Mapping[str, float], fit: Fit) -> FloatArray:
    """Return the weighted score, before any control of length."""
    if not weights:
        return np.full(scored.rows, np.nan)
    if len(weights) == 1:
        ((name, weight),) = weights.items()
        return scored.values[name] if weight > 0 else -scored.values[name]
    total = np.zeros(scored.rows)
    for name, weight in weights.items():
        scale = fit.scales.get(name, Scale())
        total += weight * (scored.values[name] - scale.mean) / scale.spread
    anchor = fit.scales.get(find_anchor(weights) or "", Scale())
    return np.asarray(anchor.mean + anchor.spread * total / sum(map(abs, weights.values())))


def fit_scores(
    scored: Scored, config: PairsConfig, scorers: Sequence[str], index: CompletionIndex, tokens: FloatArray
) -> Fit:
    """Return the fit of the completions of a run's first unit; see the module for what it holds."""
    weights = resolve_weights(config, scorers)
    scales = {name: _scale(scored.values[name], index) for name in weights} if len(weights) > 1 else {}
    slope = _fit_length(weigh(scored, weights, Fit(scales)), tokens, index) if config.length_control else 0.0
    return Fit(scales, slope)


def needs_fit(config: PairsConfig, scorers: Sequence[str]) -> bool:
    """Return whether scores need what is estimated on the first unit."""
    return len(resolve_weights(config, scorers)) > 1 or config.length_control


def center(values: FloatArray, prompt: IntArray, prompts: int) -> FloatArray:
    """Return values minus the mean of their prompt's known ones; NaN (unknown) becomes 0."""
    known = ~np.isnan(values)
    count = np.bincount(prompt[known], minlength=prompts)
    total = np.bincount(prompt[known], weights=values[known], minlength=prompts)
    return np.where(known, values - (total / np.maximum(count, 1))[prompt], 0.0)


def log_length(tokens: FloatArray) -> FloatArray:
    """Return log(1 + tokens)."""
    return np.log1p(tokens)


def find_verdicts(scored: Scored, name: str, config: PairsConfig) -> npt.NDArray[np.int8]:
    """Return PASS, FAIL or NONE of each completion by one scorer.

    The judge passes what scores `pairs.kto.high` or more and fails what scores `pairs.kto.low` or less.
    """
    if name == JUDGE:
        values = scored.values[name]
        high, low = read_cuts(config)
        verdicts = np.select([values >= high, values <= low], [PASS, FAIL], NONE)
        return verdicts.astype(np.int8)
    assert scored.table is not None
    flat = pc.list_flatten(scored.table)
    mine = pc.equal(pc.struct_field(flat, "scorer"), name)
    rows = pc.list_parent_indices(scored.table).filter(mine).to_numpy()
    said = pc.fill_null(pc.struct_field(flat, "verdict").filter(mine).cast(pa.int8()), NONE)
    found = np.full(scored.rows, NONE, dtype=np.int8)
    found[rows] = said.to_numpy(zero_copy_only=False)
    return found


def read_cuts(config: PairsConfig) -> tuple[float, float]:
    """Return `pairs.kto.high` and `low` of settings whose quantiles have become numbers (estimates.settle)."""
    high, low = config.kto.high, config.kto.low
    if high is None or low is None:
        raise ValueError("pairs.kto has no numbers yet: settle the settings first")
    return high, low


def find_gated(scored: Scored, names: Sequence[str], wanted: int, config: PairsConfig) -> BoolArray:
    """Return which completions have the wanted verdict by all of the named scorers; all of them where none is named."""
    allowed = np.ones(scored.rows, dtype=bool)
    for name in names:
        allowed &= find_verdicts(scored, name, config) == wanted
    return allowed


def find_unfit(scored: Scored, config: PairsConfig) -> npt.NDArray[np.int8]:
    """Return, per completion, why its prompt is left out, as an index in UNFIT; -1: it is not."""
    passes = find_gated(scored, config.prompt_must_pass, PASS, config)
    fails = find_gated(scored, config.prompt_must_fail, FAIL, config)
    return np.select([~passes, ~fails], [0, 1], -1).astype(np.int8)


def list_thresholds(config: Config) -> dict[str, float]:
    """Return from which value on a completion passes, by scorer."""
    return {name: scorer.threshold for name, scorer in config.scorers.items()}


def _fit_length(score: FloatArray, tokens: FloatArray, index: CompletionIndex) -> float:
    """Return the least-squares slope of score on log length, both centred within prompts."""
    known = ~np.isnan(score) & ~np.isnan(tokens)
    prompts = len(index.prompt_ids)
    length = center(np.where(known, log_length(tokens), np.nan), index.prompt, prompts)
    height = center(np.where(known, score, np.nan), index.prompt, prompts)
    squares = float((length**2).sum())
    return float((length * height).sum() / squares) if squares > 0 else 0.0


def _scale(values: FloatArray, index: CompletionIndex) -> Scale:
    known = ~np.isnan(values)
    count = int(known.sum())
    if not count:
        return Scale()
    prompts = len(index.prompt_ids)
    free = count - len(np.unique(index.prompt[known]))  # each prompt's mean takes one
    squares = float((center(values, index.prompt, prompts)[known] ** 2).sum())
    spread = float(np.sqrt(squares / free)) if free > 0 else 0.0
    return Scale(float(values[known].mean()), spread if spread > 0 else 1.0, count)
