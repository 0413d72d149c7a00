"""A wire tap: a loopback TCP proxy that keeps what both sides said and puts the data sets together again.

Enters: connections for the receiver. Leaves: each C-STORE with the data set exactly as its PDVs carried it. Never: alters a byte.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType

from tests.peers import encoding as enc
from tests.peers.raw_scu import parse_accept, parse_command


@dataclass(frozen=True)
class TappedStore:
    """One C-STORE exchange as it went over the wire."""

    sop_class: str
    sop_instance: str
    transfer_syntax: str
    calling: str
    implementation_class: str
    implementation_version: str
    """What the receiver called itself in the A-ASSOCIATE-AC."""
    data_set: bytes
    status: int | None
    """Status of the response, None where none came."""


@dataclass
class Conversation:
    """All bytes of one connection."""

    requested: bytearray = field(default_factory=bytearray)
    answered: bytearray = field(default_factory=bytearray)
    done: threading.Event = field(default_factory=threading.Event)


def split_pdus(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """The complete PDUs of a byte stream as (type, body)."""
    at = 0
    while at + 6 <= len(stream):
        kind, _, length = struct.unpack_from(">BBL", stream, at)
        if at + 6 + length > len(stream):
            return
        yield kind, stream[at + 6 : at + 6 + length]
        at += 6 + length


def messages(stream: bytes) -> Iterator[tuple[int, dict[int, bytes], bytes]]:
    """The DIMSE messages of a byte stream as (context id, command elements, data set)."""
    command, data_set = bytearray(), bytearray()
    elements: dict[int, bytes] | None = None
    for kind, body in split_pdus(stream):
        at = 0
        while kind == enc.P_DATA and at < len(body):
            length, context_id, control = struct.unpack_from(">LBB", body, at)
            (command if control & 1 else data_set).extend(body[at + 6 : at + 4 + length])
            at += 4 + length
            if control == 3:
                elements = parse_command(bytes(command))
            if elements is not None and (control == 2 or elements[enc.DATA_SET_TYPE] == enc.ushort(0x0101)):
                yield context_id, elements, bytes(data_set)
                command, data_set, elements = bytearray(), bytearray(), None


def stores(conversation: Conversation) -> list[TappedStore]:
    """The C-STORE exchanges of a finished conversation, in order."""
    accepted = next((parse_accept(body) for kind, body in split_pdus(bytes(conversation.answered)) if kind == enc.ASSOCIATE_AC), None)
    if accepted is None:
        return []
    answers: dict[int, list[int]] = {}
    for _, elements, _ in messages(bytes(conversation.answered)):
        answers.setdefault(_number(elements, enc.MESSAGE_ID_RESPONDED), []).append(_number(elements, enc.STATUS))
    calling = bytes(conversation.requested[26:42]).strip(b" \0").decode("latin-1")
    found = []
    for context_id, elements, data_set in messages(bytes(conversation.requested)):
        if elements[enc.COMMAND_FIELD] != enc.ushort(0x0001):
            continue
        waiting = answers.get(_number(elements, enc.MESSAGE_ID), [])
        found.append(
            TappedStore(
                sop_class=_uid(elements[enc.AFFECTED_SOP_CLASS]),
                sop_instance=_uid(elements[enc.AFFECTED_SOP_INSTANCE]),
                transfer_syntax=accepted.transfer_syntaxes[context_id],
                calling=calling,
                implementation_class=accepted.implementation_class_uid,
                implementation_version=accepted.implementation_version_name,
                data_set=data_set,
                status=waiting.pop(0) if waiting else None,
            )
        )
    return found


def _number(elements: dict[int, bytes], tag: int) -> int:
    return int(struct.unpack("<H", elements[tag])[0])


def _uid(value: bytes) -> str:
    return value.rstrip(b"\0 ").decode("latin-1")


class Tap:
    """Listens on a port of its own and forwards to `target_port`. Closes everything on exit from its `with` block."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.conversations: list[Conversation] = []
        self._sockets: list[socket.socket] = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def __enter__(self) -> Tap:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._sockets:
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target_port))
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets.append(each)
            conversation = Conversation()
            self.conversations.append(conversation)
            threading.Thread(target=self._forward, args=(client, server, conversation.requested, None), daemon=True).start()
            threading.Thread(target=self._forward, args=(server, client, conversation.answered, conversation.done), daemon=True).start()

    @staticmethod
    def _forward(source: socket.socket, sink: socket.socket, record: bytearray, done: threading.Event | None) -> None:
        try:
            while piece := source.recv(262144):
                if hasattr(socket, "TCP_QUICKACK"):
                    # A client with Nagle's algorithm waits 40 ms for each acknowledgement that is delayed.
                    source.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
                record += piece
                sink.sendall(piece)
        except OSError:
            pass
        finally:
            for end, how in ((source, socket.SHUT_RD), (sink, socket.SHUT_WR)):
                try:
                    end.shutdown(how)
                except OSError:
                    pass
            if done is not None:
                done.set()

    def all_stores(self, timeout_s: float = 30.0) -> list[TappedStore]:
        """Every C-STORE exchange so far, once the receiver has closed each connection."""
        for conversation in self.conversations:
            assert conversation.done.wait(timeout_s), "the receiver did not close a connection"
        return [each for conversation in self.conversations for each in stores(conversation)]
