"""An instance leaves memory in any portions and by any way, and what left is the file.

Enters: drawn instances and schedules. Leaves: the same bytes as the reference holds. Never: a byte twice or not at all.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastscp._ext import pdu
from fastscp._ext.memory import SEGMENT_SIZES_BYTES, BufferPool
from reference import traffic
from reference.driving import Limits, ask_reference, native_reader
from reference.reference_dimse import encode_store_request
from reference.strategies import large_data_sets

SMALLEST_BYTES = SEGMENT_SIZES_BYTES[0]
FOREVER_BYTES = 1 << 40

large = large_data_sets(ceiling_bytes=1 << 20)
schedules = st.lists(st.sampled_from(["views", "write", "nothing", "sooner", "later"]), max_size=40)
feeds = st.lists(st.integers(1, 1 << 18), max_size=12)


@contextmanager
def file_to_check() -> Iterator[Any]:
    with tempfile.TemporaryFile(buffering=0) as file:
        yield file


def contents(file: Any) -> bytes:
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)


def act(instance: Any, action: str, file: Any) -> None:
    """One step of a schedule; whatever leaves memory goes to the end of `file`."""
    before_bytes = instance.spilled_bytes
    spillable_bytes = instance.spillable_bytes()
    assert 0 <= spillable_bytes <= instance.file_bytes - before_bytes
    if action == "views":
        views = instance.spillable_segments()
        with pytest.raises(BufferError) if views else pytest.raises(ValueError):
            instance.drop_spillable(spillable_bytes if views else 1)
        for view in views:
            file.write(view)
            view.release()
        instance.drop_spillable(spillable_bytes)
    elif action == "write":
        assert instance.write_spillable(file.fileno()) == spillable_bytes
    elif action in ("sooner", "later"):
        instance.spill_at_bytes = 1 if action == "sooner" else FOREVER_BYTES
        assert instance.spill_at_bytes == (1 if action == "sooner" else FOREVER_BYTES)
    left_bytes = spillable_bytes if action in ("views", "write") else 0
    assert instance.spilled_bytes == before_bytes + left_bytes == os.fstat(file.fileno()).st_size


def rest(instance: Any, file: Any) -> None:
    """What is in memory at the end."""
    for view in instance.segments():
        file.write(view)
        view.release()


@given(large, feeds, schedules, st.integers(1, 1 << 20), st.integers(1, 60_000))
def test_any_schedule_leaves_the_file(
    data: bytes, feed_bytes: list[int], schedule: list[str], threshold_bytes: int, pdv_bytes: int
) -> None:
    stream = traffic.store(1, data, pdv_bytes=max(pdv_bytes, len(data) // 400 + 1))
    pool = BufferPool(1 << 26)
    reader = native_reader(pool, Limits(spill_threshold_bytes=threshold_bytes))
    actions = iter(schedule)
    sizes = iter(feed_bytes)
    with file_to_check() as file:
        event = pdu.NEED_DATA
        while event != pdu.STORE:
            event, consumed = reader.feed(stream[: next(sizes, len(stream))])
            stream = stream[consumed:]
            assert event in (pdu.NEED_DATA, pdu.SPILL, pdu.STORE)
            assert stream or event != pdu.NEED_DATA
            if reader.instance is not None:
                act(reader.instance, next(actions, "nothing" if event == pdu.NEED_DATA else "write"), file)
        instance = reader.take_instance()
        for action in actions:
            act(instance, action, file)
        rest(instance, file)
        (line, _) = ask_reference([traffic.store(1, data)])
        assert contents(file) == line[-1]
        assert instance.file_bytes == len(line[-1])
        instance.release()
    assert pool.in_use_bytes == 0


@given(large, st.integers(1, 1 << 18))
def test_spill_comes_again_with_each_interval(data: bytes, interval_bytes: int) -> None:
    """Nobody spills: as many SPILL as intervals fit, at most one more for each that a fragment jumped over being too late."""
    stream = traffic.store(1, data)
    reader = native_reader(BufferPool(1 << 26), Limits(spill_threshold_bytes=interval_bytes))
    held_at = []
    while (event := reader.feed(stream))[0] != pdu.STORE:
        stream = stream[event[1] :]
        assert event[0] == pdu.SPILL
        held_at.append(reader.instance.file_bytes)
    assert all(later - earlier >= interval_bytes for earlier, later in zip([0, *held_at], held_at, strict=False))
    assert len(held_at) >= (reader.take_instance().file_bytes - interval_bytes) // (interval_bytes + 16378)


@given(st.integers(0, 3), st.integers(-3, 3), st.sampled_from(["complete", "inside"]), st.booleans())
def test_a_data_set_may_end_at_the_end_of_a_segment(segments: int, surplus_bytes: int, ends: str, spill: bool) -> None:
    """The last fragment is empty; all before it may have left memory already."""
    command = traffic.p_data(traffic.pdv(1, encode_store_request(), command=True, last=True))
    reader = native_reader(BufferPool(1 << 26), Limits(spill_threshold_bytes=1))
    reader.feed(command + traffic.p_data(traffic.pdv(1, b"", command=False, last=False)))
    meta_bytes = reader.instance.file_meta_bytes
    size = sum(SEGMENT_SIZES_BYTES[: segments + 1]) - meta_bytes + surplus_bytes
    data = traffic.element(0x0008, 0x0001, b"UT", bytes(size - 12))
    if ends == "inside":
        data = data[:8] + (len(data)).to_bytes(4, "little") + data[12:]
    pdvs = traffic.fragments(1, data, [16378] * (size // 16378), command=False, zero_last=True)
    stream = traffic.packed(pdvs, [])
    expected = ask_reference([command + stream])
    with file_to_check() as file:
        # The reader takes the header of the empty fragment in with what is before it, if it is there.
        before, empty = stream[:-12], stream[-12:]
        event = pdu.NEED_DATA
        while event != pdu.STORE:
            event, consumed = reader.feed(before or empty)
            before, empty = (before[consumed:], empty) if before else (b"", empty[consumed:])
            if spill and reader.instance is not None:
                act(reader.instance, "write", file)
        instance = reader.take_instance()
        rest(instance, file)
        assert contents(file) == expected[0][-1]
        assert instance.head.state == expected[0][8][5]
