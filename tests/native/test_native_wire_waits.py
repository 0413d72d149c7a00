"""What ends a wait: deadlines, the wake descriptor, the end of the connection.

Enters: peers that stall, dribble, close and reset. Leaves: the event that says so. Never: an assertion on how long something took.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from fastscp._ext import pdu
from fastscp._ext.wire import Wire
from reference import traffic, vectors
from reference.wiring import (
    BETWEEN_COMMAND_AND_DATA_SET,
    BETWEEN_PDVS,
    INSIDE_COMMAND,
    INSIDE_DATA_SET,
    LONG_S,
    PARTIAL_PDU,
    PARTS_OF_A_MESSAGE,
    SHORT_S,
    Connection,
    wait_for_data,
)

# Deadlines.


def test_nothing_for_a_while_is_idle(line: Connection) -> None:
    wire, _ = line.wire()
    assert wire.receive(SHORT_S) == pdu.TIMEOUT_IDLE
    line.peer.sendall(vectors.ECHO)
    assert wire.receive(LONG_S) == pdu.MESSAGE


@pytest.mark.parametrize("begun", PARTS_OF_A_MESSAGE)
def test_a_message_that_stops_is_a_stall_whatever_the_idle_time(line: Connection, begun: bytes) -> None:
    wire, reader = line.wire(progress_s=SHORT_S)
    line.peer.sendall(begun)
    wait_for_data(line.own)
    assert wire.receive(0.0) == pdu.TIMEOUT_STALLED
    assert reader.mid_message
    line.peer.sendall(vectors.STORE[len(begun) :])
    assert wire.receive(LONG_S) == pdu.STORE


def test_a_handshake_that_stops_is_a_stall(line: Connection) -> None:
    wire, reader = line.wire(progress_s=SHORT_S, established=False)
    line.peer.sendall(vectors.ASSOCIATE_RQ[:50])
    assert wire.receive(LONG_S) == pdu.TIMEOUT_STALLED
    line.peer.sendall(vectors.ASSOCIATE_RQ[50:])
    assert wire.receive(LONG_S) == pdu.CONTROL
    assert reader.take_control_pdu() == vectors.ASSOCIATE_RQ


def test_one_byte_after_another_is_a_stall(line: Connection, beside: Callable[..., Any]) -> None:
    wire, _ = line.wire(progress_bytes=1000, progress_s=SHORT_S)
    stop = threading.Event()

    def dribble() -> None:
        for at in range(len(vectors.STORE) - 1):
            line.peer.sendall(vectors.STORE[at : at + 1])
            if stop.wait(0.05):
                return

    beside(dribble)
    assert wire.receive(LONG_S) == pdu.TIMEOUT_STALLED
    stop.set()


def test_slow_but_steady_is_no_stall(line: Connection, beside: Callable[..., Any]) -> None:
    """Takes longer than the time of a stretch, with more in each than asked for."""
    wire, reader = line.wire(progress_bytes=2, progress_s=2.0)

    def send() -> None:
        for at in range(0, len(vectors.STORE), 16):
            line.peer.sendall(vectors.STORE[at : at + 16])
            time.sleep(0.2)

    beside(send)
    wait_for_data(line.own)
    # The idle time has no say once a message has begun.
    assert wire.receive(SHORT_S) == pdu.STORE
    assert reader.take_instance().dataset_bytes == len(vectors.EXPLICIT_LITTLE_DATA_SET)


def test_the_whole_call_may_have_a_deadline_that_progress_does_not_move(line: Connection, beside: Callable[..., Any]) -> None:
    wire, _ = line.wire(progress_bytes=1, progress_s=LONG_S)
    stop = threading.Event()
    fragment = traffic.p_data(traffic.pdv(1, bytes(1000), command=False, last=False))

    def send() -> None:
        line.peer.sendall(BETWEEN_COMMAND_AND_DATA_SET)
        while not stop.wait(0.005):
            line.peer.sendall(fragment)

    beside(send)
    assert wire.receive(LONG_S, SHORT_S) == pdu.TIMEOUT_STALLED
    stop.set()


@pytest.mark.parametrize("times", [(-1.0, 0.0), (1.0, -1.0)])
def test_a_negative_time_is_refused(line: Connection, times: tuple[float, float]) -> None:
    wire, _ = line.wire()
    with pytest.raises(ValueError):
        wire.receive(*times)


@pytest.mark.parametrize("idle_s", [1e9, 1e18, float("inf")])
def test_a_very_long_time_is_for_ever(line: Connection, idle_s: float) -> None:
    wire, _ = line.wire()
    line.peer.sendall(vectors.ECHO)
    assert wire.receive(idle_s, idle_s) == pdu.MESSAGE


# The wake descriptor.


def test_between_messages_a_wake_is_told(line: Connection, beside: Callable[..., Any]) -> None:
    wire, reader = line.wire()
    beside(line.wake)
    assert wire.receive(LONG_S) == pdu.WOKEN
    line.peer.sendall(vectors.ECHO)
    assert wire.receive(LONG_S) == pdu.MESSAGE
    reader.take_message()
    assert wire.receive(LONG_S) == pdu.WOKEN


@pytest.mark.parametrize("begun", PARTS_OF_A_MESSAGE)
def test_inside_a_message_a_wake_is_not_looked_at(line: Connection, begun: bytes) -> None:
    wire, _ = line.wire(progress_s=SHORT_S)
    line.wake()
    line.peer.sendall(begun)
    assert wire.receive(LONG_S) == pdu.TIMEOUT_STALLED
    line.peer.sendall(vectors.STORE[len(begun) :])
    assert wire.receive(LONG_S) == pdu.STORE


def test_what_has_arrived_comes_before_the_wake(line: Connection) -> None:
    wire, reader = line.wire()
    line.wake()
    line.peer.sendall(vectors.ECHO + vectors.STORE + vectors.RELEASE_RQ)
    assert wire.receive(LONG_S) == pdu.MESSAGE
    reader.take_message()
    assert wire.receive(LONG_S) == pdu.STORE
    reader.take_instance()
    assert wire.receive(LONG_S) == pdu.CONTROL
    reader.take_control_pdu()
    assert wire.receive(LONG_S) == pdu.WOKEN


def test_a_wake_can_be_ignored(line: Connection) -> None:
    wire, _ = line.wire()
    line.wake()
    assert wire.receive(LONG_S) == pdu.WOKEN
    wire.ignore_wake()
    assert wire.receive(SHORT_S) == pdu.TIMEOUT_IDLE


def test_there_may_be_no_wake_descriptor(line: Connection) -> None:
    wire, _ = line.wire(wake_fd=-1)
    assert wire.receive(SHORT_S) == pdu.TIMEOUT_IDLE


# The end of a connection.

STATES = {
    "nothing was sent": (b"", True),
    "a message is complete": (vectors.ECHO, True),
    "a PDU header is cut": (PARTIAL_PDU, False),
    "a command is cut": (INSIDE_COMMAND, False),
    "the data set is missing": (BETWEEN_COMMAND_AND_DATA_SET, False),
    "a data set is cut": (INSIDE_DATA_SET, False),
    "a fragment is missing": (BETWEEN_PDVS, False),
    "a control PDU is cut": (vectors.RELEASE_RQ[:-1], False),
}


def receive_complete(wire: Wire, reader: Any) -> int:
    event = wire.receive(LONG_S)
    if event == pdu.MESSAGE:
        reader.take_message()
        event = wire.receive(LONG_S)
    return event


@pytest.mark.parametrize("state", STATES)
def test_a_close_tells_whether_something_was_cut_short(line: Connection, state: str) -> None:
    sent, clean = STATES[state]
    wire, reader = line.wire()
    line.peer.sendall(sent)
    line.peer.close()
    assert receive_complete(wire, reader) == pdu.CLOSED
    assert wire.clean_close is clean


@pytest.mark.parametrize("state", STATES)
def test_a_reset_is_no_clean_close(tcp: Connection, state: str) -> None:
    sent, _ = STATES[state]
    wire, reader = tcp.wire()
    tcp.peer.sendall(sent)
    if sent == vectors.ECHO:
        # A reset throws away what has arrived and was not read.
        assert wire.receive(LONG_S) == pdu.MESSAGE
        reader.take_message()
    tcp.reset()
    assert wire.receive(LONG_S) == pdu.CLOSED
    assert wire.clean_close is False


def test_a_protocol_error_stays(line: Connection) -> None:
    wire, reader = line.wire()
    line.peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
    for _ in range(2):
        assert wire.receive(LONG_S) == pdu.PROTOCOL_ERROR
    assert reader.abort_reason == 1
