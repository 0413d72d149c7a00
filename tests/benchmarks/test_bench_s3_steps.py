"""Each variant of an S3 engine that is measured stores what it is given, and its figures are compared within a round.

Enters: one object for each variant. Leaves: that the sink has it. Never: a measured time in an assertion.
"""

import pytest

from benchmarks import payloads, s3_steps
from benchmarks.s3_steps import AS_IT_IS, STEPS, Figures


@pytest.mark.requires_openssl
@pytest.mark.parametrize("engine", STEPS)
def test_every_variant_stores(engine: str) -> None:
    figures = s3_steps.measure(STEPS[engine], rounds=1, thread_count=1, puts_each=1, delay_ms=0)
    assert {name: len(found.cpu_ms) for name, found in figures.items()} == dict.fromkeys(STEPS[engine], 1)


def test_figures_are_compared_within_a_round() -> None:
    table = s3_steps.table({AS_IT_IS: Figures([100, 200, 100], [1, 2, 1]), "slow": Figures([50, 200, 20], [2, 2, 3])})
    assert "| as it is | 100 (100-200) | 1.00 (1.00-2.00) | 1.00 (1.00-1.00) | 1.00 (1.00-1.00) |" in table
    assert "| slow | 50.0 (20.0-200) | 2.00 (2.00-3.00) | 0.500 (0.200-1.00) | 2.00 (1.00-3.00) |" in table


def test_segments_are_those_of_the_receiver() -> None:
    data = payloads.ct().data_set
    segments = s3_steps.segments_of(data)
    assert b"".join(segments) == data
    assert [segment.nbytes for segment in segments[:3]] == [1 << 16, 1 << 17, 1 << 18]
    assert all(segment.nbytes for segment in segments)
