"""What `Wire.serve` commits and answers itself, and what it leaves to the owner.

Enters: ordinary instances and every kind that is not. Leaves: counts and answers, byte for byte. Never: an ordinary instance as an event.
"""

from collections.abc import Callable
from typing import Any

import pytest

from fastscp._ext import pdu
from fastscp._ext.committer import Committer, NullCommitter
from fastscp._ext.memory import SEGMENT_SIZES_BYTES, BufferPool
from fastscp._ext.tally import Sender, StoredTally
from reference import traffic, vectors
from reference.driving import Limits
from reference.serving import (
    BOUNDS_S,
    LARGE_BYTES,
    NOT_ORDINARY,
    Serving,
    arrived,
    assert_answers,
    assert_left_to_owner,
    ordinary,
    response,
)
from reference.wiring import LONG_S, SHORT_S, Connection, tcp_pair

LARGEST_BYTES = SEGMENT_SIZES_BYTES[-1]


@pytest.mark.parametrize("context_id", [1, 3, 5, 7])
def test_an_ordinary_instance_is_answered_and_is_no_event(line: Connection, context_id: int) -> None:
    serving = Serving(line, NullCommitter())
    syntax = {3: {"explicit_vr": False}, 5: {"little_endian": False}}.get(context_id, {})
    data_set = traffic.data_set(pixels=b"\1\2\3\4", **syntax)
    line.peer.sendall(traffic.store(context_id, data_set, message_id=519) + vectors.ECHO)
    assert serving.serve() == pdu.MESSAGE
    serving.reader.take_message()
    assert_answers(line.peer, response(519, "1.2.3.4", context_id=context_id))
    assert serving.wire.committed == (1, len(data_set))
    assert not serving.reader.mid_message
    assert serving.reader.instance is None


def test_several_without_waiting_are_answered_in_order(line: Connection, beside: Callable[..., Any]) -> None:
    serving = Serving(line, NullCommitter())
    sent = [ordinary(number) for number in range(1, 200)]
    beside(line.peer.sendall, b"".join(each.stream for each in sent) + vectors.ECHO)
    assert serving.serve() == pdu.MESSAGE
    assert_answers(line.peer, b"".join(each.answer() for each in sent))
    serving.assert_committed(*sent)


@pytest.mark.parametrize("limit_bytes", [1, 16, 100, 131, 132, 16384])
def test_an_answer_keeps_to_the_maximum_of_the_peer(line: Connection, limit_bytes: int) -> None:
    serving = Serving(line, NullCommitter())
    serving.wire.peer_max_pdu_bytes = limit_bytes
    sent = [ordinary(number) for number in (1, 2)]
    line.peer.sendall(b"".join(each.stream for each in sent) + vectors.ECHO)
    assert serving.serve() == pdu.MESSAGE
    assert_answers(line.peer, b"".join(each.answer(max_pdu_bytes=limit_bytes) for each in sent))


def test_a_large_instance_is_committed_and_its_memory_given_back(tcp: Connection, beside: Callable[..., Any]) -> None:
    serving = Serving(tcp, NullCommitter())
    sent = [ordinary(number, bytes(5_000_000)) for number in (1, 2, 3)]
    beside(tcp.peer.sendall, b"".join(each.stream for each in sent) + vectors.RELEASE_RQ)
    assert serving.serve() == pdu.CONTROL
    assert_answers(tcp.peer, b"".join(each.answer() for each in sent))
    serving.assert_committed(*sent)


@pytest.mark.parametrize("kind", NOT_ORDINARY)
def test_what_is_not_ordinary_is_the_owners_and_what_follows_is_not(line: Connection, kind: str) -> None:
    stream, refusal = NOT_ORDINARY[kind]
    serving = Serving(line, NullCommitter(), limits=Limits(max_instance_bytes=LARGE_BYTES))
    sent = [ordinary(number) for number in range(1, 5)]
    line.peer.sendall(sent[0].stream + stream + sent[1].stream + sent[2].stream + stream + sent[3].stream + vectors.ECHO)
    for committed in (1, 3):
        instance = assert_left_to_owner(serving, refusal=refusal)
        assert serving.wire.committed[0] == committed
        assert refusal or stream.endswith(b"".join(instance.segments())[instance.file_meta_bytes :])
        instance.release()
    assert serving.serve() == pdu.MESSAGE
    serving.assert_committed(*sent)
    assert_answers(line.peer, b"".join(each.answer() for each in sent))


def test_one_that_is_malformed_is_told_from_one_that_is_cut(line: Connection) -> None:
    """That is to say: the messages above are what they are called."""
    serving = Serving(line, NullCommitter())
    states = {}
    for kind in ("a head that is cut", "a head that is malformed", "no study", "an empty study"):
        line.peer.sendall(NOT_ORDINARY[kind][0])
        states[kind] = assert_left_to_owner(serving).head.state
    assert list(states.values()) == ["incomplete", "malformed", "complete", "complete"]


def test_a_refused_one_may_be_taken_later_and_is_not_committed_meanwhile(line: Connection) -> None:
    """What stands until it is taken is looked at again, with the same result."""
    serving = Serving(line, NullCommitter())
    line.peer.sendall(NOT_ORDINARY["no study"][0] + ordinary(1).stream)
    for _ in range(3):
        assert serving.serve() == pdu.STORE
    serving.take().release()
    assert serving.serve(SHORT_S) == pdu.TIMEOUT_IDLE
    serving.assert_committed(ordinary(1))


# Events before the end.


def test_one_of_which_spill_came_is_the_owners(tcp: Connection, beside: Callable[..., Any]) -> None:
    """Whether or not anything was spilled: an upload may have begun."""
    serving = Serving(tcp, NullCommitter(), limits=Limits(spill_threshold_bytes=1 << 18))
    large = ordinary(2, bytes(range(256)) * 2000)
    for spilled in (False, True):
        beside(tcp.peer.sendall, ordinary(1).stream + large.stream + ordinary(3).stream + vectors.ECHO)
        assert serving.serve() == pdu.SPILL
        if spilled:
            serving.reader.instance.drop_spillable(serving.reader.instance.spillable_bytes())
        while (event := serving.serve()) == pdu.SPILL:
            pass
        assert event == pdu.STORE
        instance = serving.take(0x0000)
        assert (instance.spilled_bytes > 0) is spilled
        assert instance.ordinary_name() == ("1.2.3", "1.2.3.1", large.sop_instance_uid)
        instance.release()
        assert serving.serve() == pdu.MESSAGE
        serving.reader.take_message()
        assert_answers(tcp.peer, ordinary(1).answer() + large.answer() + ordinary(3).answer())
    serving.assert_committed(ordinary(1), ordinary(3), ordinary(1), ordinary(3))


@pytest.mark.parametrize("given_up", [False, True])
def test_one_that_memory_was_short_for_is_the_owners(tcp: Connection, beside: Callable[..., Any], given_up: bool) -> None:
    pool = BufferPool(2 * LARGEST_BYTES)
    hostage_data = traffic.data_set(pixels=bytes(1_500_000))
    serving = Serving(tcp, Committer(), pool=pool)
    beside(tcp.peer.sendall, traffic.store(1, hostage_data))
    hostage = assert_left_to_owner(serving)

    other = Connection(*tcp_pair())
    try:
        short = Serving(other, NullCommitter(), pool=pool)
        large = ordinary(2, bytes(1_500_000))
        beside(other.peer.sendall, large.stream + ordinary(3).stream + vectors.ECHO)
        assert short.serve() == pdu.NO_MEMORY
        if given_up:
            short.reader.discard()
        hostage.release()
        instance = assert_left_to_owner(short, refusal="no_memory" if given_up else None)
        short.wire.queue_store_response(instance, 0xA700 if given_up else 0x0000)
        instance.release()
        assert short.serve() == pdu.MESSAGE
        short.assert_committed(ordinary(3))
        assert_answers(other.peer, large.answer(0xA700 if given_up else 0x0000) + ordinary(3).answer())
    finally:
        other.close()


def test_a_tally_and_a_sender_of_many_are_exact(beside: Callable[..., Any]) -> None:
    """Several wires, each in its thread, that count in one and the same; none of them holds the interpreter lock."""
    tally, sender, committer, count = StoredTally(BOUNDS_S), Sender(), NullCommitter(), 5000
    sent = [ordinary(number) for number in range(50)]
    stream = b"".join(each.stream for each in sent) * (count // len(sent)) + vectors.ECHO
    answers = b"".join(each.answer() for each in sent) * (count // len(sent))
    dataset_bytes = sum(len(each.data_set) for each in sent) * (count // len(sent))
    lines = [Connection(*tcp_pair()) for _ in range(4)]
    try:
        servings = [Serving(each, committer, tally=tally, sender=sender) for each in lines]
        events = [beside(serving.serve) for serving in servings]
        for each in lines:
            beside(each.peer.sendall, stream)
        arriving = [beside(arrived, each.peer, len(answers)) for each in lines]
        assert [event.result(LONG_S) for event in events] == [pdu.MESSAGE] * len(lines)
        assert [serving.wire.committed for serving in servings] == [(count, dataset_bytes)] * len(lines)
        assert (sender.instance_count, sender.dataset_bytes) == (count * len(lines), dataset_bytes * len(lines))
        buckets, all_bytes, store_s = tally.snapshot()
        assert (sum(buckets), all_bytes) == (count * len(lines), dataset_bytes * len(lines))
        assert store_s > 0
        assert all(future.result(LONG_S) == answers for future in arriving)
    finally:
        for each in lines:
            each.close()
