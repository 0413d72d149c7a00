"""The receiver's association layer inside the test's process: a real port, real threads, and what pynetdicom's events told.

Enters: settings, handlers, a store. Leaves: connected peers, recorded events, resources in use. Never: a thread left behind.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pynetdicom import evt

from fastscp.association import Acceptor
from fastscp.association import association as association_module
from fastscp.observe.metrics import Metrics
from fastscp.service.handover import channel_pair, receive_connection, send_connection
from fastscp.service.listener import Listener, bind
from fastscp.service.pool import HANDSHAKES
from fastscp.service.slots import SlotTable
from fastscp.settings import Settings
from fastscp.stores import Store
from fastscp.stores.null import NullStore
from tests.peers.raw_scu import RawScu
from tests.peers.server import wait_until

Handler = tuple[Any, ...]
MEMORY_BYTES = 64 << 20


class Recorder:
    """Every event of pynetdicom, as it fired, with what a test looks at. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.fired: list[tuple[str, Any, Any]] = []

    def handlers(self) -> list[Handler]:
        """For every notification event."""
        return [(event, self._note) for event in evt._NOTIFICATION_EVENTS]

    def _note(self, event: evt.Event) -> None:
        name = event.event.name.removeprefix("EVT_")
        what: Any = None
        if name.startswith("PDU_"):
            # The name of pynetdicom's own class, of which ours may be a subclass.
            what = next(kind.__name__ for kind in type(event.pdu).__mro__ if kind.__module__ == "pynetdicom.pdu")
        elif name.startswith("DATA_"):
            what = bytes(event.data)
        elif name.startswith("ACSE_"):
            what = type(event.primitive).__name__
        elif name.startswith("DIMSE_"):
            what = event.message
        elif name == "FSM_TRANSITION":
            what = (event.current_state, event.fsm_event, event.action, event.next_state)
        elif name.startswith("CONN_"):
            what = event.address
        with self._lock:
            self.fired.append((name, what, event.assoc))

    def names(self) -> list[str]:
        with self._lock:
            return [name for name, _, _ in self.fired]

    def counts(self) -> Counter[str]:
        return Counter(self.names())

    def details(self, name: str) -> list[Any]:
        with self._lock:
            return [what for fired, what, _ in self.fired if fired == name]

    def associations(self) -> list[Any]:
        """Each association that was heard of, once."""
        with self._lock:
            return list(dict.fromkeys(assoc for _, _, assoc in self.fired))

    def clear(self) -> None:
        with self._lock:
            self.fired.clear()


class Running:
    """A listener, and a worker's acceptor and store, in this process. As a context manager it drains and sees that nothing is left."""

    def __init__(
        self, handlers: Sequence[Handler] = (), *, store: Store | None = None, handshakes: int = HANDSHAKES, **settings: Any
    ) -> None:
        self.settings = Settings(**{"memory_budget_bytes": MEMORY_BYTES, "fsync": False, **settings})
        self.store = store or NullStore()
        self.metrics = Metrics("test")
        listening = bind("127.0.0.1", 0)
        self.port: int = listening.getsockname()[1]
        self.table = SlotTable.create(1)
        self.acceptor = Acceptor(self.settings, self.store, self.metrics, listening.getsockname(), self.table.slots(0), handlers)
        self._channel, self._worker_end = channel_pair()
        self._handed_count = 0
        self._ceiling_count = self.settings.max_associations + handshakes
        self.listener = Listener(listening, self, self.metrics, self.settings.associate_timeout_s)

    def has_room(self) -> bool:
        """See `Door.has_room`."""
        return self._handed_count - self.table.ended_count(0) < self._ceiling_count

    def accept(self, client_socket: socket.socket, peer: tuple[str, int]) -> None:
        """See `Door.accept`."""
        # Before it can have ended.
        self._handed_count += 1
        send_connection(self._channel, client_socket, peer)
        client_socket.close()

    def __enter__(self) -> Running:
        self.acceptor.serve(lambda: receive_connection(self._worker_end))
        self.listener.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.stop()
        self._channel.close()
        self.acceptor.begin_drain()
        self.acceptor.abort_all("the test is over")
        left = self.acceptor.wait_ended(30)
        in_use_bytes = self.acceptor.pool.in_use_bytes
        self.acceptor.close()
        self.store.close()
        self._worker_end.close()
        self.table.close()
        assert left == 0, f"{left} associations never ended"
        assert in_use_bytes == 0, f"{in_use_bytes} bytes are still held"

    def connect(self, **options: Any) -> RawScu:
        return RawScu(self.port, **options)

    def sample(self, name: str, **labels: str) -> float:
        """A metric's value now."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def wait_none_left(self) -> None:
        """Every association has ended and given back what it held."""
        wait_until(lambda: self._handed_count == self.table.ended_count(0), "no association is left")
        assert self.acceptor.pool.in_use_bytes == 0
        assert self.sample("fastscp_associations_active") == 0


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def nothing_left_open() -> Iterator[None]:
    """The process has as many descriptors afterwards as before, and no thread of a listener or an association."""
    before = descriptors()
    threads = threading.active_count()
    yield
    wait_until(lambda: threading.active_count() <= threads, f"threads end: {threading.enumerate()}")
    wait_until(lambda: descriptors() <= before, f"descriptors are closed: {sorted(str(p) for p in Path('/proc/self/fd').iterdir())}")


def local_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        near = socket.create_connection(listening.getsockname())
        far, _ = listening.accept()
    return near, far


def releasing_soon(monkeypatch: Any) -> None:
    """While draining, associations that say nothing are released at once instead of after the usual time."""
    monkeypatch.setattr(association_module, "DRAIN_QUIET_S", 0.05)


def eventually(condition: Callable[[], bool], what: str) -> None:
    wait_until(condition, what)
