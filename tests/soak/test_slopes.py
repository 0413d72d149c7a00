"""The slope test tells growth from noise."""

import random

import pytest

from tests.soak.slopes import last_half

TIMES = [5.0 * number for number in range(120)]


def test_a_leak_is_growth() -> None:
    source = random.Random(1)
    leak = [100 + 0.01 * time + source.gauss(0, 0.5) for time in TIMES]
    slope = last_half(TIMES, leak)
    assert slope.is_growth(allowed=1.0)
    assert slope.growth == pytest.approx(3, rel=0.2)


def test_steps_are_growth() -> None:
    assert last_half(TIMES, [float(time // 60) for time in TIMES]).is_growth(allowed=1.0)


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_not(seed: int) -> None:
    source = random.Random(seed)
    assert not last_half(TIMES, [100 + source.gauss(0, 20) for _ in TIMES]).is_growth(allowed=1.0)


def test_a_warm_up_is_not() -> None:
    assert not last_half(TIMES, [min(time, 200.0) for time in TIMES]).is_growth(allowed=1.0)


def test_a_fall_is_not() -> None:
    assert not last_half(TIMES, [1000 - time for time in TIMES]).is_growth(allowed=1.0)


def test_what_is_constant_is_not() -> None:
    assert not last_half(TIMES, [7.0] * len(TIMES)).is_growth(allowed=0.0)
