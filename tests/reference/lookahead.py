"""A conversation over a socket, so that PDUs are read together.

Enters: a peer's bytes, cut into pieces. Leaves: the transcript of `driving`. Never: a wait, or memory that is not given back.
"""

import socket
from collections.abc import Sequence

from fastscp._ext.memory import BufferPool
from fastscp._ext.wire import Wire
from reference.driving import Limits, Line, Spill, native_reader
from reference.wiring import transcript

SOCKET_BYTES = 1 << 22


def ask_wire(stream: Sequence[bytes], limits: Limits, spill: Spill | None = None) -> list[Line]:
    """Each piece is on the socket, whole, before it is read: at most 1 MB."""
    own, peer = socket.socketpair()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
    peer.setblocking(False)
    pool = BufferPool(1 << 26)
    spill = spill or Spill()
    reader = native_reader(pool, limits)
    wire = Wire(own.fileno(), reader, wake_fd=-1, progress_bytes=1, progress_s=0.0)
    lines: list[Line] = []
    received_bytes = 0
    try:
        for piece in stream:
            peer.sendall(piece)
            lines += transcript(wire, reader, spill, wait_s=0.0)
            if reader.error_text:
                return lines
            received_bytes += len(piece)
            assert reader.received_bytes == received_bytes
        peer.shutdown(socket.SHUT_WR)
        return lines + transcript(wire, reader, spill)
    finally:
        reader.close()
        own.close()
        peer.close()
        assert pool.in_use_bytes == 0
