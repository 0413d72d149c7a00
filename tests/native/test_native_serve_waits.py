"""What ends `Wire.serve`: deadlines, the wake descriptor, other messages, errors; each behind instances that it committed.

Enters: peers that go on, stop, wake, leave, or take nothing. Leaves: the event, and answers before it. Never: an assertion on how long.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastscp._ext import pdu
from fastscp._ext.committer import NullCommitter
from fastscp._ext.files import FileCommitter
from reference import traffic, vectors
from reference.reference_dimse import encode_store_request
from reference.serving import Serving, assert_answers, ordinary
from reference.wiring import INSIDE_COMMAND, INSIDE_DATA_SET, LONG_S, PARTIAL_PDU, SHORT_S, Connection

# Deadlines.


def test_the_idle_time_counts_from_the_last_message(tcp: Connection, beside: Callable[..., Any]) -> None:
    """More messages come, one after the other, than there would be time for in one wait."""
    serving = Serving(tcp, NullCommitter())
    sent = [ordinary(number) for number in range(1, 12)]
    idle_s = 2.0

    def send() -> None:
        for each in sent:
            time.sleep(idle_s / 10)
            tcp.peer.sendall(each.stream)

    beside(send)
    assert serving.serve(idle_s) == pdu.TIMEOUT_IDLE
    serving.assert_committed(*sent)
    assert_answers(tcp.peer, b"".join(each.answer() for each in sent))


def test_what_is_there_is_read_though_the_idle_time_is_over(line: Connection) -> None:
    """As after an answer that took as long to send. A fragment without payload ends each: with any other the next header is read too."""
    serving = Serving(line, NullCommitter())
    sent = [ordinary(number) for number in range(1, 4)]
    for each in sent:
        command = encode_store_request(message_id=each.message_id, sop_instance_uid=each.sop_instance_uid)
        pdvs = traffic.fragments(1, command, [], command=True) + traffic.fragments(1, each.data_set, [], command=False, zero_last=True)
        line.peer.sendall(traffic.packed(pdvs, []))
    assert serving.serve(0.0) == pdu.TIMEOUT_IDLE
    serving.assert_committed(*sent)
    assert_answers(line.peer, b"".join(each.answer() for each in sent))


@pytest.mark.parametrize("begun", [PARTIAL_PDU, INSIDE_COMMAND, INSIDE_DATA_SET])
def test_a_message_that_stops_behind_one_that_was_committed(line: Connection, begun: bytes) -> None:
    serving = Serving(line, NullCommitter(), progress_s=SHORT_S)
    line.peer.sendall(ordinary(1).stream + begun)
    assert serving.serve(LONG_S) == pdu.TIMEOUT_STALLED
    assert serving.reader.mid_message
    assert serving.wire.committed == (1, len(ordinary(1).data_set))
    line.peer.sendall(vectors.STORE[len(begun) :] + vectors.ECHO)
    assert serving.serve() == pdu.MESSAGE
    assert serving.wire.committed == (2, len(ordinary(1).data_set) + len(vectors.EXPLICIT_LITTLE_DATA_SET))


def test_a_peer_that_does_not_take_answers_is_a_stall(line: Connection, beside: Callable[..., Any]) -> None:
    serving = Serving(line, NullCommitter(), progress_s=1.0)
    for each, option in ((line.own, socket.SO_SNDBUF), (line.peer, socket.SO_RCVBUF)):
        each.setsockopt(socket.SOL_SOCKET, option, 4096)
    count = 5000

    def send() -> None:
        with contextlib.suppress(OSError):
            line.peer.sendall(ordinary(1).stream * count)

    sending = beside(send)
    assert serving.serve(LONG_S) == pdu.TIMEOUT_STALLED
    committed, dataset_bytes = serving.wire.committed
    assert 0 < committed < count
    assert dataset_bytes == committed * len(ordinary(1).data_set)
    line.own.shutdown(socket.SHUT_RDWR)
    line.own.close()
    sending.result(LONG_S)


# The wake descriptor.


def test_between_messages_a_wake_is_told(line: Connection, beside: Callable[..., Any]) -> None:
    serving = Serving(line, NullCommitter())
    event = beside(serving.serve)
    line.peer.sendall(ordinary(1).stream)
    assert_answers(line.peer, ordinary(1).answer())
    line.wake()
    assert event.result(LONG_S) == pdu.WOKEN
    serving.wire.ignore_wake()
    line.peer.sendall(ordinary(2).stream)
    assert serving.serve(SHORT_S) == pdu.TIMEOUT_IDLE
    serving.assert_committed(ordinary(1), ordinary(2))


def test_what_has_arrived_is_committed_before_the_wake(line: Connection) -> None:
    serving = Serving(line, NullCommitter())
    line.wake()
    sent = [ordinary(number) for number in range(1, 6)]
    line.peer.sendall(b"".join(each.stream for each in sent))
    assert serving.serve() == pdu.WOKEN
    serving.assert_committed(*sent)
    assert_answers(line.peer, b"".join(each.answer() for each in sent))


# Everything else that a peer does.

ENDS = {
    "an echo": (vectors.ECHO, pdu.MESSAGE),
    "a release": (vectors.RELEASE_RQ, pdu.CONTROL),
    "an abort": (vectors.ABORT, pdu.CONTROL),
    "no PDU": (b"GET / HTTP/1.1\r\n\r\n", pdu.PROTOCOL_ERROR),
    "a context that was not accepted": (vectors.STORE[:10] + b"\x0b" + vectors.STORE[11:], pdu.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("end", ENDS)
def test_another_message_behind_those_that_were_committed(line: Connection, end: str) -> None:
    """All that was stored before it is answered before it is told."""
    stream, event = ENDS[end]
    serving = Serving(line, NullCommitter())
    sent = [ordinary(number) for number in range(1, 4)]
    line.peer.sendall(b"".join(each.stream for each in sent) + stream)
    assert serving.serve() == event
    assert_answers(line.peer, b"".join(each.answer() for each in sent))
    serving.assert_committed(*sent)
    if event == pdu.MESSAGE:
        assert serving.reader.take_message() == (1, vectors.ECHO_COMMAND, b"")
    elif event == pdu.CONTROL:
        assert serving.reader.take_control_pdu() == stream
    else:
        assert serving.serve() == pdu.PROTOCOL_ERROR
        return
    line.peer.sendall(ordinary(4).stream + vectors.ECHO)
    assert serving.serve() == pdu.MESSAGE
    serving.assert_committed(*sent, ordinary(4))


@pytest.mark.parametrize("cut_bytes", [0, 1, 40, 150])
def test_a_close_behind_one_that_was_committed(line: Connection, cut_bytes: int) -> None:
    serving = Serving(line, NullCommitter())
    line.peer.sendall(ordinary(1).stream + ordinary(2).stream[:cut_bytes])
    line.peer.shutdown(socket.SHUT_WR)
    assert serving.serve() == pdu.CLOSED
    assert serving.wire.clean_close is (cut_bytes == 0)
    assert_answers(line.peer, ordinary(1).answer())
    serving.reader.close()
    serving.assert_committed(ordinary(1))


def test_a_reset_behind_one_that_was_committed(tcp: Connection) -> None:
    """It was stored, and is counted, whether or not the peer has read so."""
    serving = Serving(tcp, NullCommitter())
    tcp.peer.sendall(ordinary(1).stream)
    tcp.wake()
    assert serving.serve() == pdu.WOKEN
    tcp.reset()
    assert serving.serve() == pdu.CLOSED
    assert serving.wire.clean_close is False
    serving.assert_committed(ordinary(1))


# Other threads.


def test_other_threads_run_while_one_serves(line: Connection, beside: Callable[..., Any]) -> None:
    """Held, the interpreter lock would keep this thread from sending what the other waits for."""
    serving = Serving(line, NullCommitter())
    entered = threading.Event()

    def serve() -> int:
        entered.set()
        return serving.serve(20.0)

    event = beside(serve)
    entered.wait(LONG_S)
    for number in range(1, 20):
        line.peer.sendall(ordinary(number).stream)
        assert_answers(line.peer, ordinary(number).answer())
    line.peer.sendall(vectors.ECHO)
    assert event.result(LONG_S) == pdu.MESSAGE


def test_other_threads_run_while_one_commits(tmp_path: Path, tcp: Connection, beside: Callable[..., Any]) -> None:
    """A temporary file lives as long as its commit, and none has its name again: whoever sees it twice ran in between.

    Held, the interpreter lock would let this thread see it once at most: it needs the lock between two looks.
    """
    (tmp_path / "incoming").mkdir()
    root_fd = os.open(tmp_path, os.O_RDONLY)
    try:
        serving = Serving(tcp, FileCommitter(root_fd, b"incoming", replace=True, fsync=True))
        event = beside(serving.serve)
        stop = threading.Event()
        large = ordinary(1, bytes(8_000_000))

        def send() -> None:
            for _ in range(300):
                tcp.peer.sendall(large.stream)
                if stop.is_set():
                    break
            tcp.peer.sendall(vectors.ECHO)

        sending = beside(send)
        seen_twice: set[str] = set()
        while not seen_twice and not sending.done():
            first = set(os.listdir(tmp_path / "incoming"))
            seen_twice = first & set(os.listdir(tmp_path / "incoming"))
        stop.set()
        assert event.result(LONG_S) == pdu.MESSAGE
        assert seen_twice
    finally:
        os.close(root_fd)
