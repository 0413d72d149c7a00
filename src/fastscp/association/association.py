"""One association and its C-STORE messages.

Enters: a connected socket. Leaves: answered C-STORE requests; everything else goes through pynetdicom.
Never: an answer before the store has committed, a wait for memory without a deadline.
"""

import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from pynetdicom import evt
from pynetdicom.pdu_primitives import A_ASSOCIATE

from fastscp._ext import pdu
from fastscp._ext.part10 import Instance
from fastscp.association.events import StoreEvents
from fastscp.association.proposal import AcceptedProposal
from fastscp.association.pumped import PumpedAssociation
from fastscp.receive import Intake
from fastscp.stores import Origin

if TYPE_CHECKING:
    from fastscp.association.acceptor import Acceptor

DRAIN_QUIET_S = 2.0
"""While draining, an association that begins no message for this long is released."""


class StoreAssociation(PumpedAssociation):
    """An accepted association whose C-STORE messages take the native path."""

    def __init__(self, acceptor: "Acceptor", client_socket: socket.socket, peer: tuple[str, int], association_id: str) -> None:
        super().__init__(acceptor, client_socket, peer, association_id)
        self._intake: Intake
        """There once the association is established."""
        self._events = StoreEvents(self)
        self._wire.leave_to_owner = self._events.wanted
        self._memory_deadline: float | None = None

    def establish(self, answer: AcceptedProposal) -> None:
        """Prepare to store what will come."""
        request = cast(A_ASSOCIATE, self.requestor.primitive)
        origin = Origin(self.story.association_id, request.calling_ae_title.strip(), request.called_ae_title.strip())
        acceptor = self._acceptor
        store = acceptor.store.for_association(origin)
        sender = acceptor.metrics.sender(origin.calling_ae_title)
        self._intake = Intake(store, acceptor.metrics, sender, self.sop_classes, origin.association_id)
        if store.committer is not None and not self.sop_classes:
            self._wire.commit_with(store.committer, acceptor.metrics.stored_tally, sender)
        super().establish(answer)

    def bind(self, event: evt.EventType, handler: Callable[..., Any], args: list[Any] | None = None) -> None:
        """Bind a handler to an event of this association."""
        super().bind(event, handler, args)
        self._look_again()

    def unbind(self, event: evt.EventType, handler: Callable[..., Any]) -> None:
        """Unbind a handler from an event of this association."""
        super().unbind(event, handler)
        self._look_again()

    def _look_again(self) -> None:
        self._events.look_again()
        self._wire.leave_to_owner = self._events.wanted

    def _serve(self) -> None:
        wire, reader = self._wire, self._reader
        while self.is_established:
            event = wire.serve(self._idle_s)
            if event == pdu.STORE:
                self._store(reader.take_instance())
            elif event == pdu.SPILL:
                if not self._intake.spill(cast(Instance, reader.instance)):
                    reader.discard()
            elif event == pdu.NO_MEMORY:
                self._find_memory()
            elif event == pdu.WOKEN:
                wire.ignore_wake()
                self._idle_s = min(self._idle_s, DRAIN_QUIET_S)
            elif event == pdu.TIMEOUT_IDLE and self._acceptor.draining:
                self.acse.negotiate_release()
                self.story.outcome = "released" if self.is_released else "aborted"
            else:
                self._take(event)
                self._serve_messages()

    def _store(self, instance: Instance) -> None:
        events = self._events
        if not events.wanted:
            answer = self._intake.store(instance)
            self._wire.queue_store_response(instance, *answer)
        else:
            wish = events.received(instance)
            if not self.is_established:
                # A handler aborted: nothing more goes to this peer, so nothing may be stored that it was not told of.
                instance.release()
                return
            if wish is None or wish.is_warning:
                answer = self._intake.store(instance)
                if wish is not None and answer.status == 0x0000:
                    answer = wish
            else:
                answer = self._intake.refuse(instance, wish)
            self._wire.queue_store_response(instance, *answer)
            events.sent(instance, answer)
        self._memory_deadline = None
        self.story.answered(answer.status, instance.dataset_bytes)

    def _find_memory(self) -> None:
        # Spill what is here, else wait for others; the peer is held back by TCP meanwhile.
        instance = self._reader.instance
        if instance is None:
            raise MemoryError("for a PDU that is no C-STORE-RQ")
        now = time.monotonic()
        if self._memory_deadline is None:
            self._memory_deadline = now + self._acceptor.settings.put_timeout_s
        before_bytes = instance.spilled_bytes
        if not self._intake.spill(instance):
            self._reader.discard()
        elif instance.spilled_bytes == before_bytes and not instance.use_reserve():
            left_s = max(0.0, self._memory_deadline - now)
            if not self._acceptor.pool.wait_available(left_s):
                self._reader.discard()

    def _abandon(self) -> None:
        if self.story.was_established:
            self._intake.abandon()
            self.story.stored(*self._wire.committed)
