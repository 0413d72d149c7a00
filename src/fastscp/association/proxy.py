"""The header that a load balancer puts before the bytes of a connection, to say whose it is.

Enters: a connected socket from a trusted network. Leaves: the client's address, with the header read and nothing behind it touched.
Never: a byte read that is the peer's, a wait without a deadline.

PROXY protocol, version 2: haproxy.org, proxy-protocol.txt, section 2.2.
"""

import ipaddress
import select
import socket
import time
from struct import Struct

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
MOST_BYTES = 2048
"""Longest header that is read. A load balancer's own additions (TLV) are some hundred bytes."""

_HEADER = Struct("!12sBBH")
_VERSION, _LOCAL, _PROXY = 2, 0, 1
_UNSPECIFIED, _TCP_OVER_IPV4, _TCP_OVER_IPV6 = 0x00, 0x11, 0x21
_ADDRESSES = {_TCP_OVER_IPV4: Struct("!4s4sHH"), _TCP_OVER_IPV6: Struct("!16s16sHH")}


class ProxyHeaderError(Exception):
    """There is no header, or it is not one of version 2. The text is fixed: nothing in it is the peer's."""


class NothingFollows(Exception):
    """The connection ended after the header, or without a byte, in whatever way: a check of the load balancer's."""


def read_client_address(client_socket: socket.socket, peer: tuple[str, int], timeout_s: float) -> tuple[str, int]:
    """Read the header, and wait for the first byte behind it. Leaves the socket blocking.

    Args:
        peer: numeric address and port of the connection itself: what counts where the load balancer speaks for itself.
    Raises ProxyHeaderError, NothingFollows, and TimeoutError where header and first byte do not come in time.
    """
    deadline = time.monotonic() + timeout_s
    signature, version_and_command, family, length = _HEADER.unpack(_read(client_socket, _HEADER.size, deadline))
    version, command = version_and_command >> 4, version_and_command & 0x0F
    if signature != SIGNATURE:
        raise ProxyHeaderError("no header of the PROXY protocol, version 2")
    if version != _VERSION or command not in (_LOCAL, _PROXY):
        raise ProxyHeaderError("a version or command of the PROXY protocol that is unknown")
    if length > MOST_BYTES:
        raise ProxyHeaderError("a header of the PROXY protocol that is too long")
    rest = _read(client_socket, length, deadline)
    if command == _PROXY and family != _UNSPECIFIED:
        peer = _source(family, rest)
    if _peek(client_socket, deadline) == SIGNATURE[:1]:
        raise ProxyHeaderError("a second header of the PROXY protocol")
    return peer


def _source(family: int, addresses: bytes) -> tuple[str, int]:
    layout = _ADDRESSES.get(family)
    if layout is None or len(addresses) < layout.size:
        raise ProxyHeaderError("a header of the PROXY protocol without the addresses of a TCP connection")
    source, _, port, _ = layout.unpack_from(addresses)
    address = ipaddress.ip_address(source)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address), port


def _receive(client_socket: socket.socket, size: int, deadline: float, flags: int = 0) -> bytes:
    """What is there by the deadline, empty at the end of the connection."""
    poll = select.poll()
    poll.register(client_socket, select.POLLIN)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise TimeoutError
    try:
        return client_socket.recv(size, flags)
    except ConnectionError:
        # Some load balancers end their checks with a reset.
        return b""


def _read(client_socket: socket.socket, size: int, deadline: float) -> bytes:
    data = b""
    while len(data) < size:
        received = _receive(client_socket, size - len(data), deadline)
        if not received:
            if data:
                raise ProxyHeaderError("the connection ended inside the header of the PROXY protocol")
            raise NothingFollows
        data += received
    return data


def _peek(client_socket: socket.socket, deadline: float) -> bytes:
    first = _receive(client_socket, 1, deadline, socket.MSG_PEEK)
    if not first:
        raise NothingFollows
    return first
