"""Releases, aborts and broken connections in every state (PS3.8 section 9.2).

Enters: an end at any point. Leaves: everything freed, everything acknowledged stored. Never: half an instance.
"""

from __future__ import annotations

import socket

import pytest

from tests.peers import encoding as enc
from tests.peers.datasets import make
from tests.peers.encoding import Context
from tests.peers.part10 import read_part10
from tests.peers.raw_scu import RawScu
from tests.peers.server import FastScp

pytestmark = pytest.mark.requires_linux  # what is held is counted in /proc

_MADE = make(pixel_bytes=100_000)
_MESSAGE = list(enc.message_pdus(1, enc.store_command(_MADE.sop_class, _MADE.sop_instance), _MADE.data_set))
POINTS = {
    "before anything": b"",
    "inside the first PDU header": _MESSAGE[0][:3],
    "inside the command": _MESSAGE[0][:40],
    "after the command": _MESSAGE[0],
    "inside a PDV header": _MESSAGE[0] + _MESSAGE[1][:9],
    "inside the head of the data set": _MESSAGE[0] + _MESSAGE[1][:60],
    "inside the pixel data": _MESSAGE[0] + _MESSAGE[1] + _MESSAGE[2][:500],
    "between two PDUs of the data set": _MESSAGE[0] + _MESSAGE[1] + _MESSAGE[2],
}
WHOLE_PDUS = {"before anything", "after the command", "between two PDUs of the data set"}


@pytest.mark.parametrize("end", ["close", "reset", "half-close", "abort", "release"])
@pytest.mark.parametrize("point", POINTS)
def test_an_end_inside_a_message(receiver: FastScp, point: str, end: str) -> None:
    """What was begun is dropped. An abort or release inside a PDU is payload of that PDU, so the peer then closes."""
    with RawScu(receiver.port) as scu:
        scu.associate()
        scu.send(POINTS[point])
        if end == "close":
            scu.close()
        elif end == "reset":
            scu.reset()
        elif end == "half-close":
            scu.sock.shutdown(socket.SHUT_WR)
            assert {kind for kind, _ in scu.wait_closed()} <= {enc.ABORT}
        elif end == "abort":
            scu.send(enc.ABORT_PDU)
            if point not in WHOLE_PDUS:
                scu.sock.shutdown(socket.SHUT_WR)
            assert {kind for kind, _ in scu.wait_closed()} <= {enc.ABORT}
        else:
            scu.send(enc.RELEASE_RQ_PDU)
            if point in WHOLE_PDUS:
                assert scu.read_pdu()[0] in (enc.RELEASE_RP, enc.ABORT)
            else:
                scu.sock.shutdown(socket.SHUT_WR)
    assert not (receiver.store / _MADE.relative_path).exists()


def test_a_half_closed_peer_still_gets_its_answer(receiver: FastScp) -> None:
    made = make()
    with RawScu(receiver.port) as scu:
        scu.associate()
        for message_pdu in enc.message_pdus(1, enc.store_command(made.sop_class, made.sop_instance), made.data_set):
            scu.send(message_pdu)
        scu.sock.shutdown(socket.SHUT_WR)
        assert scu.read_response().status == 0
    assert (receiver.store / made.relative_path).exists()


@pytest.mark.parametrize("end", [enc.ABORT_PDU, b""], ids=["abort", "close"])
def test_an_end_right_after_a_complete_message(receiver: FastScp, end: bytes) -> None:
    """Nobody waits for the answer; the instance is whole or absent."""
    made = make(pixel_bytes=300_000)
    with RawScu(receiver.port) as scu:
        scu.associate()
        stream = b"".join(enc.message_pdus(1, enc.store_command(made.sop_class, made.sop_instance), made.data_set))
        scu.send(stream + end)
    path = receiver.store / made.relative_path
    assert not path.exists() or read_part10(path).data_set == made.data_set


def test_release_twice(receiver: FastScp) -> None:
    with RawScu(receiver.port) as scu:
        scu.associate()
        scu.send(enc.RELEASE_RQ_PDU * 2)
        assert {kind for kind, _ in scu.wait_closed()} <= {enc.RELEASE_RP, enc.ABORT}


def test_release_and_then_data(receiver: FastScp) -> None:
    with RawScu(receiver.port) as scu:
        scu.associate()
        scu.send(enc.RELEASE_RQ_PDU + b"".join(_MESSAGE))
        assert {kind for kind, _ in scu.wait_closed()} <= {enc.RELEASE_RP, enc.ABORT}
    assert not (receiver.store / _MADE.relative_path).exists()


@pytest.mark.parametrize("answer", [b"", enc.RELEASE_RP_PDU, enc.RELEASE_RQ_PDU + enc.RELEASE_RP_PDU], ids=["none", "RP", "collision"])
def test_release_in_the_same_segment_as_the_request_for_an_association(receiver: FastScp, answer: bytes) -> None:
    with RawScu(receiver.port) as scu:
        scu.send(enc.associate_rq([Context(1, enc.CT_IMAGE)]) + enc.RELEASE_RQ_PDU + answer)
        seen = [kind for kind, _ in scu.wait_closed()] if answer else [scu.read_pdu()[0], scu.read_pdu()[0]]
    assert seen[0] == enc.ASSOCIATE_AC
    assert set(seen[1:]) <= {enc.RELEASE_RP, enc.ABORT}


def test_abort_while_the_association_is_being_established(receiver: FastScp) -> None:
    with RawScu(receiver.port) as scu:
        scu.send(enc.associate_rq([Context(1, enc.CT_IMAGE)]) + enc.ABORT_PDU)
        assert {kind for kind, _ in scu.wait_closed()} <= {enc.ASSOCIATE_AC, enc.ABORT}


def test_reset_right_after_the_request_for_an_association(receiver: FastScp) -> None:
    for _ in range(20):
        with RawScu(receiver.port) as scu:
            scu.send(enc.associate_rq([Context(1, enc.CT_IMAGE)]))
            scu.reset()
