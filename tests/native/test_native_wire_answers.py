"""Answers: queued, sent, cut to the peer's maximum, not taken.

Enters: instances, and peers that do not read. Leaves: C-STORE-RSPs as the golden vectors have them. Never: a response twice.
"""

import contextlib
import socket
import struct
from typing import Any

import pytest

from fastscp._ext import dimse, pdu
from fastscp._ext.memory import BufferPool
from fastscp._ext.wire import Wire
from reference import traffic, vectors
from reference.driving import native_reader
from reference.reference_dimse import encode_store_request, split_elements
from reference.serving import arrived
from reference.wiring import LONG_S, SHORT_S, Connection

# Answers.


def nothing_arrived(peer: socket.socket) -> bool:
    peer.setblocking(False)
    try:
        return not peer.recv(1)
    except BlockingIOError:
        return True
    finally:
        peer.settimeout(LONG_S)


RESPONSE: dict[str, Any] = {
    "context_id": 1,
    "message_id": 519,
    "sop_class_uid": "1.2.840.10008.5.1.4.1.1.7",
    "sop_instance_uid": "1.2.3.4",
    "status": 0xC000,
    "error_comment": "why",
    "offending_element": 0x0020000D,
}


def queue(line: Connection, wire: Wire, reader: Any) -> None:
    line.peer.sendall(vectors.STORE)
    assert wire.receive(LONG_S) == pdu.STORE
    wire.queue_store_response(reader.take_instance(), 0xC000, "why", 0x0020000D)


def test_a_queued_response_goes_with_the_next_receive(line: Connection) -> None:
    wire, reader = line.wire()
    queue(line, wire, reader)
    assert nothing_arrived(line.peer)
    assert wire.receive(SHORT_S) == pdu.TIMEOUT_IDLE
    assert arrived(line.peer, len(vectors.STORE_RESPONSE)) == vectors.STORE_RESPONSE
    assert wire.receive(SHORT_S) == pdu.TIMEOUT_IDLE
    assert nothing_arrived(line.peer)


def test_a_queued_response_can_be_flushed_and_goes_before_what_is_sent(line: Connection) -> None:
    wire, reader = line.wire()
    queue(line, wire, reader)
    wire.flush()
    assert arrived(line.peer, len(vectors.STORE_RESPONSE)) == vectors.STORE_RESPONSE
    queue(line, wire, reader)
    wire.send(vectors.RELEASE_RP)
    expected = vectors.STORE_RESPONSE + vectors.RELEASE_RP
    assert arrived(line.peer, len(expected)) == expected
    wire.flush()
    assert nothing_arrived(line.peer)


def test_one_response_is_queued_at_a_time(line: Connection) -> None:
    wire, reader = line.wire()
    queue(line, wire, reader)
    other = native_reader(BufferPool(1 << 26))
    other.feed(vectors.STORE)
    with pytest.raises(ValueError):
        wire.queue_store_response(other.take_instance(), 0)
    wire.flush()
    assert arrived(line.peer, len(vectors.STORE_RESPONSE)) == vectors.STORE_RESPONSE


def test_a_response_to_a_request_without_uids_has_none(line: Connection) -> None:
    wire, reader = line.wire()
    command = encode_store_request(message_id=3, sop_class_uid=None, sop_instance_uid=None)
    line.peer.sendall(traffic.p_data(traffic.pdv(1, command, command=True, last=True), traffic.pdv(1, b"", command=False, last=True)))
    assert wire.receive(LONG_S) == pdu.STORE
    wire.queue_store_response(reader.take_instance(), 0xC000)
    wire.flush()
    header = arrived(line.peer, 6)
    response = arrived(line.peer, struct.unpack(">L", header[2:])[0])[6:]
    assert [element for (_, element), _ in split_elements(response)] == [0x0000, 0x0100, 0x0120, 0x0800, 0x0900]


@pytest.mark.parametrize("limit_bytes", [0, 1, 8, 9, 16, 100, 125, 131, 132, 133, 16384, 0xFFFFFFFF])
def test_a_response_keeps_to_the_maximum_of_the_peer(line: Connection, limit_bytes: int) -> None:
    wire, reader = line.wire()
    wire.peer_max_pdu_bytes = limit_bytes
    assert wire.peer_max_pdu_bytes == limit_bytes
    queue(line, wire, reader)
    wire.flush()
    expected = dimse.encode_store_response(max_pdu_bytes=limit_bytes, **RESPONSE)
    assert arrived(line.peer, len(expected)) == expected


def test_a_peer_that_does_not_read_is_given_up(line: Connection) -> None:
    wire, _ = line.wire(progress_s=SHORT_S)
    with pytest.raises(TimeoutError):
        wire.send(bytes(64 << 20))


def test_a_response_that_a_peer_does_not_take_is_a_stall(line: Connection) -> None:
    wire, reader = line.wire(progress_s=SHORT_S)
    queue(line, wire, reader)
    line.own.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            line.own.send(bytes(1 << 16))
    assert wire.receive(LONG_S) == pdu.TIMEOUT_STALLED


def test_to_send_to_a_peer_that_is_gone_is_an_os_error(line: Connection) -> None:
    wire, _ = line.wire()
    line.peer.close()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        # The first bytes may still go into the socket's buffer.
        for _ in range(100):
            wire.send(bytes(1 << 16))
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        wire.send(b"x")


def test_a_response_to_a_peer_that_is_gone_ends_the_connection(line: Connection) -> None:
    wire, reader = line.wire()
    queue(line, wire, reader)
    line.peer.close()
    assert wire.receive(LONG_S) == pdu.CLOSED


@pytest.mark.parametrize("blocking", [True, False])
def test_the_socket_may_be_blocking_or_not(line: Connection, blocking: bool) -> None:
    line.own.setblocking(blocking)
    wire, reader = line.wire()
    assert wire.receive(SHORT_S) == pdu.TIMEOUT_IDLE
    line.peer.sendall(vectors.STORE)
    assert wire.receive(LONG_S) == pdu.STORE
    wire.queue_store_response(reader.take_instance(), 0)
    assert wire.receive(SHORT_S) == pdu.TIMEOUT_IDLE
    line.peer.close()
    assert wire.receive(LONG_S) == pdu.CLOSED
