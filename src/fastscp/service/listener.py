"""The listening socket, and the connections that have not said anything yet.

Enters: connections. Leaves: those whose first byte is there, to the workers. Never: a thread, or a log line above debug, for one
that opens and closes without a byte, as a load balancer's check does.
"""

import contextlib
import errno
import os
import selectors
import socket
import threading
import time
from collections import deque
from typing import Protocol

from fastscp.errors import ConfigError
from fastscp.observe.log import get_logger
from fastscp.observe.metrics import ConnectionResult, Metrics

BACKLOG = 1024
SILENT_CEILING = 1024
"""Most connections without a byte that are kept; beyond it the oldest is closed."""

WAITING_CEILING = 1024
"""Most connections with a byte that wait until there is room; beyond it they are closed."""

ROOM_PAUSE_S = 0.05
"""How long until room is looked for again, where some wait for it."""

EXHAUSTED_PAUSE_S = 0.5
"""How long nothing is accepted after the system had no descriptor left."""

_log = get_logger("listener")


class Door(Protocol):
    """Where connections go that have said something. Called by the listener's thread."""

    def has_room(self) -> bool:
        """Whether another connection may come now."""

    def accept(self, client_socket: socket.socket, peer: tuple[str, int]) -> None:
        """Take a connection over."""


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=host == "::")
    except OSError as error:
        option = "--port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "--host"
        raise ConfigError(option, f"cannot listen on {host} port {port}: {os.strerror(error.errno or 0)}") from error
    # Connections inherit both.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listening.setblocking(False)
    return listening


class _Silent:
    """A connection without a byte so far."""

    def __init__(self, client_socket: socket.socket, peer: tuple[str, int], deadline: float) -> None:
        self.client_socket = client_socket
        self.peer = peer
        self.deadline = deadline

    def has_spoken(self) -> bool:
        """Whether the first byte is there; it stays there."""
        try:
            return bool(self.client_socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False


class Listener:
    """One thread that accepts, waits for first bytes, and hands over."""

    def __init__(self, listening: socket.socket, door: Door, metrics: Metrics, first_byte_timeout_s: float) -> None:
        self._listening = listening
        self._door = door
        self._metrics = metrics
        self._first_byte_timeout_s = first_byte_timeout_s
        self._selector = selectors.DefaultSelector()
        # In order of their deadlines, since all have the same time; dictionaries keep the order.
        self._silent: dict[int, _Silent] = {}
        self._speaking: deque[_Silent] = deque()  # for which there was no room yet
        self._resume_at: float | None = None
        self._stopping = False
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)

    def start(self) -> None:
        """Begin to accept."""
        self._selector.register(self._listening, selectors.EVENT_READ)
        self._selector.register(self._wake_reader, selectors.EVENT_READ)
        self._thread.start()

    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Accept nothing more and close what has not said anything. Returns when that is done."""
        self._stopping = True
        with contextlib.suppress(BlockingIOError):
            self._wake_writer.send(b"\0")
        self._thread.join()
        self._wake_reader.close()
        self._wake_writer.close()

    def _run(self) -> None:
        while not self._stopping:
            for key, _ in self._selector.select(self._select_timeout_s()):
                if key.fileobj is self._listening:
                    self._accept()
                elif key.fileobj is self._wake_reader:
                    self._wake_reader.recv(4096)
                else:
                    self._first_byte(key.fd)
            self._hand_over()
            self._expire()
        self._close()

    def _select_timeout_s(self) -> float | None:
        deadlines = [silent.deadline for silent in self._silent.values()][:1]
        if self._resume_at is not None:
            deadlines.append(self._resume_at)
        if self._speaking:
            deadlines.append(time.monotonic() + ROOM_PAUSE_S)
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _accept(self) -> None:
        for _ in range(BACKLOG):
            try:
                client_socket, address = self._listening.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError as error:
                # Out of descriptors or memory: the connection stays in the queue, and select would report it at once again.
                _log.error("cannot_accept", problem=os.strerror(error.errno or 0))
                self._selector.unregister(self._listening)
                self._resume_at = time.monotonic() + EXHAUSTED_PAUSE_S
                return
            peer = (address[0].removeprefix("::ffff:"), address[1])
            silent = _Silent(client_socket, peer, time.monotonic() + self._first_byte_timeout_s)
            if silent.has_spoken():
                # The usual case under load, and two system calls and a turn of the loop less (benchmarks: "associations-1").
                self._queue(silent)
                continue
            self._silent[client_socket.fileno()] = silent
            self._selector.register(client_socket, selectors.EVENT_READ)
            if len(self._silent) > SILENT_CEILING:
                self._drop(next(iter(self._silent)), "timed_out")

    def _drop(self, fd: int, result: ConnectionResult) -> None:
        silent = self._silent.pop(fd)
        self._selector.unregister(silent.client_socket)
        silent.client_socket.close()
        self._metrics.connection(result)
        _log.debug("connection_without_a_byte", result=result, peer_address=silent.peer[0])

    def _first_byte(self, fd: int) -> None:
        silent = self._silent.get(fd)
        if silent is None:
            return  # Dropped in the same turn.
        if not silent.has_spoken():
            self._drop(fd, "empty")
            return
        del self._silent[fd]
        self._selector.unregister(silent.client_socket)
        self._queue(silent)

    def _queue(self, silent: _Silent) -> None:
        if len(self._speaking) < WAITING_CEILING:
            self._speaking.append(silent)
            return
        silent.client_socket.close()
        self._metrics.connection("refused")
        _log.warning("too_many_waiting", peer_address=silent.peer[0])

    def _hand_over(self) -> None:
        while self._speaking and self._door.has_room():
            silent = self._speaking.popleft()
            self._door.accept(silent.client_socket, silent.peer)

    def _expire(self) -> None:
        now = time.monotonic()
        while self._silent:
            fd, silent = next(iter(self._silent.items()))
            if silent.deadline > now:
                break
            self._drop(fd, "timed_out")
        if self._resume_at is not None and self._resume_at <= now:
            self._resume_at = None
            self._selector.register(self._listening, selectors.EVENT_READ)

    def _close(self) -> None:
        self._listening.close()
        for fd in list(self._silent):
            self._drop(fd, "empty")
        while self._speaking:
            self._speaking.popleft().client_socket.close()
        self._selector.close()
