"""Legal cuts of a message, and what may come between messages (PS3.8 annex E, PS3.7 section 6.3).

Enters: the same instance in every cut. Leaves: the same file. Never: a cut that matters.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.peers import encoding as enc
from tests.peers.datasets import make
from tests.peers.encoding import Context
from tests.peers.part10 import read_part10
from tests.peers.raw_scu import RawScu
from tests.peers.server import FastScp

pytestmark = pytest.mark.requires_linux  # what is held is counted in /proc

CONTEXTS = [Context(1, enc.CT_IMAGE), Context(3, enc.VERIFICATION)]

CUTS: dict[str, dict[str, Any]] = {
    "as few PDUs as possible": {"data_pdv_bytes": None, "pdvs_per_pdu": 2},
    "one byte a PDV": {"command_pdv_bytes": 1, "data_pdv_bytes": 1},
    "one byte a PDV, all in one PDU": {"command_pdv_bytes": 1, "data_pdv_bytes": 1, "pdvs_per_pdu": 10_000},
    "one byte a PDV, seven in a PDU": {"command_pdv_bytes": 1, "data_pdv_bytes": 1, "pdvs_per_pdu": 7},
    "odd pieces": {"command_pdv_bytes": 13, "data_pdv_bytes": 101},
    "command in one-byte pieces": {"command_pdv_bytes": 1},
    "empty last PDVs": {"empty_last": True},
    "empty last PDVs in one PDU": {"empty_last": True, "pdvs_per_pdu": 4},
    "end of the command and start of the data set in one PDU": {"command_pdv_bytes": 50, "data_pdv_bytes": 500, "pdvs_per_pdu": 3},
}


@pytest.mark.parametrize("cut", CUTS)
def test_any_cut_gives_the_same_file(receiver: FastScp, cut: str) -> None:
    with RawScu(receiver.port) as scu:
        scu.associate(CONTEXTS)
        for pixel_bytes in (0, 2, 3000):
            made = make(pixel_bytes=pixel_bytes)
            assert scu.store(made.sop_class, made.sop_instance, made.data_set, **CUTS[cut]).status == 0
            assert read_part10(receiver.store / made.relative_path).data_set == made.data_set
        scu.release()


@pytest.mark.parametrize("piece_bytes", [1, 5, 6, 7, 11, 12, 13])
def test_any_cut_of_the_tcp_stream_gives_the_same_file(receiver: FastScp, piece_bytes: int) -> None:
    made = make(pixel_bytes=20)
    with RawScu(receiver.port) as scu:
        request = enc.associate_rq(CONTEXTS)
        scu.send_slowly(request, piece_bytes, 0)
        scu.expect(enc.ASSOCIATE_AC)
        stream = b"".join(enc.message_pdus(1, enc.store_command(made.sop_class, made.sop_instance), made.data_set, data_pdv_bytes=33))
        scu.send_slowly(stream, piece_bytes, 0)
        assert scu.read_response().status == 0
        scu.release()
    assert read_part10(receiver.store / made.relative_path).data_set == made.data_set


def test_messages_sent_without_waiting_are_answered_in_order(receiver: FastScp) -> None:
    """A peer that negotiated no asynchronous operations and pipelines all the same is served one at a time."""
    instances = [make(pixel_bytes=5000) for _ in range(50)]
    with RawScu(receiver.port) as scu:
        scu.associate(CONTEXTS)
        stream = b""
        for number, made in enumerate(instances):
            stream += b"".join(enc.message_pdus(1, enc.store_command(made.sop_class, made.sop_instance, number), made.data_set))
        scu.send(stream + enc.RELEASE_RQ_PDU)
        answers = [scu.read_response() for _ in instances]
        scu.expect(enc.RELEASE_RP)
    assert [(each.message_id, each.status) for each in answers] == [(number, 0) for number in range(50)]
    assert {made.relative_path for made in instances} <= set(receiver.stored_files())


def test_echo_between_stores(receiver: FastScp) -> None:
    with RawScu(receiver.port) as scu:
        scu.associate(CONTEXTS)
        for number in range(1, 21):
            made = make()
            assert scu.store(made.sop_class, made.sop_instance, made.data_set, message_id=number).status == 0
            answer = scu.echo(3, message_id=65535 - number)
            assert (answer.status, answer.message_id, answer.context_id) == (0, 65535 - number, 3)
        scu.release()


def test_the_response_says_what_the_standard_wants(receiver: FastScp) -> None:
    """PS3.7 table 9.3-2."""
    made = make()
    with RawScu(receiver.port) as scu:
        scu.associate([Context(1, enc.VERIFICATION), Context(7, enc.CT_IMAGE)])
        answer = scu.store(made.sop_class, made.sop_instance, made.data_set, context_id=7, message_id=65535)
        scu.release()
    assert answer.context_id == 7
    assert answer.number(enc.COMMAND_FIELD) == 0x8001
    assert answer.number(enc.DATA_SET_TYPE) == 0x0101
    assert answer.message_id == 65535
    assert answer.text(enc.AFFECTED_SOP_CLASS) == made.sop_class
    assert answer.text(enc.AFFECTED_SOP_INSTANCE) == made.sop_instance
    assert answer.elements.keys() == {
        0,
        enc.AFFECTED_SOP_CLASS,
        enc.COMMAND_FIELD,
        enc.MESSAGE_ID_RESPONDED,
        enc.DATA_SET_TYPE,
        enc.STATUS,
        enc.AFFECTED_SOP_INSTANCE,
    }


def test_unknown_and_optional_command_elements_are_passed_over(receiver: FastScp) -> None:
    """Move Originator (PS3.7 table 9.3-1), and an element that no edition defines."""
    made = make()
    command = enc.command_set(
        [
            (enc.AFFECTED_SOP_CLASS, enc.padded(made.sop_class)),
            (enc.COMMAND_FIELD, enc.ushort(1)),
            (enc.MESSAGE_ID, enc.ushort(9)),
            (enc.PRIORITY, enc.ushort(1)),
            (enc.DATA_SET_TYPE, enc.ushort(1)),
            (enc.AFFECTED_SOP_INSTANCE, enc.padded(made.sop_instance)),
            (0x00001030, b"MOVE_ORIGIN "),
            (0x00001031, enc.ushort(4)),
            (0x00005555, b"whatever"),
        ]
    )
    with RawScu(receiver.port) as scu:
        scu.associate(CONTEXTS)
        for message_pdu in enc.message_pdus(1, command, made.data_set):
            scu.send(message_pdu)
        answer = scu.read_response()
        assert (answer.status, answer.message_id) == (0, 9)
        scu.release()


def test_a_store_request_without_a_data_set(receiver: FastScp) -> None:
    made = make()
    command = enc.store_command(made.sop_class, made.sop_instance).replace(
        b"\x00\x00\x00\x08\x02\x00\x00\x00\x00\x00", b"\x00\x00\x00\x08\x02\x00\x00\x00\x01\x01"
    )
    with RawScu(receiver.port) as scu:
        scu.associate(CONTEXTS)
        for message_pdu in enc.message_pdus(1, command, None):
            scu.send(message_pdu)
        assert scu.read_response().status == 0xC000
        assert scu.echo(3).status == 0
        scu.release()


def test_a_pdu_moderately_over_the_maximum_is_read(receiver: FastScp) -> None:
    made = make(pixel_bytes=150_000)
    with RawScu(receiver.port) as scu:
        assert scu.associate(CONTEXTS).max_pdu_bytes < 150_000
        assert scu.store(made.sop_class, made.sop_instance, made.data_set, data_pdv_bytes=None).status == 0
        scu.release()
    assert read_part10(receiver.store / made.relative_path).data_set == made.data_set


def test_the_same_instance_again_replaces_the_first(receiver: FastScp) -> None:
    first = make(pixel_bytes=100)
    again = make(pixel_bytes=4000, study=first.study, series=first.series, sop_instance=first.sop_instance)
    with RawScu(receiver.port) as scu:
        scu.associate(CONTEXTS)
        for made in (first, again):
            assert scu.store(made.sop_class, made.sop_instance, made.data_set).status == 0
            assert read_part10(receiver.store / made.relative_path).data_set == made.data_set
        scu.release()
