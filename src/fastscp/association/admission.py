"""Who may send: the reasons to reject an association.

Enters: a request and where it came from. Leaves: a rejection, or nothing. Never: an answer that the standard has no code for.
"""

import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

from pynetdicom._globals import APPLICATION_CONTEXT_NAME
from pynetdicom.pdu_primitives import A_ASSOCIATE

from fastscp.observe.metrics import RejectionReason
from fastscp.settings import Network, Settings


class Rejection(NamedTuple):
    """An A-ASSOCIATE-RJ: result, source and diagnostic of PS3.8 table 9-21, and the reason's name in the metrics."""

    result: int
    source: int
    diagnostic: int
    reason: RejectionReason


PEER_ADDRESS = Rejection(1, 1, 1, "peer_address")
APPLICATION_CONTEXT = Rejection(1, 1, 2, "application_context")
CALLING_AE_TITLE = Rejection(1, 1, 3, "calling_aet")
CALLED_AE_TITLE = Rejection(1, 1, 7, "called_aet")
TEMPORARY_CONGESTION = Rejection(2, 3, 1, "draining")
LOCAL_LIMIT_EXCEEDED = Rejection(2, 3, 2, "local_limit")


class Admission:
    """The rules of one receiver. Immutable."""

    def __init__(self, settings: Settings) -> None:
        self._called_ae_title = settings.aet if settings.require_called_aet else None
        self._calling_ae_titles = frozenset(settings.require_calling_aet)
        self._networks = settings.peers

    def judge(self, request: A_ASSOCIATE, address: str, *, draining: bool) -> Rejection | None:
        """The reason to reject, or None: then all that is left to ask is whether there is a slot.

        Args:
            address: the peer's numeric address.
        """
        if self._networks and not is_in(address, self._networks):
            return PEER_ADDRESS
        if request.application_context_name != APPLICATION_CONTEXT_NAME:
            return APPLICATION_CONTEXT
        # Spaces around a title are not significant (PS3.8 table 9-11).
        if self._called_ae_title is not None and request.called_ae_title.strip() != self._called_ae_title:
            return CALLED_AE_TITLE
        if self._calling_ae_titles and request.calling_ae_title.strip() not in self._calling_ae_titles:
            return CALLING_AE_TITLE
        return TEMPORARY_CONGESTION if draining else None


def is_in(address: str, networks: Iterable[Network]) -> bool:
    """Whether a numeric address is one of these networks'."""
    # A zone (fe80::1%eth0) names one of our interfaces and says nothing of the peer.
    peer = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped is not None:
        peer = peer.ipv4_mapped
    return any(peer in network for network in networks)
