"""Calls that an owner must not make, and calls in an order that no owner should: each is refused, and nothing is lost by it.

Enters: readers and instances in the wrong state. Leaves: exceptions. Never: a reader that cannot go on after a refused call.
"""

from typing import Any

import pytest

from fastscp._ext import pdu
from fastscp._ext.memory import BufferPool
from reference import traffic, vectors
from reference.driving import CONTEXTS, STORE_CONTEXT_IDS, Limits, native_reader


@pytest.fixture
def pool() -> BufferPool:
    return BufferPool(1 << 26, keep_bytes=0)


def test_only_what_is_complete_is_taken(pool: BufferPool) -> None:
    reader = native_reader(pool)
    taking = {pdu.STORE: reader.take_instance, pdu.MESSAGE: reader.take_message, pdu.CONTROL: reader.take_control_pdu}
    rest = vectors.ECHO + vectors.STORE + vectors.RELEASE_RQ
    for expected in (pdu.NEED_DATA, pdu.MESSAGE, pdu.STORE, pdu.CONTROL):
        event, consumed = reader.feed(rest if expected != pdu.NEED_DATA else b"")
        rest = rest[consumed:]
        assert event == expected
        for other, take in taking.items():
            if other != expected:
                with pytest.raises(ValueError):
                    take()
        if expected != pdu.NEED_DATA:
            taking[expected]()
            with pytest.raises(ValueError):
                taking[expected]()
    assert not rest


def test_an_event_stands_until_its_result_is_taken(pool: BufferPool) -> None:
    reader = native_reader(pool)
    event, consumed = reader.feed(vectors.STORE + vectors.ECHO)
    for _ in range(3):
        assert reader.feed(vectors.ECHO) == (pdu.STORE, 0)
    assert event == pdu.STORE
    reader.take_instance()
    assert reader.feed((vectors.STORE + vectors.ECHO)[consumed:])[0] == pdu.MESSAGE


def test_there_is_nothing_to_discard_outside_an_instance(pool: BufferPool) -> None:
    reader = native_reader(pool)
    with pytest.raises(ValueError):
        reader.discard()
    reader.feed(vectors.STORE)
    with pytest.raises(ValueError):
        reader.discard()
    assert reader.take_instance().refusal is None


def test_an_association_is_established_once(pool: BufferPool) -> None:
    reader = native_reader(pool)
    with pytest.raises(ValueError):
        reader.establish(CONTEXTS, STORE_CONTEXT_IDS, "STORESCU")
    assert reader.feed(vectors.STORE)[0] == pdu.STORE


@pytest.mark.parametrize(
    ("contexts", "title"),
    [({0: "1.2"}, "A"), ({256: "1.2"}, "A"), ({-1: "1.2"}, "A"), ({1: "1" * 65}, "A"), ({1: "1.2"}, "A" * 17), ({1: "1.2"}, "\u00e9")],
)
def test_what_cannot_be_negotiated_cannot_be_established(pool: BufferPool, contexts: dict[int, str], title: str) -> None:
    reader = native_reader(pool, established=False)
    with pytest.raises(ValueError):
        reader.establish(contexts, frozenset({1}), title)
    reader.establish(CONTEXTS, STORE_CONTEXT_IDS, "STORESCU")
    assert reader.feed(vectors.STORE)[0] == pdu.STORE


def test_only_a_deflated_head_is_inflated_and_only_while_it_is_there(pool: BufferPool) -> None:
    reader = native_reader(pool)
    reader.feed(vectors.STORE)
    with pytest.raises(ValueError):
        reader.take_instance().inflated_head(4096)


def test_a_deflated_instance_is_kept_until_its_head_is_found(pool: BufferPool) -> None:
    reader = native_reader(pool, Limits(spill_threshold_bytes=1 << 16), established=False)
    reader.establish({1: "1.2.840.10008.1.2.1.99"}, frozenset({1}), "STORESCU")
    # The stored block of the data set as one that is not the last, then empty ones.
    empty = vectors.octets("00 0000 FFFF")
    stream = traffic.store(1, b"\0" + vectors.DEFLATED_DATA_SET[1:] + empty * 40_000)
    event, _ = reader.feed(stream)
    assert event == pdu.SPILL
    instance = reader.instance
    assert instance.spillable_bytes() == 0
    assert instance.inflated_head(4096).series_instance_uid == "1.2.3.1"
    assert instance.spillable_bytes() > 0
    views = instance.spillable_segments()
    count_bytes = sum(map(len, views))
    del views
    instance.drop_spillable(count_bytes)
    assert instance.inflated_head(4096).series_instance_uid == "1.2.3.1"


def test_complete_is_true_with_the_last_fragment(pool: BufferPool) -> None:
    reader = native_reader(pool, Limits(spill_threshold_bytes=1))
    assert reader.feed(vectors.STORE)[0] == pdu.SPILL
    assert reader.instance.complete is False
    while reader.feed(vectors.STORE[reader.received_bytes :])[0] != pdu.STORE:
        pass
    assert reader.instance.complete is True
    assert reader.take_instance().complete is True
    assert reader.instance is None


# close


@pytest.mark.parametrize("begun", [0, 3, 40, 114, 140, 176, len(vectors.STORE)])
def test_a_closed_reader_gives_back_what_it_holds(pool: BufferPool, begun: int) -> None:
    reader = native_reader(pool)
    reader.feed(vectors.STORE[:begun])
    for _ in range(2):
        reader.close()
    assert pool.in_use_bytes == 0
    assert reader.feed(vectors.STORE[begun:]) == (pdu.PROTOCOL_ERROR, 0)
    assert reader.error_text


def test_a_reader_is_not_closed_under_a_view(pool: BufferPool) -> None:
    reader = native_reader(pool)
    reader.feed(vectors.STORE[:140])
    views = reader.instance.segments()
    with pytest.raises(BufferError):
        reader.close()
    assert bytes(views[0][128:132]) == b"DICM"
    views.clear()
    reader.close()
    assert pool.in_use_bytes == 0


def test_what_was_taken_outlives_the_close(pool: BufferPool) -> None:
    reader = native_reader(pool)
    reader.feed(vectors.STORE)
    instance: Any = reader.take_instance()
    reader.close()
    assert b"".join(instance.segments()) == vectors.STORE_FILE_META + vectors.EXPLICIT_LITTLE_DATA_SET
