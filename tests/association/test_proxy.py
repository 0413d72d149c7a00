"""The PROXY protocol, version 2: whose a connection is, where a load balancer says so.

Enters: headers, whole and in pieces, wrong and doubled. Leaves: associations of the client's address.
Never: an address believed of who is not trusted, a byte of the association lost.
"""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
import sys
import termios
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fastscp.association.proxy import SIGNATURE, NothingFollows, ProxyHeaderError, read_client_address
from tests.association.inprocess import Running, eventually, local_pair, nothing_left_open
from tests.peers import encoding as enc
from tests.peers.datasets import make
from tests.peers.raw_scu import PeerClosed, RawScu, Rejected

Address = tuple[str, int]

PEER = ("192.0.2.1", 4242)
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)


@pytest.fixture(autouse=True)
def _left() -> Iterator[None]:
    with nothing_left_open():
        yield


def header(source: str = "203.0.113.9", port: int = 50123, *, command: int = 1, version: int = 2, tlv: bytes = b"") -> bytes:
    address = ipaddress.ip_address(source)
    family = 0x11 if address.version == 4 else 0x21
    addresses = address.packed + address.packed + struct.pack("!HH", port, 11112)
    return SIGNATURE + struct.pack("!BBH", version << 4 | command, family, len(addresses) + len(tlv)) + addresses + tlv


LOCAL = SIGNATURE + struct.pack("!BBH", 0x20, 0, 0)
"""As a load balancer sends it for its own checks."""


class InPieces(socket.socket):
    """Gives out a byte at a time, as if each had come in a segment of its own."""

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        return super().recv(min(size, 1), flags)


def read(sent: bytes, *, end: bool = False, timeout_s: float = 30.0, kind: type[socket.socket] = socket.socket) -> tuple[Address, bytes]:
    """What is read of a connection with these bytes, and what is left of them."""
    left, theirs = local_pair()
    with kind(fileno=left.detach()) as ours, theirs:
        theirs.sendall(sent)
        if end:
            theirs.shutdown(socket.SHUT_WR)
        address = read_client_address(ours, PEER, timeout_s)
        assert ours.gettimeout() is None
        return address, socket.socket.recv(ours, 4096)


def read_when_it_comes(*pieces: bytes) -> tuple[Address, bytes]:
    """The same, with each piece sent when the one before has been read."""
    ours, theirs = local_pair()
    with ours, theirs, ThreadPoolExecutor(1) as reader:
        address = reader.submit(read_client_address, ours, PEER, 30.0)
        for piece in pieces:
            theirs.sendall(piece)
            # The first byte behind the header is looked at, and stays.
            eventually(lambda: address.done() or not unread_bytes(ours), "it is read")
        return address.result(30), ours.recv(4096)


def unread_bytes(connected: socket.socket) -> int:
    return int.from_bytes(fcntl.ioctl(connected, termios.FIONREAD, bytes(4)), sys.byteorder)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (header(), ("203.0.113.9", 50123)),
        (header("2001:db8::7", 1), ("2001:db8::7", 1)),
        (header("::ffff:203.0.113.9"), ("203.0.113.9", 50123)),
        (header(tlv=b"\x04\x00\x05abcde" + b"\xea\x00\x10" + bytes(16)), ("203.0.113.9", 50123)),
        (header(tlv=b"\x04\xff\xff"), ("203.0.113.9", 50123)),
        (header(command=0), PEER),
        (SIGNATURE + struct.pack("!BBH", 0x20, 0x31, 216) + bytes(216), PEER),
        (LOCAL, PEER),
        (SIGNATURE + struct.pack("!BBH", 0x20, 0x11, 12) + bytes(12), PEER),
        (SIGNATURE + struct.pack("!BBH", 0x21, 0, 3) + bytes(3), PEER),
    ],
    ids=[
        "ipv4",
        "ipv6",
        "mapped",
        "additions",
        "additions that are none",
        "local with addresses",
        "local, unix",
        "local",
        "local, padded",
        "unspecified",
    ],
)
def test_a_header_is_read_and_nothing_behind_it(sent: bytes, expected: tuple[str, int]) -> None:
    assert read(sent + b"\x01rest") == (expected, b"\x01rest")
    assert read(sent + b"\x01rest", kind=InPieces) == (expected, b"\x01rest")


@pytest.mark.parametrize("sent", [header(), header("2001:db8::7", tlv=b"\x04\x00\x05abcde"), LOCAL], ids=["ipv4", "ipv6", "local"])
def test_a_header_that_comes_in_two_segments(sent: bytes) -> None:
    whole = read(sent + b"\x01rest")
    for at in range(1, len(sent) + 1):
        assert read_when_it_comes(sent[:at], sent[at:] + b"\x01rest") == whole, at


@pytest.mark.parametrize(
    "sent",
    [
        enc.associate_rq([enc.Context(1, enc.CT_IMAGE)]),
        b"PROXY TCP4 203.0.113.9 192.0.2.1 50123 11112\r\n",
        header(version=1) + b"\x01",
        header(version=3) + b"\x01",
        header(command=2) + b"\x01",
        SIGNATURE + struct.pack("!BBH", 0x21, 0x11, 65535) + bytes(65535),
        SIGNATURE + struct.pack("!BBH", 0x21, 0x11, 11) + bytes(11) + b"\x01",
        SIGNATURE + struct.pack("!BBH", 0x21, 0x12, 12) + bytes(12) + b"\x01",
        SIGNATURE + struct.pack("!BBH", 0x21, 0x31, 216) + bytes(216) + b"\x01",
        header() + header() + b"\x01",
        LOCAL + header() + b"\x01",
    ],
    ids=["none", "version 1", "v1 number", "v3", "command", "too long", "too short", "udp", "unix", "doubled", "doubled after local"],
)
def test_anything_else_is_refused(sent: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        read(sent)


@pytest.mark.parametrize("length", [1, 12, 15, 16, 20])
def test_an_end_inside_the_header(length: int) -> None:
    with pytest.raises((ProxyHeaderError, NothingFollows)):
        read(header()[:length], end=True)


@pytest.mark.parametrize("sent", [LOCAL, header(), b""])
def test_an_end_after_the_header_is_a_check(sent: bytes) -> None:
    with pytest.raises(NothingFollows):
        read(sent, end=True)


@pytest.mark.parametrize(
    ("sent", "expected"), [(LOCAL, NothingFollows), (header(), NothingFollows), (b"", NothingFollows), (header()[:20], ProxyHeaderError)]
)
def test_a_reset_is_an_end(sent: bytes, expected: type[Exception]) -> None:
    ours, theirs = local_pair()
    with ours:
        theirs.sendall(sent)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        with pytest.raises(expected):
            read_client_address(ours, PEER, 30.0)


@pytest.mark.parametrize("sent", [b"", header()[:5], header()])
def test_silence_has_a_deadline(sent: bytes) -> None:
    with pytest.raises(TimeoutError):
        read(sent, timeout_s=0.1)


def connect(running: Running, first: bytes) -> RawScu:
    scu = running.connect()
    scu.send(first)
    return scu


def running(**settings: Any) -> Running:
    return Running(**{"proxy_protocol": LOOPBACK, **settings})


def test_the_clients_address_is_the_one_that_counts() -> None:
    clients = (ipaddress.ip_network("203.0.113.0/24"),)
    with running(peers=clients) as receiver:
        made = make()
        with connect(receiver, header("203.0.113.77", 777)) as scu:
            scu.associate()
            assert scu.store(made.sop_class, made.sop_instance, made.data_set).status == 0
            (association,) = receiver.acceptor._associations
            assert association.story.peer == ("203.0.113.77", 777)
            assert association.requestor.address == "203.0.113.77"
            assert association.story.record()["peer_address"] == "203.0.113.77"
            scu.release()
        with connect(receiver, header("198.51.100.1")) as scu, pytest.raises(Rejected):
            scu.associate()
        # Not the load balancer's own address either.
        with connect(receiver, LOCAL) as scu, pytest.raises(Rejected):
            scu.associate()
        receiver.wait_none_left()


def test_checks_leave_no_trace_but_a_count() -> None:
    """What is in the log of a process: tests/service_process/test_log_of_connections.py."""
    with running() as receiver:
        for first in (LOCAL, header()):
            connect(receiver, first).close()
            connect(receiver, first).reset()
        receiver.connect().close()
        eventually(lambda: receiver.sample("fastscp_connections_total", result="empty") == 5, "they are counted")
        receiver.wait_none_left()
        assert receiver.sample("fastscp_connections_total", result="garbage") == 0


def test_who_says_nothing_after_the_header_is_closed() -> None:
    with running(associate_timeout_s=0.2) as receiver, connect(receiver, header()) as scu:
        with pytest.raises(PeerClosed):
            scu.read_pdu()
        eventually(lambda: receiver.sample("fastscp_connections_total", result="timed_out") == 1, "it is counted")
        receiver.wait_none_left()


@pytest.mark.parametrize("networks", [LOOPBACK, (ipaddress.ip_network("10.0.0.0/8"),)], ids=["trusted", "not trusted"])
@pytest.mark.parametrize("first", [b"", header()], ids=["without", "with"])
def test_a_header_is_needed_and_believed_of_the_trusted_only(networks: Any, first: bytes) -> None:
    with running(proxy_protocol=networks) as receiver, connect(receiver, first) as scu:
        if first and networks == LOOPBACK:
            scu.associate()
            scu.release()
        else:
            scu.send(enc.associate_rq([enc.Context(1, enc.CT_IMAGE)]))
            with pytest.raises((PeerClosed, ConnectionError)):
                scu.read_pdu()
            eventually(lambda: receiver.sample("fastscp_connections_total", result="garbage") == 1, "it is counted")
        receiver.wait_none_left()


def test_without_the_option_a_header_is_no_association_request() -> None:
    with Running() as receiver:
        connect(receiver, header()).close()
        eventually(lambda: receiver.sample("fastscp_connections_total", result="garbage") == 1, "it is counted")
        receiver.wait_none_left()
