"""What one association did, from its connection to its end.

Enters: what happens, as it happens. Leaves: one log record. Never: patient data.
"""

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from pynetdicom.pdu_primitives import A_ASSOCIATE

from fastscp.observe.metrics import AssociationOutcome

if TYPE_CHECKING:
    from fastscp.association.proposal import AcceptedProposal


class Story:
    """Kept by the association's thread; read when it has ended."""

    def __init__(self, association_id: str, peer: tuple[str, int]) -> None:
        self.association_id = association_id
        self.peer = peer
        self.outcome: AssociationOutcome | None = None
        """None as long as nothing but the connection's end is known."""
        self.problem = ""
        self.was_established = False
        self._start = time.monotonic()
        self._calling_ae_title = ""
        self._called_ae_title = ""
        self._accepted_count = 0
        self._rejected_count = 0
        self._statuses: Counter[int] = Counter()
        self._dataset_bytes = 0

    def requested(self, request: A_ASSOCIATE) -> None:
        """An A-ASSOCIATE-RQ was read."""
        self._calling_ae_title = request.calling_ae_title.strip()
        self._called_ae_title = request.called_ae_title.strip()

    def established(self, request: A_ASSOCIATE, answer: "AcceptedProposal") -> None:
        """The association was accepted."""
        self.requested(request)
        self.was_established = True
        self._accepted_count = len(answer.accepted)
        self._rejected_count = len(answer.rejected)

    def answered(self, status: int, dataset_bytes: int) -> None:
        """A C-STORE-RQ was answered."""
        self._statuses[status] += 1
        self._dataset_bytes += dataset_bytes

    def stored(self, count: int, dataset_bytes: int) -> None:
        """So many C-STORE-RQs more were answered with Success."""
        if count:
            self._statuses[0x0000] += count
        self._dataset_bytes += dataset_bytes

    def aborted(self, *, by_peer: bool) -> None:
        """The association ended by an abort or with its connection, unless why is known already."""
        if self.outcome is None:
            self.outcome = "aborted_by_peer" if by_peer else "closed"

    def record(self) -> dict[str, Any]:
        """Key-values for the log."""
        return {
            "association": self.association_id,
            "peer_address": self.peer[0],
            "peer_port": self.peer[1],
            "calling_aet": self._calling_ae_title,
            "called_aet": self._called_ae_title,
            "outcome": self.outcome or "closed",
            "problem": self.problem or None,
            "contexts_accepted": self._accepted_count,
            "contexts_rejected": self._rejected_count,
            "instances": sum(self._statuses.values()),
            "statuses": {f"{status:04X}": count for status, count in sorted(self._statuses.items())},
            "dataset_bytes": self._dataset_bytes,
            "duration_s": round(time.monotonic() - self._start, 3),
        }
