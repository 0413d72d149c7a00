"""What may be proposed, and what comes of it (PS3.8 section 9.3, PS3.7 annex D).

Enters: association requests. Leaves: acceptances, or rejections with the standard's numbers. Never: an answer by accident.
"""

from __future__ import annotations

import struct
import warnings

import pydicom
import pytest

from tests.peers import encoding as enc
from tests.peers.datasets import make
from tests.peers.encoding import Context
from tests.peers.part10 import SOURCE_AE, read_part10
from tests.peers.raw_scu import RawScu, Rejected
from tests.peers.server import FastScp, wait_until

pytestmark = pytest.mark.requires_linux  # what is held is counted in /proc

REFUSED_ABSTRACT_SYNTAX = 3
ROLE_SELECTION = 0x54
NOT_STORAGE = {
    "modality worklist": "1.2.840.10008.5.1.4.31",
    "modality performed procedure step": "1.2.840.10008.3.1.2.3.3",
    "storage commitment": "1.2.840.10008.1.20.1",
    "patient root find": "1.2.840.10008.5.1.4.1.2.1.1",
    "study root find": "1.2.840.10008.5.1.4.1.2.2.1",
    "study root move": "1.2.840.10008.5.1.4.1.2.2.2",
    "study root get": "1.2.840.10008.5.1.4.1.2.2.3",
    "basic grayscale print": "1.2.840.10008.5.1.1.9",
    "basic film session": "1.2.840.10008.5.1.1.1",
    "unified procedure step push": "1.2.840.10008.5.1.4.34.6.1",
    "instance availability": "1.2.840.10008.5.1.4.33",
    "relevant patient information": "1.2.840.10008.5.1.4.37.1",
}
STORAGE = {
    "ct": enc.CT_IMAGE,
    "private": "1.2.826.0.1.3680043.10.9999.77.1",
    "a storage class of a future edition": "1.2.840.10008.5.1.4.1.1.999.1",
    "retired ultrasound": "1.2.840.10008.5.1.4.1.1.6",
    "encapsulated pdf": "1.2.840.10008.5.1.4.1.1.104.1",
}


def test_classes_that_are_known_and_not_storage_are_refused(receiver: FastScp) -> None:
    contexts = [Context(2 * at + 1, uid) for at, uid in enumerate(NOT_STORAGE.values())]
    with RawScu(receiver.port) as scu:
        accepted = scu.associate([*contexts, Context(101, enc.VERIFICATION), Context(103, enc.CT_IMAGE)])
        assert {context.id: accepted.results[context.id] for context in contexts} == {
            context.id: REFUSED_ABSTRACT_SYNTAX for context in contexts
        }
        assert accepted.results[101] == accepted.results[103] == 0
        assert scu.echo(101).status == 0
        scu.release()


@pytest.mark.parametrize("kind", STORAGE)
def test_every_other_class_is_stored(receiver: FastScp, kind: str) -> None:
    made = make(sop_class=STORAGE[kind])
    with RawScu(receiver.port) as scu:
        scu.associate([Context(1, made.sop_class)])
        assert scu.store(made.sop_class, made.sop_instance, made.data_set).status == 0
        scu.release()
    assert read_part10(receiver.store / made.relative_path).data_set == made.data_set


@pytest.mark.parametrize(
    ("proposed", "chosen"),
    [
        ((enc.EXPLICIT_LE, enc.IMPLICIT_LE), enc.EXPLICIT_LE),
        ((enc.IMPLICIT_LE, enc.EXPLICIT_LE), enc.EXPLICIT_LE),
        ((enc.IMPLICIT_LE, enc.JPEG_BASELINE), enc.JPEG_BASELINE),
        ((enc.JPEG_BASELINE, enc.EXPLICIT_LE), enc.JPEG_BASELINE),
        ((enc.EXPLICIT_LE, enc.JPEG_BASELINE), enc.EXPLICIT_LE),
        ((enc.EXPLICIT_BE, enc.IMPLICIT_LE), enc.IMPLICIT_LE),
        ((enc.EXPLICIT_BE, enc.IMPLICIT_LE, enc.EXPLICIT_LE), enc.EXPLICIT_LE),
        ((enc.EXPLICIT_BE, enc.IMPLICIT_LE, enc.JPEG_BASELINE), enc.JPEG_BASELINE),
        ((enc.EXPLICIT_BE,), enc.EXPLICIT_BE),
        ((enc.IMPLICIT_LE,), enc.IMPLICIT_LE),
        (("1.2.826.0.1.3680043.10.9999.5",), "1.2.826.0.1.3680043.10.9999.5"),
    ],
)
def test_choice_of_transfer_syntax(receiver: FastScp, proposed: tuple[str, ...], chosen: str) -> None:
    with RawScu(receiver.port) as scu:
        assert scu.associate([Context(1, enc.CT_IMAGE, proposed)]).transfer_syntaxes == {1: chosen}
        scu.release()


@pytest.mark.parametrize("version", [0x0001, 0x0003, 0xFFFF])
def test_protocol_version_with_bit_0(receiver: FastScp, version: int) -> None:
    with RawScu(receiver.port) as scu:
        assert scu.associate(protocol_version=version).protocol_version == 1
        scu.release()


@pytest.mark.parametrize("version", [0x0000, 0x0002, 0xFFFE])
def test_protocol_version_without_bit_0(receiver: FastScp, version: int) -> None:
    with RawScu(receiver.port) as scu:
        with pytest.raises(Rejected) as rejected:
            scu.associate(protocol_version=version)
        assert rejected.value.answer == (1, 2, 2)
        scu.half_close()
        assert scu.wait_closed() == []


def test_another_application_context(receiver: FastScp) -> None:
    with RawScu(receiver.port) as scu:
        with pytest.raises(Rejected) as rejected:
            scu.associate(application_context="1.2.3.4")
        assert rejected.value.answer == (1, 1, 2)


USER_ITEMS = {
    "an unknown item": enc.item(0x77, b"from a future edition"),
    "asynchronous operations window": enc.item(0x53, struct.pack(">HH", 8, 8)),
    "user identity that asks for an answer": enc.item(0x58, b"\x01\x01" + struct.pack(">H", 4) + b"user" + struct.pack(">H", 0)),
    "scu and scp role": enc.item(0x54, struct.pack(">H", len(enc.CT_IMAGE)) + enc.CT_IMAGE.encode() + b"\x01\x01"),
    "extended negotiation": enc.item(0x56, struct.pack(">H", len(enc.CT_IMAGE)) + enc.CT_IMAGE.encode() + b"\x02\0\0\0\0\0"),
    "common extended negotiation": enc.item(
        0x57,
        struct.pack(">H", len(enc.CT_IMAGE)) + enc.CT_IMAGE.encode() + struct.pack(">H", 17) + b"1.2.840.10008.4.2" + struct.pack(">H", 0),
    ),
    "implementation version": enc.item(0x55, b"SOME_VERSION_1"),
}


@pytest.mark.parametrize("kind", USER_ITEMS)
def test_user_information_items(receiver: FastScp, kind: str) -> None:
    made = make()
    with RawScu(receiver.port) as scu:
        accepted = scu.associate(user_items=USER_ITEMS[kind])
        assert accepted.results == {1: 0}
        assert 0x77 not in accepted.user_item_types
        assert (ROLE_SELECTION in accepted.user_item_types) == (kind == "scu and scp role")
        assert scu.store(made.sop_class, made.sop_instance, made.data_set).status == 0
        scu.release()


def test_as_many_contexts_as_there_can_be(receiver: FastScp) -> None:
    contexts = [Context(number, f"1.2.826.0.1.3680043.10.9999.{number}", (enc.EXPLICIT_LE, enc.IMPLICIT_LE)) for number in range(1, 256, 2)]
    with RawScu(receiver.port) as scu:
        assert scu.associate(contexts).results == dict.fromkeys(range(1, 256, 2), 0)
        made = make(sop_class=contexts[-1].abstract_syntax)
        assert scu.store(made.sop_class, made.sop_instance, made.data_set, context_id=255).status == 0
        scu.release()


def test_the_same_proposal_gets_the_same_answer_again(receiver: FastScp) -> None:
    contexts = [Context(1, enc.CT_IMAGE, (enc.IMPLICIT_LE, enc.EXPLICIT_LE)), Context(3, NOT_STORAGE["study root find"])]
    answers = []
    workers = receiver.events("ready")[0]["workers"]
    hits = receiver.metrics()['fastscp_negotiation_cache_total{result="hit"}']
    # Each worker remembers its own.
    callers = [b"FIRST"] * (workers + 1) + [b"SECOND"]
    for calling in callers:
        made = make()
        with RawScu(receiver.port) as scu:
            answers.append(scu.associate(contexts, calling=calling))
            assert scu.store(made.sop_class, made.sop_instance, made.data_set).status == 0
            scu.release()
        assert read_part10(receiver.store / made.relative_path).text(SOURCE_AE) == calling.decode()
    assert answers == [answers[0]] * len(callers)
    assert receiver.metrics()['fastscp_negotiation_cache_total{result="hit"}'] > hits


def test_a_remembered_answer_honours_what_is_not_part_of_the_contexts(receiver: FastScp) -> None:
    """The peer's maximum length is its own each time: the response must fit into it."""
    for max_pdu_bytes in (16384, 64, 0):
        made = make(study=None)
        with RawScu(receiver.port) as scu:
            scu.associate(max_pdu_bytes=max_pdu_bytes)
            for message_pdu in enc.message_pdus(1, enc.store_command(made.sop_class, made.sop_instance), made.data_set):
                scu.send(message_pdu)
            kind, body = scu.read_pdu()
            assert kind == enc.P_DATA
            assert max_pdu_bytes == 0 or len(body) <= max_pdu_bytes


ODD_AE_TITLES = {
    "control characters": b"ODD\x01\x02\x1b[31m",
    "not ascii": b"\xff\xfe\xc3\xa4",
    "path": b"../../etc",
    "backslash": b"A\\B\\C",
    "quotes and newline": b'"}\n{"a":1',
    "NUL padded": b"NULS" + bytes(12),
    "leading spaces": b"   LEAD",
    "only spaces": b" " * 16,
    "only NULs": bytes(16),
    "16 characters": b"SIXTEEN_CHARS_16",
}


@pytest.mark.parametrize("kind", ODD_AE_TITLES)
def test_odd_ae_titles_never_break_storing(receiver: FastScp, kind: str) -> None:
    made = make()
    with RawScu(receiver.port) as scu:
        scu.associate(calling=ODD_AE_TITLES[kind], called=ODD_AE_TITLES[kind])
        assert scu.store(made.sop_class, made.sop_instance, made.data_set).status == 0
        scu.release()
    path = receiver.store / made.relative_path
    assert read_part10(path).data_set == made.data_set
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert pydicom.dcmread(path).SOPInstanceUID == made.sop_instance
    receiver.metrics()


def test_rejections_are_counted_and_logged_once(receiver: FastScp) -> None:
    name = 'fastscp_rejections_total{reason="protocol_version"}'
    before, records = receiver.metrics()[name], len(receiver.records)
    with RawScu(receiver.port) as scu, pytest.raises(Rejected):
        scu.associate(protocol_version=2)
    wait_until(lambda: receiver.metrics()[name] == before + 1, "it is counted")
    wait_until(lambda: len(receiver.records) > records, "it is logged")
    assert len([record for record in receiver.records[records:] if "reject" in record["event"]]) == 1
