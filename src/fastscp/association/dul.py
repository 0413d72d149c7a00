"""pynetdicom's upper layer provider, without its thread.

Enters: PDUs from the reader and primitives from the association. Leaves: what pynetdicom's state machine makes of them.
Never: a thread of its own, a poll, P-DATA-TF of a C-STORE-RQ (that never comes here).
"""

import queue
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from pynetdicom import evt
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import StateMachine
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_RJ, _PDUType
from pynetdicom.pdu_primitives import A_ABORT, A_ASSOCIATE, A_P_ABORT, A_RELEASE, P_DATA, _PDUPrimitiveType
from pynetdicom.timer import Timer

from fastscp.association.proposal import AcceptedProposal, Proposals

if TYPE_CHECKING:
    from fastscp.association.pumped import PumpedAssociation
    from fastscp.association.transport import WireSocket


class LocalQueue(queue.Queue[Any]):
    """A queue for one thread: without the lock and the three conditions, which cost more than an association does.

    (benchmarks: work "associations-1")
    """

    def __init__(self) -> None:
        # Not the base class's: what it makes is what is spared. Only the methods below are used.
        self.queue: deque[Any] = deque()

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Append an item; there is always room."""
        self.queue.append(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """The first item. Raises queue.Empty; never waits, since nobody else could put one."""
        if not self.queue:
            raise queue.Empty
        return self.queue.popleft()

    def empty(self) -> bool:
        """Whether there is no item."""
        return not self.queue


class LocalDimse(DIMSEServiceProvider):
    """pynetdicom's message provider with a `LocalQueue`: whoever puts a message there is the one who takes it."""

    def __init__(self, assoc: "PumpedAssociation") -> None:
        # Instead of the constructor of the base class; `compat` compares the attributes.
        self._assoc = assoc
        self.cancel_req = {}
        self.message = None
        self.msg_queue = LocalQueue()

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take a message; one that cannot be decoded is an invalid PDU to the state machine, whatever the decoder trips over."""
        try:
            super().receive_primitive(primitive)
        except Exception:
            self.message = None
            self.dul.event_queue.put("Evt19")


class _StateMachine(StateMachine):
    """pynetdicom's, except that an answer which is remembered is sent as it was encoded the first time (AE-7)."""

    dul: "PumpedDul"

    def do_action(self, event: str) -> None:
        """Run the action of an event in the current state (PS3.8 table 9-10)."""
        accepted = self.dul.remembered_answer if event == "Evt7" and self.current_state == "Sta3" else None
        if accepted is None:
            super().do_action(event)
            return
        self.dul.to_provider_queue.get(False)
        self.dul.socket.send(accepted.encoded)
        if self.dul.assoc.get_handlers(evt.EVT_PDU_SENT):
            evt.trigger(self.dul.assoc, evt.EVT_PDU_SENT, {"pdu": accepted.pdu()})
        states = {"action": "AE-7", "current_state": "Sta3", "fsm_event": "Evt7", "next_state": "Sta6"}
        evt.trigger(self.dul.assoc, evt.EVT_FSM_TRANSITION, states)
        self.transition("Sta6")


class PumpedDul(DULServiceProvider):
    """Runs in the association's thread: whoever hands it something runs the state machine until nothing is left to do."""

    assoc: "PumpedAssociation"
    socket: "WireSocket"

    def __init__(self, assoc: "PumpedAssociation", proposals: Proposals) -> None:
        # Instead of the constructor of the base class, whose thread and queues are not used; `compat` compares the attributes.
        self._assoc = assoc
        self.socket = None  # type: ignore[assignment]  # set_socket demands it, and is called before anything else
        self.event_queue = LocalQueue()
        self.to_provider_queue = LocalQueue()
        self.to_user_queue = LocalQueue()
        self._recv_pdu = LocalQueue()
        self._idle_timer = Timer(None)
        self.artim_timer = Timer(None)
        self.state_machine = _StateMachine(self)
        self._run_loop_delay = 0.0
        self._kill_thread = False
        self.remembered_answer: AcceptedProposal | None = None
        """Set between a proposal that is remembered and the answer to it."""
        self.abort_reason = 0
        """The reason that the next A-ABORT from the service provider gives, PS3.8 table 9-26."""
        self.proposals = proposals
        self._alive = False
        self._pumping = False

    def start(self) -> None:
        """Begin with the transport connection indication that is queued."""
        self._alive = True
        self.assoc._dul_ready.set()
        self.pump()

    def is_alive(self) -> bool:
        """Whether the association is not in Sta1 for good."""
        return self._alive

    def kill_dul(self) -> None:
        """Called by the state machine when it reaches Sta1."""
        self._alive = False

    def stop_dul(self) -> bool:
        """Nothing runs that could be waited for; what is left is the close of the transport, see PumpedAssociation."""
        return True

    def send_pdu(self, primitive: _PDUPrimitiveType) -> None:
        """Hand a primitive to the state machine, which sends it before this returns."""
        if isinstance(primitive, A_ASSOCIATE | A_RELEASE | A_ABORT | A_P_ABORT):
            evt.trigger(self.assoc, evt.EVT_ACSE_SENT, {"primitive": primitive})
        self.to_provider_queue.put(primitive)
        self.pump()

    def receive_pdu(self, wait: bool = False, timeout: float | None = None) -> A_ASSOCIATE | A_RELEASE | A_ABORT | A_P_ABORT | None:
        """The next primitive for the association; waiting means reading from the peer until there is one."""
        until = time.monotonic() + (timeout if timeout is not None else 86400.0)
        # In Sta13 nothing comes any more that the association would have to know.
        while wait and self.to_user_queue.empty() and self._alive and self.state_machine.current_state != "Sta13":
            left_s = until - time.monotonic()
            if left_s <= 0:
                return None
            self.assoc.read_control(left_s)
        return super().receive_pdu(wait=False)

    def deliver(self, encoded: bytes) -> None:
        """Take a whole PDU from the peer that is not P-DATA-TF of a C-STORE-RQ."""
        try:
            pdu, event = self._decode_pdu(bytearray(encoded))
        except Exception:
            # Whatever its decoder trips over is the peer's doing.
            self.report("Evt19")
            return
        self._recv_pdu.put(pdu)
        self.report(event)

    def report(self, event: str) -> None:
        """Hand an event of the transport to the state machine (PS3.8 table 9-10)."""
        self.event_queue.put(event)
        self.pump()

    def pump(self) -> None:
        """Run the state machine until there is nothing left to do."""
        if self._pumping:
            return  # An action or a handler of an event called: the loop below goes on with it.
        self._pumping = True
        try:
            while self._alive:
                if self.event_queue.empty() and not self._process_recv_primitive():
                    break
                self.state_machine.do_action(self.event_queue.get(False))
        finally:
            self._pumping = False

    def _send(self, pdu: _PDUType) -> None:
        if isinstance(pdu, A_ABORT_RQ) and pdu.source == 0x02:
            pdu.reason_diagnostic = self.abort_reason
        elif isinstance(pdu, A_ASSOCIATE_RJ) and self.assoc.rejection is None:
            # The state machine's own rejection, in AE-6.
            self.assoc.rejection = "protocol_version"
        super()._send(pdu)

    def _decode_pdu(self, bytestream: bytearray) -> tuple[_PDUType, str]:
        if bytestream[0] != 0x01:
            return super()._decode_pdu(bytestream)
        encoded = bytes(bytestream)
        evt.trigger(self.assoc, evt.EVT_DATA_RECV, {"data": encoded})
        pdu = self.proposals.decode(encoded)
        self.assoc.proposal = pdu
        evt.trigger(self.assoc, evt.EVT_PDU_RECV, {"pdu": pdu})
        return pdu, "Evt6"
