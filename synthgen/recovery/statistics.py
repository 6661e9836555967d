"""What was kept, in numbers: recovery with its interval, of documents that both models answered. Pure.

Recovery is the quantized model's figure over the base's, as the published cards have it. Both answer the same
documents, so what a document adds to one figure goes with what it adds to the other, and the interval is that of a
ratio of paired means: Fieller's (1954, Journal of the Royal Statistical Society B 16), the ratios R for which q - R·b
is not further from 0 than Student's t allows, with

    V(q - R·b) = V(q) - 2·R·C(q, b) + R²·V(b)        V, C: variances and covariance of the two figures over documents

Degrees of freedom are documents - 1; of an average over tasks, Satterthwaite's (1946, Biometrics Bulletin 2). Where
every document is a share from 0 to 1, two made-up ones are added to the variances, one that only the base answers and
one that only the other does (after Bonett, Price 2012, Journal of Educational and Behavioral Statistics 37, for paired
proportions): so that 50 documents on which nothing turned round are no certainty.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Interval = tuple[float, float]

LEVEL = 0.95
SAME = 1e-9
"""Values of a document that are closer are the same: they differ by rounding alone."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Two figures of the same documents, and how sure they are.

    Attributes:
        base, other: the figures. base_variance, other_variance, covariance: of the figures, not of a document.
        documents: how many. lost: the other's value is lower; gained: higher.
    """

    base: float
    other: float
    base_variance: float
    other_variance: float
    covariance: float
    documents: int
    lost: int
    gained: int

    def variance(self, ratio: float) -> float:
        """Return the variance of other - ratio · base."""
        return self.other_variance - 2 * ratio * self.covariance + ratio**2 * self.base_variance


def measure(base: FloatArray, other: FloatArray, counts: FloatArray) -> Moments | None:
    """Return the moments of Σ values / Σ counts of either model, None of no document.

    Args:
        base, other: what a document adds to the figures' numerators, aligned.
        counts: what it adds to the denominators: 1, or how many answers its value is the sum of.
    """
    documents, total = len(base), float(counts.sum())
    if not documents or total <= 0:
        return None
    weight = total / documents
    figures = float(base.sum()) / total, float(other.sum()) / total
    left, right, sizes = base, other, counts
    if all(((values >= -SAME) & (values <= counts + SAME)).all() for values in (base, other)):
        left, right = np.append(base, [weight, 0.0]), np.append(other, [0.0, weight])
        sizes = np.append(counts, [weight, weight])
    n = len(left)
    if n < 2:
        return None
    centred = [values - values.sum() / sizes.sum() * sizes for values in (left, right)]
    scale = n * (n - 1) * weight**2
    return Moments(
        base=figures[0],
        other=figures[1],
        base_variance=float((centred[0] ** 2).sum()) / scale,
        other_variance=float((centred[1] ** 2).sum()) / scale,
        covariance=float((centred[0] * centred[1]).sum()) / scale,
        documents=documents,
        lost=int((other < base - SAME).sum()),
        gained=int((other > base + SAME).sum()),
    )


def recover(base: float, other: float) -> float | None:
    """Return other / base, None where the base has nothing."""
    return other / base if base > 0 else None


def find_interval(parts: Sequence[Moments], level: float = LEVEL) -> Interval | None:
    """Return the interval of the ratio of two figures, each the mean of its parts (one task: one part).

    None where it cannot be told: the base's figure is not clearly above 0, or there is one document.
    """
    from scipy.special import stdtrit

    if not parts or any(part.documents < 2 for part in parts):
        return None
    size = len(parts)
    base = sum(part.base for part in parts) / size
    other = sum(part.other for part in parts) / size
    if base <= 0:
        return None
    spread = [part.variance(other / base) / size**2 for part in parts]
    total = sum(spread)
    if total <= 0:
        return other / base, other / base
    freedom = total**2 / sum(one**2 / (part.documents - 1) for one, part in zip(spread, parts, strict=True))
    squared = float(stdtrit(freedom, (1 + level) / 2)) ** 2
    base_variance, other_variance, covariance = (
        sum(getattr(part, name) for part in parts) / size**2
        for name in ("base_variance", "other_variance", "covariance")
    )
    a = base**2 - squared * base_variance
    b = base * other - squared * covariance
    c = other**2 - squared * other_variance
    inside = b**2 - a * c
    if a <= 0 or inside < 0:
        return None
    reach = math.sqrt(inside)
    return max(0.0, (b - reach) / a), (b + reach) / a
