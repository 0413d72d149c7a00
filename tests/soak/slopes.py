"""Whether a series of samples is flat.

Enters: samples over time. Leaves: growth over the last half, and whether it is one. Never: a verdict on noise, or on the warm-up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

SIGNIFICANT = 4.0
"""A slope counts that is so many times its standard error: of a thousand flat series none has it by chance."""


@dataclass(frozen=True)
class Slope:
    """Of the last half of a series.

    Attributes:
        mean: of the samples.
        growth: the slope of the line through them, times the time that they cover.
        error: standard error of the growth.
    """

    mean: float
    growth: float
    error: float

    def is_growth(self, allowed: float) -> bool:
        """Whether it grows by more than `allowed`, and not by chance."""
        return self.growth > allowed and self.growth > SIGNIFICANT * self.error


def last_half(times: Sequence[float], values: Sequence[float]) -> Slope:
    """Least squares over the last half of the samples; at least six of them."""
    times, values = times[len(times) // 2 :], values[len(values) // 2 :]
    count = len(times)
    if count < 6:
        raise ValueError("too few samples")
    mean_time, mean = sum(times) / count, sum(values) / count
    spread = sum((time - mean_time) ** 2 for time in times)
    slope = sum((time - mean_time) * (value - mean) for time, value in zip(times, values, strict=True)) / spread
    residual = sum((value - mean - slope * (time - mean_time)) ** 2 for time, value in zip(times, values, strict=True))
    covered = times[-1] - times[0]
    return Slope(mean, slope * covered, math.sqrt(residual / (count - 2) / spread) * covered)
