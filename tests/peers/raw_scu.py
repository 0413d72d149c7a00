"""A scripted storage SCU on a plain socket: it says what a test tells it, byte for byte.

Enters: messages to send, well-formed or not. Leaves: what the receiver answered. Never: waits without a deadline.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType

from tests.peers import encoding as enc
from tests.peers.encoding import Context


class PeerClosed(Exception):
    """The receiver closed or reset the connection where more was expected."""


class Rejected(Exception):
    """A-ASSOCIATE-RJ, PS3.8 section 9.3.4."""

    def __init__(self, result: int, source: int, reason: int) -> None:
        super().__init__(f"rejected: result {result}, source {source}, reason {reason}")
        self.answer = (result, source, reason)


class Aborted(Exception):
    """A-ABORT, PS3.8 section 9.3.8."""

    def __init__(self, source: int, reason: int) -> None:
        super().__init__(f"aborted: source {source}, reason {reason}")
        self.answer = (source, reason)


@dataclass(frozen=True)
class Accepted:
    """What an A-ASSOCIATE-AC says."""

    protocol_version: int
    max_pdu_bytes: int
    implementation_class_uid: str
    implementation_version_name: str
    results: dict[int, int] = field(default_factory=dict)
    """Result by presentation context id, PS3.8 table 9-18."""
    transfer_syntaxes: dict[int, str] = field(default_factory=dict)
    """Transfer syntax by accepted presentation context id."""
    user_item_types: tuple[int, ...] = ()


@dataclass(frozen=True)
class Response:
    """A response message's command set."""

    context_id: int
    elements: dict[int, bytes]

    def number(self, tag: int) -> int:
        return int(struct.unpack("<H", self.elements[tag])[0])

    def text(self, tag: int) -> str:
        return self.elements.get(tag, b"").rstrip(b"\0 ").decode("ascii")

    @property
    def status(self) -> int:
        return self.number(enc.STATUS)

    @property
    def message_id(self) -> int:
        return self.number(enc.MESSAGE_ID_RESPONDED)

    @property
    def comment(self) -> str:
        return self.text(enc.ERROR_COMMENT)

    @property
    def offending_elements(self) -> list[int]:
        value = self.elements.get(enc.OFFENDING_ELEMENT, b"")
        return [group << 16 | element for group, element in struct.iter_unpack("<HH", value)]


def items(data: bytes) -> list[tuple[int, bytes]]:
    """The (type, body) of each item of an association PDU's variable field."""
    found, at = [], 0
    while at < len(data):
        length = struct.unpack_from(">H", data, at + 2)[0]
        found.append((data[at], data[at + 4 : at + 4 + length]))
        at += 4 + length
    return found


def parse_accept(body: bytes) -> Accepted:
    """Decode the body of an A-ASSOCIATE-AC."""
    results: dict[int, int] = {}
    syntaxes: dict[int, str] = {}
    user: dict[int, bytes] = {}
    for kind, value in items(body[68:]):
        if kind == 0x21:
            results[value[0]] = value[2]
            if value[2] == 0:
                syntaxes[value[0]] = dict(items(value[4:]))[0x40].rstrip(b"\0").decode()
        elif kind == 0x50:
            user = dict(items(value))
    return Accepted(
        protocol_version=struct.unpack_from(">H", body)[0],
        max_pdu_bytes=struct.unpack(">L", user[0x51])[0],
        implementation_class_uid=user[0x52].rstrip(b"\0").decode(),
        implementation_version_name=user.get(0x55, b"").decode(),
        results=results,
        transfer_syntaxes=syntaxes,
        user_item_types=tuple(user),
    )


def parse_command(data: bytes) -> dict[int, bytes]:
    """The values of a command set by tag."""
    elements, at = {}, 0
    while at < len(data):
        group, element, length = struct.unpack_from("<HHL", data, at)
        elements[group << 16 | element] = data[at + 8 : at + 8 + length]
        at += 8 + length
    return elements


class RawScu:
    """One connection to a receiver. Used as a context manager it always closes its socket."""

    def __init__(self, port: int, *, host: str = "127.0.0.1", timeout_s: float = 30.0, receive_buffer_bytes: int | None = None) -> None:
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.sock.settimeout(timeout_s)
        if receive_buffer_bytes is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.sock.connect((host, port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.timeout_s = timeout_s

    def __enter__(self) -> RawScu:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        """Leave with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def send_slowly(self, data: bytes, piece_bytes: int, pause_s: float) -> None:
        """Send in pieces with a pause after each."""
        for at in range(0, len(data), piece_bytes):
            self.sock.sendall(data[at : at + piece_bytes])
            time.sleep(pause_s)

    def read_exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                piece = self.sock.recv(count - len(data))
            except ConnectionError as error:
                raise PeerClosed(str(error)) from error
            if not piece:
                raise PeerClosed(f"closed after {len(data)} of {count} bytes")
            data += piece
        return data

    def read_pdu(self) -> tuple[int, bytes]:
        """The next PDU as (type, body). Raises PeerClosed, TimeoutError."""
        kind, _, length = struct.unpack(">BBL", self.read_exactly(6))
        return kind, self.read_exactly(length)

    def expect(self, wanted: int) -> bytes:
        """The body of the next PDU, which must be of this type. An A-ABORT or A-ASSOCIATE-RJ raises."""
        kind, body = self.read_pdu()
        if kind == wanted:
            return body
        if kind == enc.ABORT:
            raise Aborted(body[2], body[3])
        if kind == enc.ASSOCIATE_RJ:
            raise Rejected(body[1], body[2], body[3])
        raise AssertionError(f"PDU type {kind} where {wanted} was expected")

    def readable(self, wait_s: float) -> bool:
        """Whether bytes, or the end, arrive within this time."""
        poller = select.poll()
        poller.register(self.sock, select.POLLIN)
        return bool(poller.poll(wait_s * 1000))

    def half_close(self) -> None:
        """Close the sending side, as a peer does that has been told that the association is over."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            return  # The receiver has closed already.

    def wait_closed(self, *, stay: bool = False) -> list[tuple[int, bytes]]:
        """Read until the receiver closes. Returns the PDUs that came before. Raises TimeoutError where it does not close.

        Args:
            stay: keep our side open when the receiver has said that it is over and waits for the close (PS3.8 section 9.2, Sta13).
        """
        seen = []
        while True:
            try:
                seen.append(self.read_pdu())
            except PeerClosed:
                return seen
            assert len(seen) < 1000, "the receiver goes on sending"
            if not stay and seen[-1][0] in (enc.ABORT, enc.ASSOCIATE_RJ, enc.RELEASE_RP):
                self.half_close()

    def associate(
        self,
        contexts: Sequence[Context] = (Context(1, enc.CT_IMAGE),),
        *,
        called: bytes = b"FASTSCP",
        calling: bytes = b"RAWSCU",
        protocol_version: int = 1,
        max_pdu_bytes: int = 16384,
        user_items: bytes = b"",
        application_context: str = enc.APPLICATION_CONTEXT,
    ) -> Accepted:
        self.send(
            enc.associate_rq(
                contexts,
                called=called,
                calling=calling,
                protocol_version=protocol_version,
                max_pdu_bytes=max_pdu_bytes,
                user_items=user_items,
                application_context=application_context,
            )
        )
        return parse_accept(self.expect(enc.ASSOCIATE_AC))

    def read_response(self) -> Response:
        """The next message's command set, from as many PDVs as it takes. Raises Aborted, PeerClosed."""
        command = b""
        while True:
            body = self.expect(enc.P_DATA)
            at = 0
            while at < len(body):
                length, context_id, control = struct.unpack_from(">LBB", body, at)
                assert control & 1, "a data set came where only a response was expected"
                command += body[at + 6 : at + 4 + length]
                at += 4 + length
                if control & 2:
                    assert at == len(body), "more bytes after the end of a response"
                    return Response(context_id, parse_command(command))

    def store(
        self,
        sop_class: str,
        sop_instance: str,
        data_set: bytes,
        *,
        context_id: int = 1,
        message_id: int = 1,
        command_pdv_bytes: int | None = None,
        data_pdv_bytes: int | None = 16376,
        pdvs_per_pdu: int = 1,
        empty_last: bool = False,
    ) -> Response:
        """Send one C-STORE-RQ and return its response."""
        command = enc.store_command(sop_class, sop_instance, message_id)
        for message_pdu in enc.message_pdus(
            context_id,
            command,
            data_set,
            command_pdv_bytes=command_pdv_bytes,
            data_pdv_bytes=data_pdv_bytes,
            pdvs_per_pdu=pdvs_per_pdu,
            empty_last=empty_last,
        ):
            self.send(message_pdu)
        return self.read_response()

    def echo(self, context_id: int = 1, message_id: int = 1) -> Response:
        for message_pdu in enc.message_pdus(context_id, enc.echo_command(message_id), None):
            self.send(message_pdu)
        return self.read_response()

    def release(self) -> None:
        """A-RELEASE-RQ, wait for the answer, close."""
        self.send(enc.RELEASE_RQ_PDU)
        self.expect(enc.RELEASE_RP)
        self.close()

    def abort(self) -> None:
        """A-ABORT, close."""
        self.send(enc.ABORT_PDU)
        self.close()
