"""Stage: bytes into instances. Time is per message.

Enters: one C-STORE as PDUs, from memory or a socket. Leaves: the instance, released. Never: a store or an answer.
"""

import socket
import threading

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.conftest import MAX_PDU_BYTES
from benchmarks.payloads import Payload, store_pdus
from fastscp._ext.pdu import STORE, MessageReader
from fastscp._ext.wire import Wire


@pytest.mark.benchmark(group="framing")
def test_feed(benchmark: BenchmarkFixture, reader: MessageReader, payload: Payload) -> None:
    """`MessageReader.feed`, which copies: what the tests use, and what is left over in a socket."""
    message = store_pdus(payload, MAX_PDU_BYTES)

    def feed() -> int:
        event, _ = reader.feed(message)
        reader.take_instance().release()
        return event

    assert benchmark(feed) == STORE
    benchmark.extra_info["bytes"] = len(message)


@pytest.mark.benchmark(group="framing")
def test_wire(benchmark: BenchmarkFixture, reader: MessageReader, payload: Payload) -> None:
    """`Wire.receive` from a socket pair that is always full: what the receiver uses."""
    message = store_pdus(payload, MAX_PDU_BYTES)
    ours, theirs = socket.socketpair()

    def keep_full() -> None:
        try:
            while True:
                theirs.sendall(message)
        except OSError:
            return

    sender = threading.Thread(target=keep_full)
    with ours, theirs:
        wire = Wire(ours.fileno(), reader, wake_fd=-1, progress_bytes=1, progress_s=60)
        sender.start()

        def receive() -> int:
            event = wire.receive(60)
            reader.take_instance().release()
            return event

        try:
            assert benchmark(receive) == STORE
        finally:
            ours.shutdown(socket.SHUT_RDWR)
            sender.join()
    benchmark.extra_info["bytes"] = len(message)
