"""Who owns the memory of an instance, and until when.

Enters: instances whose views, readers and owners go away in every order. Leaves: an empty pool. Never: a crash, at worst an exception.
"""

import gc
from typing import Any

import pytest

from fastscp._ext import pdu
from fastscp._ext.memory import BufferPool
from reference import traffic
from reference.driving import Limits, Spill, ask_native, ask_reference, native_reader
from reference.reference_dimse import encode_store_request

COMMAND = traffic.p_data(traffic.pdv(1, encode_store_request(), command=True, last=True))


def fragment(data: bytes, *, last: bool) -> bytes:
    return traffic.p_data(traffic.pdv(1, data, command=False, last=last))


@pytest.fixture
def pool() -> BufferPool:
    """Keeps no free segment, so that memory that was given back is gone."""
    return BufferPool(1 << 26, keep_bytes=0)


def received(pool: BufferPool, data_set: bytes | None = None) -> Any:
    reader = native_reader(pool)
    stream = traffic.store(1, traffic.data_set() if data_set is None else data_set)
    assert reader.feed(stream) == (pdu.STORE, len(stream))
    return reader.take_instance()


class Knot:
    """Refers to itself, so that only the cycle collector frees it and what it holds."""

    def __init__(self, *held: object) -> None:
        self.itself = self
        self.held = held


def test_the_cycle_collector_frees_an_instance(pool: BufferPool) -> None:
    Knot(received(pool))
    gc.collect()
    assert pool.in_use_bytes == 0


def test_the_cycle_collector_frees_an_instance_with_views(pool: BufferPool) -> None:
    instance = received(pool)
    Knot(instance, instance.segments())
    del instance
    gc.collect()
    assert pool.in_use_bytes == 0


def test_the_cycle_collector_frees_a_reader_in_a_message(pool: BufferPool) -> None:
    reader = native_reader(pool)
    reader.feed(COMMAND + fragment(b"x" * 100, last=False))
    Knot(reader, reader.instance)
    del reader
    gc.collect()
    assert pool.in_use_bytes == 0


def test_a_view_outlives_every_other_reference(pool: BufferPool) -> None:
    views = received(pool).segments()
    gc.collect()
    assert bytes(views[0][128:132]) == b"DICM"
    assert pool.in_use_bytes > 0
    del views
    gc.collect()
    assert pool.in_use_bytes == 0


def test_release_is_refused_while_a_view_is_alive_and_may_be_repeated(pool: BufferPool) -> None:
    instance = received(pool)
    views = instance.segments()
    part = views[0][:10]
    with pytest.raises(BufferError):
        instance.release()
    for view in views:
        view.release()
    with pytest.raises(BufferError):
        instance.release()
    part.release()
    instance.release()
    instance.release()
    assert pool.in_use_bytes == 0


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("segments", ()),
        ("spillable_bytes", ()),
        ("spillable_segments", ()),
        ("drop_spillable", (0,)),
        ("write_spillable", (-1,)),
        ("inflated_head", (65536,)),
    ],
)
def test_use_after_release_is_a_value_error(pool: BufferPool, method: str, arguments: tuple[int, ...]) -> None:
    instance = received(pool)
    instance.release()
    with pytest.raises(ValueError):
        getattr(instance, method)(*arguments)
    assert instance.head.state == "complete"


def test_views_are_read_only(pool: BufferPool) -> None:
    (view,) = received(pool).segments()
    assert view.readonly
    with pytest.raises(TypeError):
        view[0] = 1


def test_the_borrowed_instance_may_not_be_pulled_from_under_the_reader(pool: BufferPool) -> None:
    """`release` of an instance that is being received is refused, or the reader lives with it."""
    reader = native_reader(pool)
    reader.feed(COMMAND + fragment(b"x" * 300, last=False))
    try:
        reader.instance.release()
    except (BufferError, ValueError):
        pass
    event, _ = reader.feed(fragment(traffic.data_set(), last=True))
    if event == pdu.STORE:
        instance = reader.take_instance()
        assert instance.dataset_bytes == 300 + len(traffic.data_set())
        instance.head  # noqa: B018
    del reader
    gc.collect()


def test_views_keep_the_memory_when_the_instance_becomes_too_large(pool: BufferPool) -> None:
    reader = native_reader(pool, Limits(max_instance_bytes=200_000))
    for _ in range(3):
        reader.feed(fragment(b"x" * 60_000, last=False) if reader.instance else COMMAND + fragment(b"x" * 60_000, last=False))
    views = reader.instance.segments()
    before = [bytes(view) for view in views]
    try:
        event, _ = reader.feed(fragment(b"y" * 60_000, last=True))
    except BufferError:
        event = None
    assert [bytes(view) for view in views] == before
    del views
    if event == pdu.STORE:
        instance = reader.take_instance()
        assert instance.refusal == "too_large"
        assert instance.dataset_bytes == 240_000
        instance.release()
        del instance
    del reader
    gc.collect()
    assert pool.in_use_bytes == 0


def test_discard_is_refused_while_a_view_is_alive(pool: BufferPool) -> None:
    reader = native_reader(pool)
    reader.feed(COMMAND + fragment(b"x" * 300, last=False))
    views = reader.instance.segments()
    with pytest.raises(BufferError):
        reader.discard()
    views.clear()
    reader.discard()
    assert pool.in_use_bytes == 0
    assert reader.feed(fragment(b"x", last=True))[0] == pdu.STORE
    assert reader.take_instance().refusal == "no_memory"


def test_an_empty_identifying_element_may_be_the_last_of_the_data_set() -> None:
    """(0008,0020) DA of length 0, and nothing after it: the value begins where the data set ends."""
    stream = COMMAND + fragment(bytes.fromhex("0800 2000 4441 0000"), last=True)
    assert ask_native([stream]) == ask_reference([stream])


def test_memory_does_not_grow_with_the_instance_when_each_spill_is_taken(pool: BufferPool) -> None:
    threshold_bytes = 1 << 20
    peak_bytes = 0

    def watch(reader: object) -> None:
        nonlocal peak_bytes
        peak_bytes = max(peak_bytes, pool.in_use_bytes)

    stream = traffic.store(1, traffic.data_set(pixels=bytes(64 << 20)), pdv_bytes=60_000)
    (line, _) = ask_native([stream], Limits(spill_threshold_bytes=threshold_bytes), pool=pool, spill=Spill(), watch=watch)
    assert line[9][-1024:] == bytes(1024)
    assert line[7] == len(traffic.data_set()) + (64 << 20)
    # The threshold, the segment that is being filled, the next one, and what was read beyond the mark in one PDU.
    assert peak_bytes <= threshold_bytes + 3 * (1 << 20)
