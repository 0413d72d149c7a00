"""Association control: pynetdicom's, with our admission and with answers that are remembered.

Enters: a request primitive. Leaves: an established association, or a rejection.
Never: a copy of a supported context, a scan of all threads.
"""

from typing import TYPE_CHECKING, cast

from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom._globals import APPLICATION_CONTEXT_NAME
from pynetdicom.acse import ACSE
from pynetdicom.pdu import A_ASSOCIATE_AC
from pynetdicom.pdu_primitives import A_ASSOCIATE, MaximumLengthNotification

from fastscp.association.admission import Rejection
from fastscp.association.negotiation import VERIFICATION, negotiate
from fastscp.association.proposal import AcceptedProposal, ProposalPdu

if TYPE_CHECKING:
    from fastscp.association.pumped import PumpedAssociation

_EVENTS_THAT_DECIDE = (evt.EVT_ASYNC_OPS, evt.EVT_SOP_COMMON, evt.EVT_SOP_EXTENDED)

_USER_IDENTITY_REFUSED = Rejection(2, 2, 1, "user_identity")


class StoreAcse(ACSE):
    """Answers association requests. One for each association."""

    assoc: "PumpedAssociation"

    def reject(self, rejection: Rejection) -> None:
        """Send an A-ASSOCIATE-RJ and fire the event."""
        self.assoc.rejection = rejection.reason
        self.send_reject(rejection.result, rejection.source, rejection.diagnostic)
        evt.trigger(self.assoc, evt.EVT_REJECTED, {})

    def _negotiate_as_acceptor(self) -> None:
        assoc = self.assoc
        proposal = assoc.proposal
        self.requestor.ae_title = proposal.calling_ae_title
        rejection = assoc.judge()
        if rejection is not None:
            self.reject(rejection)
            return
        # Where a handler decides, the answer may differ from one association to the next.
        fixed = all(assoc.has_default_handler(event) for event in _EVENTS_THAT_DECIDE)
        answer = proposal.answer if fixed else None
        if answer is None:
            answer = self._answer(proposal)
            if answer is not None and fixed and not self.requestor.user_identity:
                proposal.answer = answer
                assoc.dul.proposals.remember(proposal)
        if answer is None:
            assoc.free_slot()
            self.reject(_USER_IDENTITY_REFUSED)
            return
        assoc._accepted_cx = answer.accepted
        assoc._rejected_cx = answer.rejected
        assoc.acceptor.primitive = answer.primitive
        assoc.establish(answer)
        assoc.dul.remembered_answer = answer
        assoc.dul.send_pdu(answer.primitive)
        assoc.dul.remembered_answer = None
        if not assoc.dul.is_alive():
            assoc.lost()
            return
        evt.trigger(assoc, evt.EVT_ACCEPTED, {})
        if assoc.is_aborted:
            return
        assoc.is_established = True
        evt.trigger(assoc, evt.EVT_ESTABLISHED, {})

    def _answer(self, proposal: ProposalPdu) -> AcceptedProposal | None:
        # None where the user's identity is refused.
        request = cast(A_ASSOCIATE, self.requestor.primitive)
        if self.requestor.user_identity:
            accepted, response = self._check_user_identity()
            if not accepted:
                return None
            if response:
                self.acceptor.add_negotiation_item(response)
        for item in self._check_sop_class_extended():
            self.acceptor.add_negotiation_item(item)
        self.acceptor._common_ext = self._check_sop_class_common_extended()
        if self.requestor.asynchronous_operations != (1, 1):
            window = self._check_async_ops()
            if window:
                self.acceptor.add_negotiation_item(window)
        roles = {uid: (item.scu_role, item.scp_role) for uid, item in self.requestor.role_selection.items()}
        results, replies = negotiate(request.presentation_context_definition_list, roles, self.assoc.sop_classes)
        for reply in replies:
            self.acceptor.add_negotiation_item(reply)
        primitive = A_ASSOCIATE()
        primitive.application_context_name = UID(APPLICATION_CONTEXT_NAME)
        primitive.calling_ae_title = request.calling_ae_title
        primitive.called_ae_title = request.called_ae_title
        primitive.result = 0x00
        primitive.result_source = 0x01
        primitive.presentation_context_definition_results_list = results
        primitive.user_information = self.acceptor.user_information
        accepted_contexts = {cast(int, context.context_id): context for context in results if context.result == 0x00}
        return AcceptedProposal(
            primitive=primitive,
            encoded=A_ASSOCIATE_AC(primitive).encode(),
            accepted=accepted_contexts,
            rejected=[context for context in results if context.result != 0x00],
            transfer_syntaxes={context_id: str(context.transfer_syntax[0]) for context_id, context in accepted_contexts.items()},
            store_context_ids=frozenset(
                context_id for context_id, context in accepted_contexts.items() if context.abstract_syntax != VERIFICATION
            ),
            peer_max_pdu_bytes=_maximum_length(request),
        )


def _maximum_length(request: A_ASSOCIATE) -> int:
    for item in request.user_information:
        if isinstance(item, MaximumLengthNotification):
            return int(item.maximum_length_received or 0)
    return 0  # no limit, PS3.8 annex D.1.1
