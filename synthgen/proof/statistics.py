"""What changed, in numbers and in one verdict. Pure: arrays in, plain values out.

Answers to one prompt are not independent, so a prompt is what is counted: its figure is the mean over its answers, and
a difference is taken within the prompt. Intervals are 95%, Student's t over prompts (`synthgen.trust.intervals`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from synthgen.trust.intervals import ratio_interval

FloatArray = npt.NDArray[np.float64]

MIN_PROMPTS = 20
"""Prompts below which nothing is called evidence."""
NO_EVIDENCE = "no evidence that these pairs help"
EVIDENCE = "these pairs help"
SAME = 1e-9
"""Means that are closer are a tie: they differ by rounding alone."""
STEPS = 25
"""Newton's steps of the logistic regression, which takes five or so."""
RIDGE = 1e-2
"""Keeps the regression finite where every prompt is won."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Other minus base over prompts that have both.

    Attributes:
        base, other: means over prompts. low, high: 95%; None where they cannot be told.
        wins: prompts on which the other's mean is higher; ties, losses likewise. prompts: how many there are.
    """

    base: float
    other: float
    value: float
    low: float | None
    high: float | None
    wins: int
    ties: int
    losses: int
    prompts: int

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def compare(base: FloatArray, other: FloatArray) -> Difference | None:
    """Return how two models differ, None where no prompt has both.

    Args:
        base, other: a mean per prompt, aligned; NaN without one.
    """
    both = ~np.isnan(base) & ~np.isnan(other)
    left, right = base[both], other[both]
    if not len(left):
        return None
    change = right - left
    low, high = ratio_interval(change, np.ones(len(change))) or (None, None)
    return Difference(
        base=float(left.mean()),
        other=float(right.mean()),
        value=float(change.mean()),
        low=low,
        high=high,
        wins=int((change > SAME).sum()),
        ties=int((np.abs(change) <= SAME).sum()),
        losses=int((change < -SAME).sum()),
        prompts=len(change),
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the pairs help, and why that is said or not said: a sentence each."""

    helps: bool
    reasons: tuple[str, ...]

    @property
    def text(self) -> str:
        """The verdict in the words that are the same everywhere."""
        return EVIDENCE if self.helps else NO_EVIDENCE


def decide(effect: Difference | None, over_control: Difference | None, *, controlled: bool) -> Verdict:
    """Return the verdict on pairs, of what one scorer says.

    They help where the interval of the difference between the model after training and before it lies above 0 and, if
    there is a control, that of the difference between it and the control does too. Both must, so that chance alone says
    yes once in forty times at most.

    Args:
        effect: after training minus before. over_control: after training minus the control.
        controlled: whether there is a control; without its figures nothing is evidence then.
    """
    if effect is None or effect.low is None or effect.high is None:
        return Verdict(False, ("too few prompts have a figure before and after training",))
    if effect.prompts < MIN_PROMPTS:
        few = f"{effect.prompts} prompts are too few to tell; {MIN_PROMPTS} or more are needed (prove.holdout)"
        return Verdict(False, (few,))
    if effect.high < 0:
        return Verdict(False, ("it got worse",))
    if effect.low <= 0:
        return Verdict(False, ("the difference may be chance: its interval holds 0",))
    if not controlled:
        return Verdict(
            True, ("there was no control: how much of it training on any pairs would have done is not known",)
        )
    if over_control is None or over_control.low is None:
        return Verdict(False, ("too few prompts have a figure of the control",))
    if over_control.low <= 0:
        return Verdict(False, ("it is not more than the same training on randomly drawn sides does",))
    return Verdict(True, ("it is more than the same training on randomly drawn sides does",))


def decide_control(effect: Difference | None) -> Verdict:
    """Return the verdict on the control's own pairs, whose sides say nothing.

    What it gains is what training on any such texts gains. It is no evidence for the pairs, whatever it is.
    """
    if effect is None or effect.low is None:
        return Verdict(False, ("too few prompts have a figure of the control",))
    if effect.low > 0:
        return Verdict(False, ("its sides were drawn at random; what it gained is what training on any of them gains",))
    return Verdict(False, ("its sides were drawn at random, and it did not gain",))


def control_length(change: FloatArray, longer: FloatArray) -> Difference | None:
    """Return what is left of a difference in score at equal length: the intercept of change on log length ratio.

    Least squares over prompts, change_p = a + b · log((1 + tokens after) / (1 + tokens before)); the interval of `a` by
    the jackknife. None where lengths do not vary, or of fewer than three prompts.

    Args:
        change: after minus before per prompt. longer: the log ratio of the mean lengths; aligned, NaN without one.
    """
    known = ~np.isnan(change) & ~np.isnan(longer)
    y, x = change[known], longer[known]
    if len(y) < 3 or np.ptp(x) < 1e-12:
        return None
    value, interval = _jackknife(lambda rows: _intercept(y[rows], x[rows]), len(y))
    if interval is None:
        return None
    return Difference(0.0, value, value, *interval, wins=0, ties=0, losses=0, prompts=len(y))


def control_wins(change: FloatArray, longer: FloatArray) -> dict[str, Any] | None:
    """Return the length-controlled win rate, {`rate`, `low`, `high`, `raw`}: P(win) at equal length.

    Logistic regression of the win (a tie is half of one) on tanh(length ratio / its standard deviation), read where the
    lengths are equal: length-controlled AlpacaEval's model (arXiv 2404.04475) without its term for the prompt's
    difficulty, which pairs of the same prompts do not need. The interval is the jackknife's, on the logit.
    """
    known = ~np.isnan(change) & ~np.isnan(longer)
    y, x = change[known], longer[known]
    if len(y) < 3:
        return None
    wins = np.where(y > SAME, 1.0, np.where(y < -SAME, 0.0, 0.5))
    spread = float(x.std()) or 1.0
    shaped = np.tanh(x / spread)
    logit, interval = _jackknife(lambda rows: _logit_at_zero(wins[rows], shaped[rows]), len(y))
    low, high = interval or (float("nan"), float("nan"))
    rate, low, high = (1 / (1 + float(np.exp(-number))) for number in (logit, low, high))
    return {"rate": rate, "low": low, "high": high, "raw": float(wins.mean())}


def find_side_effects(figures: Mapping[str, Difference | None], worse_when: Mapping[str, int]) -> list[str]:
    """Return the names of what got worse: the interval of its difference lies on the bad side of 0.

    Args:
        worse_when: -1 where less is worse, 1 where more is; what is not named is told and not judged.
    """
    found = []
    for name, difference in figures.items():
        sign = worse_when.get(name)
        if sign is None or difference is None or difference.low is None or difference.high is None:
            continue
        if difference.prompts >= MIN_PROMPTS and (difference.high < 0 if sign < 0 else difference.low > 0):
            found.append(name)
    return found


def _intercept(y: FloatArray, x: FloatArray) -> float:
    spread = float(((x - x.mean()) ** 2).sum())
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread if spread > 1e-12 else 0.0
    return float(y.mean() - slope * x.mean())


def _logit_at_zero(wins: FloatArray, shaped: FloatArray) -> float:
    design = np.stack([np.ones_like(shaped), shaped], axis=1)
    weights = np.zeros(2)
    for _ in range(STEPS):
        chance = 1 / (1 + np.exp(-design @ weights))
        gradient = design.T @ (wins - chance) - RIDGE * weights
        curvature = (design * (chance * (1 - chance))[:, None]).T @ design + RIDGE * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        weights = weights + np.clip(step, -4, 4)
        if float(np.abs(step).max()) < 1e-10:
            break
    return float(weights[0])


def _jackknife(estimate: Any, count: int) -> tuple[float, tuple[float, float] | None]:
    """Return an estimate over all rows, and its 95% interval from those that leave a row out (Tukey 1958)."""
    from scipy.special import stdtrit

    whole = float(estimate(np.ones(count, dtype=bool)))
    keep = np.ones(count, dtype=bool)
    left_out = np.empty(count)
    for row in range(count):
        keep[row] = False
        left_out[row] = estimate(keep)
        keep[row] = True
    error = float(np.sqrt((count - 1) / count * ((left_out - left_out.mean()) ** 2).sum()))
    if not np.isfinite(error):
        return whole, None
    reach = float(stdtrit(count - 2, 0.975)) * error
    return whole, (whole - reach, whole + reach)
