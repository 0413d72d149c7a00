"""What the supervisor and a worker say to each other: connections one way, messages both ways.

Enters: connected sockets and messages. Leaves: the same, in the other process. Never: a wait of the supervisor for a worker that is stuck.
"""

import contextlib
import socket
import sys
from multiprocessing.connection import Connection
from struct import Struct
from threading import Lock

import msgspec

from fastscp.observe.families import Family

_RECORD = Struct("!BHB46s")
"""Address family, port, length of the address, address."""

_DESCRIPTOR_BYTES = 4
_ANCILLARY_BYTES = socket.CMSG_LEN(_DESCRIPTOR_BYTES)
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


def channel_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a channel for connections: the supervisor's, which never blocks, and the worker's."""
    # Of several threads that wait on a sequenced packet socket the kernel wakes one, on a stream all; macOS has only the latter.
    kind = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_STREAM
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    ours.setblocking(False)
    return ours, theirs


def send_connection(channel: socket.socket, client_socket: socket.socket, peer: tuple[str, int]) -> None:
    """Hand a connection over; the caller closes its own copy. Raises OSError where the worker is gone, or its queue is full."""
    address = peer[0].encode()[:46]
    record = _RECORD.pack(client_socket.family, peer[1], len(address), address)
    socket.send_fds(channel, [record], [client_socket.fileno()])


def receive_connection(channel: socket.socket) -> tuple[socket.socket, tuple[str, int]] | None:
    """The next connection and its peer's address, None where no more will come. Raises NoDescriptorLeft."""
    record, ancillary, _, _ = channel.recvmsg(_RECORD.size, _ANCILLARY_BYTES, _CLOSE_ON_EXEC)
    if not record:
        return None
    if not ancillary:
        raise NoDescriptorLeft
    family, port, length, address = _RECORD.unpack(record)
    fd = int.from_bytes(ancillary[0][2][:_DESCRIPTOR_BYTES], sys.byteorder)
    return socket.socket(family, socket.SOCK_STREAM, 0, fileno=fd), (address[:length].decode(), port)


class NoDescriptorLeft(Exception):
    """A connection came, and the process had no descriptor for it: it is closed."""


class Ready(msgspec.Struct, tag=True, frozen=True):
    """From a worker: it takes connections."""


class Unusable(msgspec.Struct, tag=True, frozen=True):
    """From a worker: its settings cannot be carried out (ConfigError)."""

    option: str
    problem: str


class Draining(msgspec.Struct, tag=True, frozen=True):
    """From a worker: somebody told it to end."""


class Report(msgspec.Struct, tag=True, frozen=True):
    """From a worker: what it counts, and reason by component why it is not ready.

    Attributes:
        number: of the question, 0 where nobody asked.
    """

    number: int
    families: list[Family]
    reasons: dict[str, str]


class Ask(msgspec.Struct, tag=True, frozen=True):
    """To a worker: report."""

    number: int


class Reload(msgspec.Struct, tag=True, frozen=True):
    """To a worker: go by these settings.

    Attributes:
        settings: pickled `Settings`, as at the start.
    """

    settings: bytes


FromWorker = Ready | Unusable | Draining | Report
ToWorker = Ask | Reload

_encode = msgspec.msgpack.Encoder().encode
_decode_from_worker = msgspec.msgpack.Decoder(FromWorker).decode
_decode_to_worker = msgspec.msgpack.Decoder(ToWorker).decode


class MessageChannel:
    """One end of the messages. Any thread may send; one receives."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = Lock()

    def send(self, message: FromWorker | ToWorker) -> None:
        """Send, unless the other side is gone."""
        with self._lock, contextlib.suppress(OSError):
            self._connection.send_bytes(_encode(message))

    def from_worker(self) -> FromWorker | None:
        """What the worker says next, None where it will say nothing more."""
        data = self._receive()
        return None if data is None else _decode_from_worker(data)

    def to_worker(self) -> ToWorker | None:
        """What the supervisor says next, None where it is gone."""
        data = self._receive()
        return None if data is None else _decode_to_worker(data)

    def _receive(self) -> bytes | None:
        try:
            return self._connection.recv_bytes()
        except (EOFError, OSError):
            return None

    def close(self) -> None:
        """Close this end."""
        self._connection.close()
