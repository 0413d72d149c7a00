"""pynetdicom's association, in one thread that owns the socket and the reader.

Enters: a connected socket. Leaves: an association set up, ended and cleaned up by pynetdicom's state machine.
Never: a second thread, a poll while idle, a wait without a deadline.
"""

import contextlib
import copy
import socket
import threading
import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, cast

from pynetdicom import evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association, ServiceUser
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.pdu_primitives import A_ASSOCIATE, P_DATA

from fastscp._ext import pdu
from fastscp._ext.pdu import MessageReader
from fastscp._ext.wire import Wire
from fastscp.association.acse import StoreAcse
from fastscp.association.admission import Rejection
from fastscp.association.dul import LocalDimse, PumpedDul
from fastscp.association.proposal import AcceptedProposal, ProposalPdu
from fastscp.association.story import Story
from fastscp.association.transport import PeerAddress, WireSocket
from fastscp.observe.log import get_logger
from fastscp.observe.metrics import RejectionReason
from fastscp.settings import Settings
from fastscp.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

if TYPE_CHECKING:
    from fastscp.association.acceptor import Acceptor

PROGRESS_BYTES = 1000
"""Fewer bytes than this in each progress timeout, inside a message, is a stall."""

NOT_ABORTABLE = ("Sta1", "Sta2", "Sta13")
"""States in which an A-ABORT request means nothing (PS3.8 table 9-10, Evt15)."""

UNEXPECTED_PDU = 2
"""Reason of an A-ABORT, PS3.8 table 9-26."""

_log = get_logger("association")


def _service_user(template: ServiceUser, assoc: "PumpedAssociation") -> ServiceUser:
    # A copy is as good as one made anew, whose constructor validates constants.
    user = copy.copy(template)
    user.assoc = assoc
    user._user_info = list(template._user_info)
    user._ext_neg = {kind: [] for kind in template._ext_neg}
    return user


class PumpedAssociation(Association):
    """An accepted association. What it does while it is established is the subclass's.

    `run_reactor` is to be called in a thread that is then the association's own until the connection is closed. `end_soon` and `abort`
    may be called from any thread, everything else belongs to the association's.
    """

    def __init__(self, acceptor: "Acceptor", client_socket: socket.socket, peer: tuple[str, int], association_id: str) -> None:
        self._acceptor = acceptor
        settings = acceptor.settings
        self._init_base(acceptor, settings)
        self.rejection: RejectionReason | None = None
        self.sop_classes = acceptor.sop_classes
        self.story = Story(association_id, peer)
        self._reader = MessageReader(
            acceptor.pool,
            max_pdu_bytes=settings.max_pdu_bytes,
            max_instance_bytes=settings.max_instance_bytes,
            spill_threshold_bytes=min(settings.spill_threshold_bytes, acceptor.store.spill_from_bytes),
            implementation_class_uid=IMPLEMENTATION_CLASS_UID,
            implementation_version_name=IMPLEMENTATION_VERSION_NAME,
        )
        self._wire = Wire(
            client_socket.fileno(),
            self._reader,
            wake_fd=acceptor.wake_fd,
            progress_bytes=PROGRESS_BYTES,
            progress_s=settings.progress_timeout_s,
        )
        self._abort_requested = False
        self._thread_id = 0
        self._idle_s = settings.idle_timeout_s
        self._client_socket = client_socket
        self.proposal: ProposalPdu
        """The A-ASSOCIATE-RQ; there once the upper layer has decoded it."""
        self.set_socket(WireSocket(self, client_socket, self._wire))
        self.requestor.address_info = PeerAddress.from_tuple(peer)

    def _init_base(self, acceptor: "Acceptor", settings: Settings) -> None:
        # Instead of the constructor of the base class, which makes a provider with a thread and five queues, looks up the local
        # host and binds fifteen handlers one by one; `compat` compares the attributes (benchmarks: work "associations-1").
        self._ae = acceptor.ae
        self._mode = MODE_ACCEPTOR
        self._server = None
        self.requestor = _service_user(acceptor.requestor_template, self)
        self.acceptor = _service_user(acceptor.acceptor_template, self)
        self.is_established = False
        self.is_rejected = False
        self.is_aborted = False
        self.is_released = False
        self._sent_abort = False
        self._sent_release = False
        self._accepted_cx = {}
        self._rejected_cx = []
        self.acse = StoreAcse(self)
        self.dul: PumpedDul = PumpedDul(self, acceptor.proposals)
        self.dimse = LocalDimse(self)
        self.acse_timeout = settings.associate_timeout_s
        self.connection_timeout = None
        self.dimse_timeout = settings.idle_timeout_s
        self.network_timeout = settings.idle_timeout_s
        self.network_timeout_response = "A-ABORT"
        self._handlers = acceptor.handlers_for_association()
        self._kill = False
        self._started_dul = True
        self._dul_ready = acceptor.always_set
        self._reactor_checkpoint = acceptor.always_set
        self._is_paused = True  # A handler may always take over, as in `release`: no reactor reads beside it.
        self._timer_resolution = None
        threading.Thread.__init__(self, daemon=True)

    # What pynetdicom's layers and ours ask of each other.

    def has_default_handler(self, event: evt.InterventionEvent) -> bool:
        """Whether nobody bound a handler of their own to an intervention event."""
        return self._handlers[event][0] is self._acceptor.default_handlers[event][0]

    def judge(self) -> Rejection | None:
        """Whether, and why, this association is to be rejected; counts it among those established where it is not."""
        return self._acceptor.admit(self)

    def free_slot(self) -> None:
        """Stop counting against the limit of associations."""
        self._acceptor.free_slot(self)

    def lost(self) -> None:
        """The connection ended before the answer was sent: what the state machine has to say of it (AA-4)."""
        self._serve_indications()

    def establish(self, answer: AcceptedProposal) -> None:
        """Prepare the reader for P-DATA-TF; called before the answer is sent."""
        request = cast(A_ASSOCIATE, self.requestor.primitive)
        self._reader.establish(answer.transfer_syntaxes, answer.store_context_ids, request.calling_ae_title.strip())
        self._wire.peer_max_pdu_bytes = answer.peer_max_pdu_bytes
        self.story.established(request, answer)
        self._acceptor.established(self)

    # The thread.

    def run_reactor(self) -> None:
        """Associate, serve, and see the connection closed."""
        self._thread_id = threading.get_ident()
        try:
            self.dul.start()
            self._associate()
            if self.is_established:
                self._serve()
            self._wait_closed()
        except Exception:
            self.story.outcome = "aborted"
            _log.exception("association_failed", association=self.story.association_id)
            self._abort_after_failure()
        finally:
            self.is_established = False
            if self.dul.is_alive():
                evt.trigger(self, evt.EVT_CONN_CLOSE, {"address": self.story.peer})
            self._abandon()
            self._reader.close()
            self.dul.socket._shutdown_socket()
            self._acceptor.association_ended(self)

    def _abort_after_failure(self) -> None:
        with contextlib.suppress(Exception):
            if self.dul.state_machine.current_state not in NOT_ABORTABLE:
                self.acse.send_abort(0x02)
            evt.trigger(self, evt.EVT_ABORTED, {})
        self.is_aborted = True

    def _associate(self) -> None:
        timeout_s = self._acceptor.settings.associate_timeout_s
        primitive = self.dul.receive_pdu(wait=True, timeout=timeout_s)
        if not isinstance(primitive, A_ASSOCIATE):
            if primitive is None and self.dul.is_alive() and self.dul.state_machine.current_state == "Sta2":
                self.story.outcome = "timed_out"
                self.dul.report("Evt18")
            return
        self.requestor.primitive = primitive
        evt.trigger(self, evt.EVT_REQUESTED, {})
        # A handler of EVT_REQUESTED may have rejected or aborted.
        if not self.is_aborted and not self.is_rejected:
            self.acse.negotiate_association()

    @abstractmethod
    def _serve(self) -> None:
        """Serve the peer until `is_established` is False."""

    @abstractmethod
    def _abandon(self) -> None:
        """Let go of what was not completed, when the association ends."""

    def _take(self, event: int) -> None:
        # Whatever is not the native path's own goes through pynetdicom's state machine.
        dul = self.dul
        if event == pdu.CONTROL:
            encoded = self._reader.take_control_pdu()
            if encoded[0] == 0x07:
                self.story.aborted(by_peer=True)
            dul.deliver(encoded)
        elif event == pdu.MESSAGE:
            context_id, command_set, data_set = self._reader.take_message()
            primitive = P_DATA()
            # Lists, whatever the annotation says: its setter refuses tuples.
            values: list[Any] = [[context_id, b"\x03" + command_set]]
            if data_set:
                values.append([context_id, b"\x02" + data_set])
            primitive.presentation_data_value_list = values
            dul._recv_pdu.put(P_DATA_TF(primitive))
            dul.report("Evt10")
        elif event == pdu.CLOSED:
            self._peer_gone()
        elif event == pdu.PROTOCOL_ERROR:
            if dul.state_machine.current_state == "Sta13" and self._reader.abort_reason == UNEXPECTED_PDU:
                return  # P-DATA-TF after a rejection, AA-6
            self.story.problem = self._reader.error_text
            self.story.outcome = "aborted"
            dul.abort_reason = self._reader.abort_reason
            dul.report("Evt19")
        elif event in (pdu.TIMEOUT_IDLE, pdu.TIMEOUT_STALLED):
            self.story.problem = "idle for too long" if event == pdu.TIMEOUT_IDLE else "stalled inside a message"
            self.story.outcome = "timed_out"
            self.acse.send_abort(0x02)
            evt.trigger(self, evt.EVT_ABORTED, {})
        elif event == pdu.STORE:
            # After our release request the peer may go on sending: read, not stored, not answered.
            self._reader.take_instance().release()
            if dul.state_machine.current_state not in ("Sta7", "Sta13"):
                dul.abort_reason = UNEXPECTED_PDU
                dul.report("Evt19")  # Evt10 would have the same effect, AA-8, and needs a PDU.
        elif event in (pdu.SPILL, pdu.NO_MEMORY):
            self._reader.discard()

    def _peer_gone(self) -> None:
        if self._abort_requested:
            # Not the peer: `end_soon` closed our receiving side.
            self.story.outcome = "aborted"
            if self.dul.state_machine.current_state not in NOT_ABORTABLE:
                self.acse.send_abort(0x00)
                evt.trigger(self, evt.EVT_ABORTED, {})
        self.dul.report("Evt17")

    def _serve_messages(self) -> None:
        # As pynetdicom's reactor does after each event: a request, a release, an abort.
        while self.is_established:
            context_id, message = self.dimse.get_msg(block=False)
            if message is None:
                break
            self._serve_request(message, cast(int, context_id))
        if self.is_established:
            self._serve_indications()

    def _serve_indications(self) -> None:
        if self.acse.is_release_requested():
            self.story.outcome = "released"
            # Before the peer knows: its next association must not find this one still counted.
            self.free_slot()
            self.acse.send_release(is_response=True)
            self.is_released = True
            self.is_established = False
            evt.trigger(self, evt.EVT_RELEASED, {})
        elif self.acse.is_aborted():
            self.story.aborted(by_peer=False)
            self.dul.receive_pdu(wait=False)
            self.is_aborted = True
            self.is_established = False
            evt.trigger(self, evt.EVT_ABORTED, {})

    def read_control(self, timeout_s: float) -> None:
        """Read until the next PDU that pynetdicom's state machine takes, or the time is up. For states in which no instance is expected."""
        event = self._wire.receive(timeout_s, timeout_s)
        if event in (pdu.TIMEOUT_IDLE, pdu.TIMEOUT_STALLED) or (event == pdu.WOKEN and self._stop_being_woken()):
            return
        self._take(event)

    def _stop_being_woken(self) -> bool:
        self._wire.ignore_wake()
        return True

    def _wait_closed(self) -> None:
        # Sta13: the peer has what it needs to know and closes. Closing first could take a PDU back from it that is on its way.
        dul = self.dul
        while dul.is_alive() and dul.state_machine.current_state == "Sta13":
            left_s = dul.artim_timer.remaining
            if left_s <= 0:
                dul.report("Evt18")
            elif self._reader_is_dead():
                self._discard_until_closed(left_s)
            else:
                self.read_control(left_s)

    def _reader_is_dead(self) -> bool:
        return bool(self._reader.error_text)

    def _discard_until_closed(self, timeout_s: float) -> None:
        # After a protocol error nothing that follows can be framed.
        client_socket = self._client_socket
        until = time.monotonic() + timeout_s
        try:
            while (left_s := until - time.monotonic()) > 0:
                client_socket.settimeout(left_s)
                if not client_socket.recv(65536):
                    break
        except TimeoutError:
            self.dul.report("Evt18")
        except OSError:
            self.dul.report("Evt17")
        else:
            self.dul.report("Evt17")

    # From outside.

    def end_soon(self) -> None:
        """Abort from another thread: the association's own sends the A-ABORT when it notices."""
        self._abort_requested = True
        try:
            self._client_socket.shutdown(socket.SHUT_RD)
        except OSError:
            return  # It has ended already.

    def _abort_blocking(self, block: bool = True) -> None:
        # pynetdicom's `abort`: a handler calls it in our thread, anybody else in theirs.
        if threading.get_ident() != self._thread_id:
            self.end_soon()
        elif self.dul.is_alive() and self.dul.state_machine.current_state not in NOT_ABORTABLE:
            self.story.outcome = "aborted"
            self.acse.send_abort(0x00)
            evt.trigger(self, evt.EVT_ABORTED, {})

    def is_alive(self) -> bool:
        """Whether the connection is not closed yet."""
        return self.dul.is_alive()

    def kill(self) -> None:
        """pynetdicom calls this where its own threads must be stopped; here the association's thread just comes to its end."""
        self._kill = True
        self.is_established = False
