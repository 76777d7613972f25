"""Confidence intervals for the few numbers that some seeds give."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean and the interval that holds the true one with 95 % confidence."""

    mean: float
    low: float
    high: float


def confidence_interval(values: Sequence[float]) -> Interval | None:
    """Student's interval for the mean of some independent values.

    Parameters
    ----------
    values : sequence of float
        One per seed; for a comparison of two networks the differences within each seed, so that what a seed does
        to both cancels.

    Returns
    -------
    Interval or None
        None for fewer than two values: they say nothing about how much they vary.
    """
    if len(values) < 2:
        return None
    mean = statistics.fmean(values)
    half = t_quantile(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def t_quantile(degrees: int, confidence: float = CONFIDENCE) -> float:
    """The t for which P(|T| < t) is the confidence, of Student's distribution.

    Parameters
    ----------
    degrees : int
        Degrees of freedom, >= 1.
    confidence : float, default 0.95
        Between 0 and 1.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(60):  # t = sqrt(degrees) tan(angle); each round is one more bit
        middle = (low + high) / 2
        low, high = (middle, high) if _probability(middle, degrees) < confidence else (low, middle)
    return math.sqrt(degrees) * math.tan(low)


def _probability(angle: float, degrees: int) -> float:
    """P(|T| < sqrt(degrees) tan(angle)): Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    odd = degrees % 2
    cosine = math.cos(angle)
    term = cosine if odd else 1.0
    total = term if degrees > 1 else 0.0
    for k in range(2 + odd, degrees - 1, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    if odd:
        return 2 / math.pi * (angle + math.sin(angle) * total)
    return math.sin(angle) * total
