"""Which presentation contexts are accepted, and in which transfer syntax.

Enters: what the peer proposes. Leaves: pynetdicom's results. Never: a syntax that would make the receiver transcode.
"""

from collections.abc import Mapping

from pydicom._uid_dict import UID_dictionary
from pydicom.uid import UID, ExplicitVRBigEndian, ImplicitVRLittleEndian
from pynetdicom import sop_class
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext, negotiate_as_acceptor

VERIFICATION = UID("1.2.840.10008.1.1")

# Classes that travel by C-STORE but belong to no patient and no study: there is no place to store them under.
_NOT_STORED = frozenset(sop_class._NON_PATIENT_OBJECT_CLASSES.values()) | frozenset(sop_class._MEDIA_STORAGE_CLASSES.values())
_KNOWN_STORAGE = frozenset(sop_class._STORAGE_CLASSES.values()) - _NOT_STORED
_OTHER_SERVICES = frozenset(uid for classes in sop_class._SERVICE_TO_UID_GROUP.values() for uid in classes.values()) - _KNOWN_STORAGE


def is_storage_class(uid: str) -> bool:
    """Whether an abstract syntax is taken for a storage class: all are, but those that the standard defines as something else."""
    if uid in _KNOWN_STORAGE:
        return True
    if uid in _NOT_STORED or uid in _OTHER_SERVICES:
        return False
    known = UID_dictionary.get(uid)
    # Retired storage classes are in pydicom's dictionary alone.
    return known is None or (known[1] == "SOP Class" and "Storage" in known[0] and "Commitment" not in known[0])


def rank_transfer_syntax(uid: str) -> int:
    """Where a transfer syntax stands in the choice among those proposed; of equals, the first proposed is taken.

    Explicit little endian and every compressed syntax keep what the sender has. Implicit loses the value representations, big endian is
    retired, and of a syntax that is not known nothing can be said.
    """
    if uid == ImplicitVRLittleEndian:
        return 1
    if uid == ExplicitVRBigEndian:
        return 2
    known = UID_dictionary.get(uid)
    return 0 if known is not None and known[1] == "Transfer Syntax" else 3


def negotiate(
    proposed: list[PresentationContext],
    roles: Mapping[UID, tuple[bool | None, bool | None]],
    sop_classes: frozenset[str],
) -> tuple[list[PresentationContext], list[SCP_SCU_RoleSelectionNegotiation]]:
    """Results for all proposed presentation contexts, in the order of their ids, and the replies to role selection.

    Args:
        roles: proposed (SCU, SCP) roles by abstract syntax.
        sop_classes: the only storage classes to accept; empty for all.
    """
    results: list[PresentationContext] = []
    replies: dict[UID | None, SCP_SCU_RoleSelectionNegotiation] = {}
    for context in proposed:
        # One at a time: pynetdicom takes one list of transfer syntaxes by abstract syntax, and here it depends on the proposal.
        result, reply = negotiate_as_acceptor([context], _supported(context, roles, sop_classes), dict(roles))
        results += result
        replies |= {item.sop_class_uid: item for item in reply}
    return sorted(results, key=lambda context: context.context_id or 0), list(replies.values())


def _supported(
    context: PresentationContext, roles: Mapping[UID, tuple[bool | None, bool | None]], sop_classes: frozenset[str]
) -> list[PresentationContext]:
    abstract_syntax = context.abstract_syntax
    if abstract_syntax is None:
        return []
    if abstract_syntax != VERIFICATION and (not is_storage_class(abstract_syntax) or (sop_classes and abstract_syntax not in sop_classes)):
        return []
    supported = PresentationContext()
    supported.abstract_syntax = abstract_syntax
    supported.transfer_syntax = sorted(context.transfer_syntax, key=lambda uid: rank_transfer_syntax(str(uid)))
    if abstract_syntax in roles:
        # The peer may be SCU, which is what it is by default; we never are (PS3.7 annex D.3.3.4).
        supported.scu_role, supported.scp_role = True, False
    return [supported]
