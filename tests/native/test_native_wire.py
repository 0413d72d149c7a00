"""The wire over real sockets: cuts by real sends, memory that is short, descriptors, other threads.

Enters: peers that send as they like. Leaves: the events that the reference has. Never: an assertion on how long something took.
"""

import contextlib
import fcntl
import os
import random
import resource
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from fastscp._ext import pdu
from fastscp._ext.memory import SEGMENT_SIZES_BYTES, BufferPool
from reference import traffic, vectors
from reference.driving import Limits, Line, ask_reference, native_reader
from reference.wiring import INSIDE_DATA_SET, LONG_S, SHORT_S, Connection, transcript

LARGEST_BYTES = SEGMENT_SIZES_BYTES[-1]


def conversation(seed: int) -> bytes:
    chance = random.Random(seed)
    pixels = chance.randbytes(chance.choice([0, 1, 5000, 70_000, 3_000_000]))
    parts = [
        vectors.STORE,
        vectors.ECHO,
        traffic.store(1, traffic.data_set(pixels=pixels), pdv_bytes=chance.choice([997, 16378, 60_000])),
        traffic.store(3, traffic.data_set(explicit_vr=False), pdv_bytes=1),
        vectors.ASSOCIATE_RQ,
    ]
    chance.shuffle(parts)
    return vectors.ASSOCIATE_RQ + b"".join(parts) + vectors.RELEASE_RQ


@pytest.mark.parametrize("seed", range(8))
def test_any_sends_give_the_same_events(line: Connection, beside: Callable[..., Any], seed: int) -> None:
    stream = conversation(seed)
    chance = random.Random(seed)

    def send() -> None:
        view = memoryview(stream)
        while view:
            size = min(len(view), chance.choice([1, 2, 6, 7, 100, 5000, 200_000]))
            line.peer.sendall(view[:size])
            view = view[size:]
            if size < 100:
                time.sleep(0)
        line.peer.close()

    wire, reader = line.wire(limits=Limits(spill_threshold_bytes=1 << 18))
    beside(send)
    assert transcript(wire, reader) == ask_reference([stream])
    assert reader.received_bytes == len(stream)


def test_every_byte_may_arrive_alone(tcp: Connection) -> None:
    """The reader is given each byte of two messages by a receive of its own."""
    stream = vectors.STORE + vectors.ECHO
    wire, reader = tcp.wire()
    lines: list[Line] = []
    for at in range(len(stream)):
        tcp.peer.sendall(stream[at : at + 1])
        # Once for the byte, until it is taken in; a message in progress then stalls, with a deadline that has passed.
        while reader.received_bytes <= at:
            event = wire.receive(LONG_S, 0.005)
        if event == pdu.STORE:
            lines.append(("store", b"".join(reader.take_instance().segments())))
        elif event == pdu.MESSAGE:
            lines.append(("message", *reader.take_message()))
        else:
            assert event == pdu.TIMEOUT_STALLED
            assert reader.mid_message
    assert lines == [
        ("store", vectors.STORE_FILE_META + vectors.EXPLICIT_LITTLE_DATA_SET),
        ("message", 1, vectors.ECHO_COMMAND, b""),
    ]


# Memory.


def test_receive_is_refused_while_a_view_is_alive(line: Connection) -> None:
    wire, reader = line.wire(progress_s=SHORT_S)
    line.peer.sendall(INSIDE_DATA_SET)
    assert wire.receive(LONG_S) == pdu.TIMEOUT_STALLED
    views = reader.instance.segments()
    with pytest.raises(BufferError):
        wire.receive(LONG_S)
    for view in views:
        view.release()
    line.peer.sendall(vectors.STORE[len(INSIDE_DATA_SET) :])
    assert wire.receive(LONG_S) == pdu.STORE


def test_without_memory_nothing_is_read_until_there_is_some(tcp: Connection, beside: Callable[..., Any]) -> None:
    pool = BufferPool(2 * LARGEST_BYTES)
    other = native_reader(pool)
    data = traffic.data_set(pixels=bytes(range(256)) * 6000)
    other.feed(traffic.store(1, data))
    hostage = other.take_instance()
    wire, reader = tcp.wire(pool=pool)
    stream = traffic.store(1, data) + vectors.RELEASE_RQ
    beside(tcp.peer.sendall, stream)
    for _ in range(3):
        assert wire.receive(LONG_S) == pdu.NO_MEMORY
    assert reader.received_bytes < len(stream)
    assert not pool.wait_available(0.0)
    waiting = beside(pool.wait_available, LONG_S)
    hostage.release()
    assert waiting.result(LONG_S) is True
    assert wire.receive(LONG_S) == pdu.STORE
    instance = reader.take_instance()
    assert b"".join(instance.segments())[instance.file_meta_bytes :] == data


def test_a_discarded_instance_is_read_to_its_end(tcp: Connection, beside: Callable[..., Any]) -> None:
    pool = BufferPool(LARGEST_BYTES)
    wire, reader = tcp.wire(pool=pool)
    data = traffic.data_set(pixels=bytes(4 << 20))
    beside(tcp.peer.sendall, traffic.store(1, data) + vectors.STORE)
    assert wire.receive(LONG_S) == pdu.NO_MEMORY
    reader.discard()
    assert pool.in_use_bytes == 0
    assert wire.receive(LONG_S) == pdu.STORE
    refused = reader.take_instance()
    assert (refused.refusal, refused.dataset_bytes) == ("no_memory", len(data))
    wire.queue_store_response(refused, 0xA700)
    assert wire.receive(LONG_S) == pdu.STORE
    assert reader.take_instance().refusal is None


# Descriptors and threads.


@pytest.mark.parametrize("above", [1024, 1500])
def test_descriptors_over_1024_work(tcp: Connection, above: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard <= above + 8:
        pytest.fail(f"the system allows only {hard} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, above + 8), hard))
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, above) for fd in (tcp.own.fileno(), tcp.wake_read)]
    try:
        assert min(high) >= above
        wire, reader = tcp.wire(fd=high[0], wake_fd=high[1], progress_s=SHORT_S)
        assert wire.receive(SHORT_S) == pdu.TIMEOUT_IDLE
        tcp.wake()
        assert wire.receive(LONG_S) == pdu.WOKEN
        tcp.peer.sendall(vectors.STORE[:100])
        assert wire.receive(LONG_S) == pdu.TIMEOUT_STALLED
        tcp.peer.sendall(vectors.STORE[100:])
        assert wire.receive(LONG_S) == pdu.STORE
        wire.queue_store_response(reader.take_instance(), 0)
        with pytest.raises(TimeoutError):
            wire.send(bytes(64 << 20))
    finally:
        for fd in high:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def drained(peer: socket.socket) -> bytes:
    out = b""
    with contextlib.suppress(ConnectionResetError):
        while data := peer.recv(1 << 20):
            out += data
    return out


def test_other_threads_run_while_one_receives(line: Connection, beside: Callable[..., Any]) -> None:
    """Held, the interpreter lock would keep this thread from sending what the other waits for."""
    wire, _ = line.wire()
    entered = threading.Event()

    def receive() -> int:
        entered.set()
        return wire.receive(20.0)

    received = beside(receive)
    entered.wait(LONG_S)
    time.sleep(SHORT_S)
    line.peer.sendall(vectors.ECHO)
    assert received.result(LONG_S) == pdu.MESSAGE


def test_other_threads_run_while_one_sends(line: Connection, beside: Callable[..., Any]) -> None:
    wire, _ = line.wire(progress_s=20.0)
    entered = threading.Event()
    data = bytes(range(256)) * (64 << 10)

    def send() -> None:
        entered.set()
        wire.send(data)
        line.own.shutdown(socket.SHUT_WR)

    beside(send)
    entered.wait(LONG_S)
    time.sleep(SHORT_S)
    assert drained(line.peer) == data
