"""Counts of what was stored: buckets as `bisect` chooses them, sums, threads.

Enters: times and sizes. Leaves: what Python's own arithmetic says of them. Never: a count that is nearly right.
"""

import sys
from bisect import bisect_left
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastscp._ext.tally import Sender, StoredTally
from fastscp.observe.tally import BUCKETS_S

MOST_BOUNDS = 32


@pytest.mark.parametrize("bound_s", BUCKETS_S)
def test_what_is_equal_to_a_bound_belongs_to_it(bound_s: float) -> None:
    """A nanosecond more belongs to the next."""
    at = BUCKETS_S.index(bound_s)
    for store_s, bucket in ((bound_s, at), (bound_s + 2e-9, at + 1), (bound_s - 2e-9, at)):
        tally = StoredTally(BUCKETS_S)
        tally.add(Sender(), 1, store_s)
        expected = [0] * (len(BUCKETS_S) + 1)
        expected[bucket] = 1
        assert tally.snapshot()[0] == expected


@pytest.mark.parametrize(("store_s", "bucket"), [(0.0, 0), (1e-9, 0), (60.0, 15), (60.1, 16), (1e6, 16)])
def test_the_ends(store_s: float, bucket: int) -> None:
    tally = StoredTally(BUCKETS_S)
    tally.add(Sender(), 1, store_s)
    assert tally.snapshot()[0].index(1) == bucket


bounds = st.lists(st.integers(1, 10**10), unique=True, max_size=MOST_BOUNDS).map(sorted)


@given(bounds, st.lists(st.tuples(st.integers(0, 2 * 10**10), st.integers(0, 1 << 40)), max_size=30))
def test_counts_are_those_of_bisect(bounds_ns: list[int], stored: list[tuple[int, int]]) -> None:
    """Where the times are not too close to a bound for a float in seconds."""
    stored = [(store_ns, size) for store_ns, size in stored if all(abs(store_ns - bound_ns) > 1 for bound_ns in bounds_ns)]
    tally, sender = StoredTally([bound_ns / 1e9 for bound_ns in bounds_ns]), Sender()
    expected = [0] * (len(bounds_ns) + 1)
    for store_ns, size in stored:
        expected[bisect_left(bounds_ns, store_ns)] += 1
        tally.add(sender, size, store_ns / 1e9)
    buckets, dataset_bytes, store_s = tally.snapshot()
    assert buckets == expected
    assert dataset_bytes == sender.dataset_bytes == sum(size for _, size in stored)
    assert sender.instance_count == len(stored)
    assert store_s == pytest.approx(sum(store_ns for store_ns, _ in stored) / 1e9, abs=1e-9 * (len(stored) + 1))


@pytest.mark.parametrize("count", [0, 1, 31, 32])
def test_up_to_32_bounds(count: int) -> None:
    tally = StoredTally([float(number) for number in range(1, count + 1)])
    for number in range(count + 2):
        tally.add(Sender(), 1, number + 0.5)
    assert tally.snapshot() == ([1] * count + [2], count + 2, sum(number + 0.5 for number in range(count + 2)))


REFUSED: dict[str, tuple[Any, type[Exception]]] = {
    "too many": ([float(number) for number in range(1, 34)], ValueError),
    "far too many": ([float(number) for number in range(1, 5000)], ValueError),
    "descending": ([1.0, 2.0, 1.5], ValueError),
    "twice the same": ([1.0, 1.0], ValueError),
    "the same to the nanosecond": ([1.0, 1.0 + 1e-11], ValueError),
    "none at all": (None, TypeError),
    "words": (["a"], TypeError),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_bounds_that_are_none(kind: str) -> None:
    bounds_s, error = REFUSED[kind]
    with pytest.raises(error):
        StoredTally(bounds_s)


def test_arguments_that_are_none() -> None:
    tally, sender = StoredTally([1.0]), Sender()
    with pytest.raises(TypeError):
        tally.add(None, 1, 0.1)  # type: ignore[arg-type]
    with pytest.raises(OverflowError):
        tally.add(sender, -1, 0.1)
    assert tally.snapshot() == ([0, 0], 0, 0.0)
    assert (sender.instance_count, sender.dataset_bytes) == (0, 0)


def test_counts_beyond_32_bits() -> None:
    tally, sender = StoredTally([1.0]), Sender()
    for _ in range(3):
        tally.add(sender, 1 << 40, 1e6)
    assert tally.snapshot() == ([0, 3], 3 << 40, 3e6)
    assert sender.dataset_bytes == 3 << 40


def test_threads_lose_nothing_and_a_snapshot_is_of_one_moment() -> None:
    """Each instance has 8 bytes and takes as long as the others: whatever the moment, the three say the same."""
    tally, shared, count = StoredTally(BUCKETS_S), Sender(), 20_000
    senders = [Sender() for _ in range(4)]

    def work(own: Sender) -> None:
        for number in range(count):
            tally.add(own if number % 2 else shared, 8, 2.0**-9)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(len(senders)) as threads:
            working = [threads.submit(work, sender) for sender in senders]
            while not all(future.done() for future in working):
                buckets, dataset_bytes, store_s = tally.snapshot()
                assert dataset_bytes == 8 * sum(buckets)
                assert store_s == pytest.approx(sum(buckets) * 2.0**-9, rel=1e-6)
            for future in working:
                future.result()
    finally:
        sys.setswitchinterval(before)
    assert sum(tally.snapshot()[0]) == count * len(senders)
    assert [sender.instance_count for sender in senders] == [count // 2] * len(senders)
    assert (shared.instance_count, shared.dataset_bytes) == (count // 2 * len(senders), 4 * count * len(senders))
