"""One connection with a wire on the near end and a test in the place of the peer.

Enters: sockets. Leaves: a wire, and a transcript in the words of `driving`. Never: a wait without an end.
"""

import os
import socket
import struct
from typing import Any

from fastscp._ext import pdu
from fastscp._ext.memory import BufferPool
from fastscp._ext.wire import Wire
from reference import vectors
from reference.driving import Limits, Line, Spill, native_reader, store_line

LONG_S = 60.0
SHORT_S = 0.2
PARTIAL_PDU = vectors.STORE[:3]
INSIDE_COMMAND = vectors.STORE[:40]
BETWEEN_COMMAND_AND_DATA_SET = vectors.STORE[:114]
INSIDE_DATA_SET = vectors.STORE[:140]
BETWEEN_PDVS = vectors.STORE[:176]
PARTS_OF_A_MESSAGE = [PARTIAL_PDU, INSIDE_COMMAND, BETWEEN_COMMAND_AND_DATA_SET, INSIDE_DATA_SET, BETWEEN_PDVS]


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        own, _ = listener.accept()
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return own, peer


class Connection:
    """One connection: the peer's socket and a wire on the other end."""

    def __init__(self, own: socket.socket, peer: socket.socket) -> None:
        self.own, self.peer = own, peer
        peer.settimeout(LONG_S)
        self.wake_read, self.wake_write = os.pipe()

    def wire(
        self,
        *,
        pool: BufferPool | None = None,
        limits: Limits = Limits(),  # noqa: B008
        progress_bytes: int = 1,
        progress_s: float = LONG_S,
        fd: int = -1,
        wake_fd: int | None = None,
        established: bool = True,
    ) -> tuple[Wire, Any]:
        reader = native_reader(pool or BufferPool(1 << 26), limits, established=established)
        return (
            Wire(
                self.own.fileno() if fd < 0 else fd,
                reader,
                wake_fd=self.wake_read if wake_fd is None else wake_fd,
                progress_bytes=progress_bytes,
                progress_s=progress_s,
            ),
            reader,
        )

    def wake(self) -> None:
        os.write(self.wake_write, b"!")

    def reset(self) -> None:
        """Closes the peer's end with a TCP reset."""
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.peer.close()

    def close(self) -> None:
        self.own.close()
        self.peer.close()
        os.close(self.wake_read)
        os.close(self.wake_write)


def transcript(wire: Wire, reader: Any, spill: Spill | None = None, *, wait_s: float = LONG_S) -> list[Line]:
    """Everything up to the end of the connection, in the words of `ask_reference`; with a `wait_s` of 0, what has arrived."""
    spill = spill or Spill()
    lines: list[Line] = []
    while True:
        event = wire.receive(wait_s)
        if event == pdu.STORE:
            instance = reader.take_instance()
            lines.append(store_line(instance, bytes(spill.stored) + b"".join(instance.segments())))
            instance.release()
            spill.stored.clear()
        elif event == pdu.MESSAGE:
            lines.append(("message", *reader.take_message()))
        elif event == pdu.CONTROL:
            lines.append(("control", reader.take_control_pdu()))
        elif event in (pdu.SPILL, pdu.NO_MEMORY):
            spill(reader.instance, reader, no_memory=event == pdu.NO_MEMORY)
        elif event == pdu.PROTOCOL_ERROR:
            return [*lines, ("error", reader.abort_reason)]
        elif event == pdu.CLOSED:
            assert wire.clean_close is not reader.mid_message
            return [*lines, ("end", reader.mid_message)]
        elif wait_s == 0 and event in (pdu.TIMEOUT_IDLE, pdu.TIMEOUT_STALLED):
            return lines
        else:
            raise AssertionError(event)


def wait_for_data(own: socket.socket) -> None:
    own.settimeout(LONG_S)
    assert own.recv(1, socket.MSG_PEEK)
