"""What all associations of a process share, and the door through which connections become associations.

Enters: connected sockets whose first byte is there. Leaves: associations, each with a thread of its own.
Never: a lock held across one's work.
"""

import contextlib
import itertools
import os
import socket
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, cast

from pynetdicom import AE, evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association
from pynetdicom.events import EventHandlerType
from pynetdicom.pdu_primitives import A_ASSOCIATE

from fastscp._ext.memory import BufferPool
from fastscp.association.admission import LOCAL_LIMIT_EXCEEDED, Admission, Rejection
from fastscp.association.association import StoreAssociation
from fastscp.association.proposal import Proposals
from fastscp.association.pumped import PumpedAssociation
from fastscp.association.transport import PeerAddress
from fastscp.observe.log import get_logger
from fastscp.observe.metrics import Metrics
from fastscp.settings import Settings
from fastscp.stores import Store
from fastscp.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

MOST_THREADS = 1 << 20
"""No limit: whoever hands connections over sees to it that they are not too many."""

_log = get_logger("association")


class Slots(Protocol):
    """What the associations of several processes share: the limit of how many may be established. Called under the acceptor's lock."""

    def take(self, limit: int) -> bool:
        """Count one more, unless there are `limit` already in all processes."""

    def give_back(self) -> None:
        """Count one less."""

    def connection_ended(self) -> None:
        """A connection that was handed to this process has ended, whether or not it was counted."""


class Acceptor:
    """Thread-safe. Owns the associations' memory pool and wake descriptor, uses the store."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        metrics: Metrics,
        local_address: tuple[Any, ...],
        slots: Slots,
        handlers: Iterable[EventHandlerType] = (),
    ) -> None:
        """
        Args:
            local_address: the listening socket's.
            handlers: of pynetdicom's events, as `pynetdicom.AE.start_server` takes them; bound to every association.
        """
        self.settings = settings
        self.store = store
        self.metrics = metrics
        self.sop_classes = frozenset(settings.sop_classes)
        self.pool = BufferPool(settings.memory_budget_bytes)
        metrics.track_memory(lambda: self.pool.in_use_bytes, settings.memory_budget_bytes)
        self.proposals = Proposals(metrics)
        self.local_address = PeerAddress.from_tuple(local_address[:2])
        self.ae = AE(settings.aet)
        self.ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        self.ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        self.ae.acse_timeout = settings.associate_timeout_s
        self.ae.network_timeout = settings.idle_timeout_s
        self.default_handlers: dict[Any, Any] = {event: (evt.get_default_handler(event), None) for event in evt._INTERVENTION_EVENTS}
        self._handlers = dict(self.default_handlers)
        for event, handler, *arguments in handlers:
            evt._add_handler(event, self._handlers, (handler, arguments[0] if arguments else None))
        # What every association's two service users begin with.
        template = Association(self.ae, MODE_ACCEPTOR)
        self.requestor_template = template.requestor
        self.acceptor_template = template.acceptor
        self.acceptor_template.ae_title = settings.aet
        self.acceptor_template.maximum_length = settings.max_pdu_bytes
        self.acceptor_template.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        self.acceptor_template.address_info = self.local_address
        self.always_set = threading.Event()
        self.always_set.set()
        self._threads = ThreadPoolExecutor(MOST_THREADS, "association")
        self.draining = False
        self._slots = slots
        self._admission = Admission(settings)
        self._changed = threading.Condition()
        self._associations: set[PumpedAssociation] = set()
        self._established: set[PumpedAssociation] = set()
        self._ids = itertools.count(1)
        self._id_prefix = os.urandom(3).hex()
        self.wake_fd, self._wake_writer = os.pipe()

    def accept(self, client_socket: socket.socket, peer: tuple[str, int]) -> None:
        """Run an association on a connection. Takes the socket over."""
        client_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client_socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        association_id = f"{self._id_prefix}-{next(self._ids)}"
        association = StoreAssociation(self, client_socket, peer, association_id)
        with self._changed:
            self._associations.add(association)
        evt.trigger(association, evt.EVT_CONN_OPEN, {"address": peer})
        try:
            self._threads.submit(association.run_reactor)
        except RuntimeError:
            # No thread to be had for it now: it is in the queue, and the next association that ends leaves it one.
            _log.error("no_thread", association=association_id)

    def handlers_for_association(self) -> dict[Any, Any]:
        """The handlers to begin with; the lists are the association's own."""
        return {event: list(bound) if isinstance(bound, list) else bound for event, bound in self._handlers.items()}

    def admit(self, association: PumpedAssociation) -> Rejection | None:
        """Judge a request, and give the association a slot where it is not rejected."""
        request = cast(A_ASSOCIATE, association.requestor.primitive)
        association.story.requested(request)
        rejection = self._admission.judge(request, association.story.peer[0], draining=self.draining)
        if rejection is not None:
            return rejection
        with self._changed:
            if not self._slots.take(self.settings.max_associations):
                return LOCAL_LIMIT_EXCEEDED
            self._established.add(association)
        return None

    def established(self, association: PumpedAssociation) -> None:
        """Count an association whose answer is about to be sent."""
        self.metrics.connection("associated")
        self.metrics.associations_active.inc()

    def free_slot(self, association: PumpedAssociation) -> None:
        """From here on the association does not count against the limit. Idempotent."""
        with self._changed:
            counted = association in self._established
            if counted:
                self._established.discard(association)
                self._slots.give_back()
        if counted and association.story.was_established:
            self.metrics.associations_active.dec()

    def association_ended(self, association: PumpedAssociation) -> None:
        """Called once by each association's thread, as the last thing it does."""
        self.free_slot(association)
        story = association.story
        if story.was_established:
            self.metrics.association_ended(story.outcome or "closed")
            _log.info("association_ended", **story.record())
        elif association.rejection is not None:
            story.outcome = "rejected"
            self.metrics.connection("refused")
            self.metrics.rejected(association.rejection)
            self.metrics.association_ended("rejected")
            _log.warning("association_rejected", reason=association.rejection, **story.record())
        else:
            self.metrics.connection("timed_out" if story.outcome == "timed_out" else "garbage")
            _log.warning("no_association", **story.record())
        # Last: whoever waits for the end may then end the process.
        with self._changed:
            self._associations.discard(association)
            self._slots.connection_ended()
            self._changed.notify_all()

    def begin_drain(self) -> None:
        """From here on nothing is accepted; associations end when they have nothing more to send."""
        self.draining = True
        os.write(self._wake_writer, b"\0")  # Never read: it wakes every association, also one that looks later.

    def wait_ended(self, timeout_s: float) -> int:
        """Wait until no association is left. Returns how many are."""
        until = time.monotonic() + timeout_s
        with self._changed:
            while self._associations and (left_s := until - time.monotonic()) > 0:
                self._changed.wait(left_s)
            return len(self._associations)

    def abort_all(self) -> None:
        """Abort what is left."""
        with self._changed:
            left = list(self._associations)
        for association in left:
            association.end_soon()

    def close(self) -> None:
        """Give threads and descriptors back. Called when no association is left."""
        self._threads.shutdown(wait=False)
        for fd in (self.wake_fd, self._wake_writer):
            with contextlib.suppress(OSError):
                os.close(fd)
