"""The pool: a budget that many threads share.

Enters: readers that ask for segments at the same time. Leaves: memory within the limit. Never: a lost wake-up.
"""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fastscp._ext import pdu
from fastscp._ext.memory import SEGMENT_SIZES_BYTES, BufferPool
from reference import traffic
from reference.driving import Limits, native_reader

LONG_S = 60.0
SMALLEST_BYTES, LARGEST_BYTES = SEGMENT_SIZES_BYTES[0], SEGMENT_SIZES_BYTES[-1]


def received(pool: BufferPool, pixels: bytes = b"", *, pdv_bytes: int = 16_000) -> Any:
    reader = native_reader(pool, Limits(max_pdu_bytes=pdv_bytes))
    stream = traffic.store(1, traffic.data_set(pixels=pixels), pdv_bytes=pdv_bytes)
    assert reader.feed(stream) == (pdu.STORE, len(stream))
    return reader.take_instance()


def test_segment_sizes_are_those_of_the_contract() -> None:
    assert SEGMENT_SIZES_BYTES == (65536, 131072, 262144, 524288, 1048576)


def test_a_pool_without_room_for_a_segment_is_refused() -> None:
    with pytest.raises(ValueError):
        BufferPool(LARGEST_BYTES - 1)
    with pytest.raises(ValueError):
        BufferPool(LARGEST_BYTES, keep_bytes=-1)
    with pytest.raises((ValueError, OverflowError)):
        BufferPool(-1)
    assert BufferPool(LARGEST_BYTES).limit_bytes == LARGEST_BYTES


@pytest.mark.parametrize(
    ("size", "segments"), [(0, 1), (60_000, 1), (150_000, 2), (400_000, 3), (900_000, 4), (1_900_000, 5), (2_900_000, 6)]
)
def test_segments_double(size: int, segments: int) -> None:
    pool = BufferPool(1 << 26, keep_bytes=0)
    instance = received(pool, bytes(size))
    sizes = [*SEGMENT_SIZES_BYTES, LARGEST_BYTES][:segments]
    assert [len(view) for view in instance.segments()][:-1] == sizes[:-1]
    assert pool.in_use_bytes == sum(sizes)
    instance.release()
    assert pool.in_use_bytes == 0


@pytest.mark.parametrize(
    ("pdv_bytes", "sizes"),
    [
        (16_384, [65536, 131072, 262144]),
        (16_385, [65536, 131072, 262144]),
        (32_769, [65536, 262144, 524288]),
        (131_072, [65536, 524288]),
        (131_073, [65536, 1048576]),
        (400_000, [65536, 1048576]),
    ],
)
def test_a_segment_has_room_for_several_pdus(pdv_bytes: int, sizes: list[int]) -> None:
    pool = BufferPool(1 << 26, keep_bytes=0)
    instance = received(pool, bytes(450_000), pdv_bytes=pdv_bytes)
    assert pool.in_use_bytes == sum(sizes)
    instance.release()


@pytest.mark.parametrize("keep_bytes", [0, SMALLEST_BYTES, 3 * SMALLEST_BYTES, 1 << 20, 1 << 30])
def test_no_more_free_memory_is_kept_than_allowed(keep_bytes: int) -> None:
    pool = BufferPool(1 << 26, keep_bytes=keep_bytes)
    assert (pool.in_use_bytes, pool.free_bytes) == (0, 0)
    instances = [received(pool, bytes(400_000)) for _ in range(4)]
    held_bytes = pool.in_use_bytes
    for instance in instances:
        instance.release()
        assert pool.free_bytes <= keep_bytes
    assert pool.in_use_bytes == 0
    assert pool.free_bytes <= min(keep_bytes, held_bytes)
    if keep_bytes == 1 << 30:
        assert pool.free_bytes == held_bytes
    if keep_bytes == SMALLEST_BYTES:
        assert pool.free_bytes == SMALLEST_BYTES


def test_free_segments_are_used_again() -> None:
    pool = BufferPool(1 << 26)
    received(pool, bytes(400_000)).release()
    free_bytes = pool.free_bytes
    instance = received(pool, bytes(400_000))
    assert pool.free_bytes == 0
    assert pool.in_use_bytes == free_bytes
    assert bytes(instance.segments()[-1][-1000:]) == bytes(1000)


def test_the_limit_counts_what_is_held_and_not_what_is_kept() -> None:
    pool = BufferPool(2 * LARGEST_BYTES, keep_bytes=1 << 30)
    for _ in range(4):
        received(pool, bytes(900_000)).release()
    assert pool.free_bytes > 0
    assert pool.wait_available(0.0)


@pytest.mark.requires_linux
def test_memory_that_is_not_kept_leaves_the_process() -> None:
    def resident_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    pool = BufferPool(1 << 28, keep_bytes=0)
    stream = traffic.store(1, traffic.data_set(pixels=bytes(64 << 20)), pdv_bytes=60_000)
    reader = native_reader(pool)
    before_bytes = resident_bytes()
    reader.feed(stream)
    assert resident_bytes() > before_bytes + (60 << 20)
    reader.take_instance().release()
    assert resident_bytes() < before_bytes + (8 << 20)


# The reserve.


def begun(pool: BufferPool) -> tuple[Any, bytes]:
    """A reader with as much of a large instance as there is memory for, and the rest of what it is sent."""
    reader = native_reader(pool)
    stream = traffic.store(1, traffic.data_set(pixels=bytes(6 * LARGEST_BYTES)), pdv_bytes=60_000)
    what, taken = reader.feed(stream)
    assert what == pdu.NO_MEMORY
    return reader, stream[taken:]


def test_a_reserve_leaves_room_for_a_segment() -> None:
    for reserve_bytes in (-1, LARGEST_BYTES + 1):
        with pytest.raises((ValueError, OverflowError)):
            BufferPool(2 * LARGEST_BYTES, reserve_bytes=reserve_bytes)
    reader, _ = begun(BufferPool(2 * LARGEST_BYTES))
    assert not reader.instance.use_reserve(), "none without one"


def test_the_reserve_is_one_instances_at_a_time() -> None:
    pool = BufferPool(4 * LARGEST_BYTES, reserve_bytes=2 * LARGEST_BYTES)
    (first, rest), (second, _) = begun(pool), begun(pool)
    assert pool.in_use_bytes <= 2 * LARGEST_BYTES
    assert pool.wait_available(0.0), "the reserve could be had"
    assert first.instance.use_reserve()
    assert not first.instance.use_reserve(), "it has it already"
    assert not second.instance.use_reserve()
    assert not pool.wait_available(0.0)
    held_bytes = pool.in_use_bytes
    assert first.feed(rest)[0] == pdu.NO_MEMORY
    assert held_bytes < pool.in_use_bytes <= pool.limit_bytes
    first.discard()
    assert pool.wait_available(0.0)
    assert second.instance.use_reserve(), "who has been discarded holds it no more"
    second.close()
    assert (pool.in_use_bytes, pool.wait_available(0.0)) == (0, True)


def test_the_reserve_is_left_once_so_much_has_left_memory_that_it_is_whole_again() -> None:
    pool = BufferPool(4 * LARGEST_BYTES, reserve_bytes=2 * LARGEST_BYTES)
    (first, rest), (second, _) = begun(pool), begun(pool)
    assert first.instance.use_reserve()
    assert first.feed(rest)[0] == pdu.NO_MEMORY
    assert pool.in_use_bytes > 2 * LARGEST_BYTES
    first.instance.drop_spillable(first.instance.spillable_bytes())
    assert pool.in_use_bytes <= 2 * LARGEST_BYTES
    assert second.instance.use_reserve()


# Waiting.


def filled(pool: BufferPool) -> list[Any]:
    """Instances that leave no room for a largest segment."""
    instances = []
    while pool.wait_available(0.0):
        instances.append(received(pool))
    return instances


def test_waiting_ends_with_its_time() -> None:
    pool = BufferPool(LARGEST_BYTES)
    assert pool.wait_available(0.0) is True
    instances = filled(pool)
    for timeout_s in (-1.0, 0.0, 0.05):
        assert pool.wait_available(timeout_s) is False
    instances[0].release()
    assert pool.wait_available(1e30) is True


def test_memory_that_is_given_back_wakes_all_who_wait() -> None:
    pool = BufferPool(LARGEST_BYTES)
    instances = filled(pool)
    with ThreadPoolExecutor(4) as threads:
        begun = threading.Barrier(5)

        def wait() -> bool:
            begun.wait(LONG_S)
            return pool.wait_available(LONG_S)

        waiting = [threads.submit(wait) for _ in range(4)]
        begun.wait(LONG_S)
        for instance in instances:
            instance.release()
        assert [future.result(LONG_S) for future in waiting] == [True] * 4


def test_an_instance_that_is_forgotten_wakes_who_waits() -> None:
    pool = BufferPool(LARGEST_BYTES)
    instances = filled(pool)
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(pool.wait_available, LONG_S)
        instances.clear()
        assert waiting.result(LONG_S) is True


def test_other_threads_run_while_one_waits() -> None:
    """Were the interpreter lock held, nobody could give back what is waited for."""
    pool = BufferPool(LARGEST_BYTES)
    instances = filled(pool)
    released = threading.Timer(0.1, lambda: [instance.release() for instance in instances])
    released.start()
    assert pool.wait_available(LONG_S) is True
    released.join()


# Concurrency.


def test_threads_share_a_pool_that_is_too_small_for_all() -> None:
    pool = BufferPool(4 * LARGEST_BYTES, keep_bytes=LARGEST_BYTES)
    over = []

    def receive(number: int) -> int:
        chance = random.Random(number)
        reader = native_reader(pool)
        stored = 0
        for _ in range(30):
            data = traffic.data_set(pixels=bytes([number]) * chance.randrange(2_000_000))
            stream = traffic.store(1, data, pdv_bytes=60_000)
            while True:
                event, consumed = reader.feed(stream[: chance.randrange(1, 400_000)])
                stream = stream[consumed:]
                over.append(pool.in_use_bytes > pool.limit_bytes or pool.free_bytes > LARGEST_BYTES)
                if event == pdu.NO_MEMORY and not pool.wait_available(0.01):
                    reader.discard()
                elif event == pdu.STORE:
                    break
            instance = reader.take_instance()
            assert instance.dataset_bytes == len(data)
            if instance.refusal is None:
                views = instance.segments()
                assert b"".join(views)[instance.file_meta_bytes :] == data
                for view in views:
                    view.release()
                stored += 1
            instance.release()
        return stored

    with ThreadPoolExecutor(6) as threads:
        stored = sum(threads.map(receive, range(6)))
    assert stored > 0
    assert not any(over)
    assert pool.in_use_bytes == 0
    assert pool.free_bytes <= LARGEST_BYTES


def test_an_instance_may_be_given_back_by_another_thread() -> None:
    pool = BufferPool(1 << 26)
    with ThreadPoolExecutor(4) as threads:
        for future in [threads.submit(received(pool, bytes(100_000)).release) for _ in range(200)]:
            future.result(LONG_S)
    assert pool.in_use_bytes == 0
