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
from collections.abc import Callable, Iterable
from typing import Any, Protocol, cast

from pynetdicom import AE, evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association
from pynetdicom.events import EventHandlerType
from pynetdicom.pdu_primitives import A_ASSOCIATE

from fastscp._ext.memory import BufferPool
from fastscp.association.admission import LOCAL_LIMIT_EXCEEDED, Admission, Rejection, is_in
from fastscp.association.association import StoreAssociation
from fastscp.association.proposal import Proposals
from fastscp.association.proxy import NothingFollows, ProxyHeaderError, read_client_address
from fastscp.association.pumped import PumpedAssociation
from fastscp.association.transport import PeerAddress
from fastscp.observe.log import get_logger
from fastscp.observe.metrics import ConnectionResult, Metrics
from fastscp.settings import Settings
from fastscp.stores import Store
from fastscp.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

Connection = tuple[socket.socket, tuple[str, int]]
"""A connected socket, and the peer's numeric address and port."""

RESERVE_BYTES = 8 << 20
"""Of the memory budget, for one instance at a time that cannot go on otherwise: S3's smallest part (5 MiB) and a segment at either end."""

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
        self.store = store
        self.metrics = metrics
        reserve_bytes = min(RESERVE_BYTES, settings.memory_budget_bytes // 4)
        self.pool = BufferPool(settings.memory_budget_bytes, reserve_bytes=reserve_bytes)
        metrics.track_memory(lambda: self.pool.in_use_bytes, settings.memory_budget_bytes)
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
        self.acceptor_template.maximum_length = settings.max_pdu_bytes
        self.acceptor_template.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        self.acceptor_template.address_info = self.local_address
        self.always_set = threading.Event()
        self.always_set.set()
        self.draining = False
        self._slots = slots
        self._changed = threading.Condition()
        self._thread_numbers = itertools.count()
        self._thread_count = 0
        self._waiting_count = 0
        self._associations: set[PumpedAssociation] = set()
        self._established: set[PumpedAssociation] = set()
        self._ids = itertools.count(1)
        self._id_prefix = os.urandom(3).hex()
        self.wake_fd, self._wake_writer = os.pipe()
        self.adopt(settings)

    def adopt(self, settings: Settings) -> None:
        """Go by these settings for associations that are yet to come, as far as they may change (`fastscp.settings.change`)."""
        self.sop_classes = frozenset(settings.sop_classes)
        self.ae.ae_title = settings.aet
        self.acceptor_template.ae_title = settings.aet
        # Answers that are remembered were given by the settings before.
        self.proposals = Proposals(self.metrics)
        self._admission = Admission(settings)
        self.settings = settings

    def serve(self, next_connection: Callable[[], Connection | None]) -> None:
        """Run an association on every connection, until there are no more. Returns at once.

        Args:
            next_connection: waits for one; None means that no more will come. Called by several threads at a time, so that the one that
                gets a connection serves it without handing it on (benchmarks: work "associations-1").
        """
        with self._changed:
            self._start_thread(next_connection)

    def _start_thread(self, next_connection: Callable[[], Connection | None]) -> None:
        # Under the lock. One thread more than there are associations, so that somebody waits for the next.
        name = f"association_{next(self._thread_numbers)}"
        self._thread_count += 1
        self._waiting_count += 1
        try:
            threading.Thread(target=self._run_thread, args=(next_connection,), name=name, daemon=True).start()
        except RuntimeError:
            # The next connection waits until an association ends and leaves its thread.
            self._thread_count -= 1
            self._waiting_count -= 1
            _log.error("no_thread")

    def _run_thread(self, next_connection: Callable[[], Connection | None]) -> None:
        try:
            while (connection := next_connection()) is not None:
                with self._changed:
                    self._waiting_count -= 1
                    if not self._waiting_count:
                        self._start_thread(next_connection)
                self._run_association(*connection)
                with self._changed:
                    self._waiting_count += 1
        finally:
            with self._changed:
                self._waiting_count -= 1
                self._thread_count -= 1
                self._changed.notify_all()

    def _run_association(self, client_socket: socket.socket, peer: tuple[str, int]) -> None:
        association_id = f"{self._id_prefix}-{next(self._ids)}"
        try:
            client = self._client(client_socket, peer) if self.settings.proxy_protocol else peer
            association = StoreAssociation(self, client_socket, client, association_id) if client is not None else None
        except Exception:
            # Whatever it is, this thread is needed for the next connection. From `run_reactor` none comes.
            _log.exception("association_failed", association=association_id)
            association = None
        if association is None:
            client_socket.close()
            with self._changed:
                self._slots.connection_ended()
            return
        with self._changed:
            self._associations.add(association)
        evt.trigger(association, evt.EVT_CONN_OPEN, {"address": association.story.peer})
        association.run_reactor()

    def _client(self, client_socket: socket.socket, peer: tuple[str, int]) -> tuple[str, int] | None:
        """Whose connection it is, by the load balancer's word. None where there is nothing to serve."""
        result: ConnectionResult
        try:
            if not is_in(peer[0], self.settings.proxy_protocol):
                raise ProxyHeaderError("not from a network of --proxy-protocol")
            return read_client_address(client_socket, peer, self.settings.associate_timeout_s)
        except NothingFollows:
            result = "empty"
            _log.debug("connection_without_a_byte", result=result, peer_address=peer[0])
        except TimeoutError:
            result = "timed_out"
            _log.debug("connection_without_a_byte", result=result, peer_address=peer[0])
        except (ProxyHeaderError, OSError) as error:
            result = "garbage"
            problem = str(error) if isinstance(error, ProxyHeaderError) else "the connection was lost"
            _log.warning("proxy_refused", peer_address=peer[0], problem=problem)
        self.metrics.connection(result)
        return None

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
        with self._changed:
            self._associations.discard(association)
            self._slots.connection_ended()
            self._changed.notify_all()

    def begin_drain(self) -> None:
        """From here on nothing is accepted; associations end when they have nothing more to send."""
        self.draining = True
        os.write(self._wake_writer, b"\0")  # Never read: it wakes every association, also one that looks later.

    def wait_ended(self, timeout_s: float) -> int:
        """Wait until no more connections come and no association is left. Returns how many threads are."""
        until = time.monotonic() + timeout_s
        with self._changed:
            while self._thread_count and (left_s := until - time.monotonic()) > 0:
                self._changed.wait(left_s)
            return self._thread_count

    def abort_all(self, problem: str) -> None:
        """Abort what is left.

        Args:
            problem: why, for their stories.
        """
        with self._changed:
            left = list(self._associations)
        for association in left:
            association.story.problem = problem
            association.end_soon()

    def close(self) -> None:
        """Give the descriptors back. Called when no association is left."""
        for fd in (self.wake_fd, self._wake_writer):
            with contextlib.suppress(OSError):
                os.close(fd)
