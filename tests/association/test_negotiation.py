"""Which contexts are accepted: a verdict on every UID that has a name, and on those that have none.

Enters: pydicom's dictionary and pynetdicom's groups. Leaves: verdicts. Never: a storage class that is refused because it is retired.
"""

from __future__ import annotations

import itertools

import pytest
from pydicom._uid_dict import UID_dictionary
from pydicom.uid import UID, AllTransferSyntaxes, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context, sop_class

from fastscp.association.negotiation import VERIFICATION, is_storage_class, negotiate, rank_transfer_syntax
from tests.peers import encoding as enc

SOP_CLASSES = {uid: name for uid, (name, kind, *_) in UID_dictionary.items() if kind == "SOP Class"}
META_CLASSES = [uid for uid, (_, kind, *_) in UID_dictionary.items() if kind == "Meta SOP Class"]
NOTHING_TO_STORE = [uid for uid, (_, kind, *_) in UID_dictionary.items() if kind not in ("SOP Class", "Meta SOP Class")]
# Storage in name: these are stored by other means (media, commitment) or belong to no patient (PS3.4 annex GG).
OTHER_MEANS = {
    "Media Storage Directory Storage": "1.2.840.10008.1.3.10",
    "Storage Commitment Push Model SOP Class": "1.2.840.10008.1.20.1",
    "Storage Commitment Pull Model SOP Class": "1.2.840.10008.1.20.2",
    "Hanging Protocol Storage": "1.2.840.10008.5.1.4.38.1",
    "Color Palette Storage": "1.2.840.10008.5.1.4.39.1",
    "Generic Implant Template Storage": "1.2.840.10008.5.1.4.43.1",
    "Implant Assembly Template Storage": "1.2.840.10008.5.1.4.44.1",
    "Implant Template Group Storage": "1.2.840.10008.5.1.4.45.1",
    "Protocol Approval Storage": "1.2.840.10008.5.1.4.1.1.200.3",
    "CT Defined Procedure Protocol Storage": "1.2.840.10008.5.1.4.1.1.200.1",
    "XA Defined Procedure Protocol Storage": "1.2.840.10008.5.1.4.1.1.200.7",
    "Inventory Storage": "1.2.840.10008.5.1.4.1.1.201.1",
}


def test_there_is_something_to_judge() -> None:
    assert len(SOP_CLASSES) > 250
    assert len(sop_class._STORAGE_CLASSES) > 100


@pytest.mark.parametrize("uid", sorted(SOP_CLASSES), ids=lambda uid: f"{uid} {SOP_CLASSES[uid]}"[:80])
def test_every_sop_class_that_is_called_storage_is_one(uid: str) -> None:
    name = SOP_CLASSES[uid]
    expected = "Storage" in name and uid not in OTHER_MEANS.values()
    assert is_storage_class(uid) == expected


@pytest.mark.parametrize("uid", sorted(sop_class._STORAGE_CLASSES.values()))
def test_every_class_that_pynetdicom_stores_is_stored(uid: str) -> None:
    assert is_storage_class(uid) == (uid not in OTHER_MEANS.values())


@pytest.mark.parametrize("group", sorted(sop_class._SERVICE_TO_UID_GROUP, key=str), ids=str)
def test_no_class_of_another_service_is_stored(group: str) -> None:
    for uid in sop_class._SERVICE_TO_UID_GROUP[group].values():
        if uid not in sop_class._STORAGE_CLASSES.values():
            assert not is_storage_class(uid), uid


@pytest.mark.parametrize("uids", [META_CLASSES, NOTHING_TO_STORE], ids=["meta classes", "everything else"])
def test_what_is_no_sop_class_is_not_stored(uids: list[str]) -> None:
    assert [uid for uid in uids if is_storage_class(uid)] == []


@pytest.mark.parametrize("uid", ["1.2.826.0.1.3680043.10.9999.1", "1.3.12.2.1107.5.9.1", "1.2.840.10008.5.1.4.1.1.9999", "2.25.1", "1"])
def test_what_nobody_has_named_is_stored(uid: str) -> None:
    assert is_storage_class(uid)


RANKS = [(ExplicitVRLittleEndian, 0), (ImplicitVRLittleEndian, 1), (ExplicitVRBigEndian, 2), ("1.2.3.4", 3), (enc.CT_IMAGE, 3)]


@pytest.mark.parametrize(("uid", "rank"), [*RANKS, (enc.JPEG_BASELINE, 0), (enc.DEFLATED_LE, 0)])
def test_rank(uid: str, rank: int) -> None:
    assert rank_transfer_syntax(uid) == rank


def test_every_standard_syntax_is_before_implicit() -> None:
    for uid in AllTransferSyntaxes:
        assert rank_transfer_syntax(uid) == {ImplicitVRLittleEndian: 1, ExplicitVRBigEndian: 2}.get(uid, 0), uid


def test_the_choice_among_every_set_of_proposed_syntaxes() -> None:
    uids = [str(uid) for uid, _ in RANKS[:4]] + [enc.JPEG_BASELINE]
    for count in (1, 2, 3, 4, 5):
        for proposed in itertools.permutations(uids, count):
            context = build_context(enc.CT_IMAGE, list(proposed))
            context.context_id = 1
            ((result,), replies) = negotiate([context], {}, frozenset())
            assert result.result == 0
            assert replies == []
            # The first proposed of those that rank best.
            assert result.transfer_syntax == [min(proposed, key=rank_transfer_syntax)]


def negotiated(
    uid: str, roles: dict[UID, tuple[bool | None, bool | None]], *sop_classes: str
) -> tuple[int | None, list[tuple[bool | None, bool | None]]]:
    context = build_context(uid, [enc.EXPLICIT_LE])
    context.context_id = 1
    results, replies = negotiate([context], roles, frozenset(sop_classes))
    assert len(results) == 1
    return results[0].result, [(reply.scu_role, reply.scp_role) for reply in replies]


ROLES: list[tuple[tuple[bool | None, bool | None], int, list[tuple[bool, bool]]]] = [
    ((True, False), 0, [(True, False)]),
    ((True, True), 0, [(True, False)]),
]


@pytest.mark.parametrize(("proposed", "result", "replies"), ROLES)
def test_the_peer_is_scu_whatever_it_proposes(
    proposed: tuple[bool | None, bool | None], result: int, replies: list[tuple[bool, bool]]
) -> None:
    """PS3.7 annex D.3.3.4: an acceptor grants no more than was proposed, and never proposes."""
    assert negotiated(enc.CT_IMAGE, {UID(enc.CT_IMAGE): proposed}) == (result, replies)


def test_a_peer_that_wants_to_be_scp_alone_gets_no_role_that_we_would_have_to_play() -> None:
    result, replies = negotiated(enc.CT_IMAGE, {UID(enc.CT_IMAGE): (False, True)})
    assert result != 0 or replies == [(False, False)]


def test_without_roles_there_is_no_reply() -> None:
    assert negotiated(enc.CT_IMAGE, {}) == (0, [])


def test_only_listed_classes_and_verification() -> None:
    assert negotiated(enc.CT_IMAGE, {}, enc.CT_IMAGE)[0] == 0
    assert negotiated("1.2.840.10008.5.1.4.1.1.4", {}, enc.CT_IMAGE)[0] == 3
    assert negotiated(str(VERIFICATION), {}, enc.CT_IMAGE)[0] == 0
    # A list does not make a storage class of what is none.
    assert negotiated("1.2.840.10008.5.1.4.31", {}, "1.2.840.10008.5.1.4.31")[0] == 3
