"""What reaches the DICOM port without being DICOM, and DICOM whose lengths lie.

Enters: probes and bombs. Leaves: closed connections and counters. Never: a receiver that believes them.
"""

from __future__ import annotations

import ssl
import struct

import pytest

from tests.peers import encoding as enc
from tests.peers.datasets import make
from tests.peers.encoding import Context
from tests.peers.raw_scu import RawScu
from tests.peers.server import FastScp, wait_until

pytestmark = pytest.mark.requires_linux  # what is held is counted in /proc


def tls_client_hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


GARBAGE = {
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "tls": tls_client_hello(),
    "ssh": b"SSH-2.0-probe\r\n",
    "zeros": bytes(64),
    "one byte": b"\xff",
    "pdu type 0 with a huge length": struct.pack(">BBL", 0, 0, 0xFFFFFFFF),
    "pdu type 8": enc.pdu(8, b"1234"),
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_an_unknown_first_byte_closes_the_connection_at_once(receiver: FastScp, kind: str) -> None:
    before = receiver.metrics()['fastscp_connections_total{result="garbage"}']
    with RawScu(receiver.port) as scu:
        scu.send(GARBAGE[kind])
        assert all(pdu_type == enc.ABORT for pdu_type, _ in scu.wait_closed())
    wait_until(lambda: receiver.metrics()['fastscp_connections_total{result="garbage"}'] == before + 1, "it is counted")


def test_connections_without_a_byte_leave_no_trace_but_a_count(receiver: FastScp) -> None:
    """What a load balancer's health check does, with and without a reset."""
    before, records = receiver.metrics()['fastscp_connections_total{result="empty"}'], len(receiver.records)
    for number in range(50):
        scu = RawScu(receiver.port)
        if number % 2:
            scu.reset()
        else:
            scu.close()
    wait_until(lambda: receiver.metrics()['fastscp_connections_total{result="empty"}'] == before + 50, "they are counted")
    assert receiver.records[records:] == []


FIRST_PDU_BOMBS = {
    "associate of 4 GB": struct.pack(">BBL", enc.ASSOCIATE_RQ, 0, 0xFFFFFFFF) + bytes(1000),
    "associate over 1 MiB": struct.pack(">BBL", enc.ASSOCIATE_RQ, 0, 2**20 + 1) + bytes(1000),
    "release of 4 GB": struct.pack(">BBL", enc.RELEASE_RQ, 0, 0xFFFFFFFF),
    "data before an association": enc.pdu(enc.P_DATA, enc.pdv(1, b"x", command=True, last=True)),
    "release before an association": enc.RELEASE_RQ_PDU,
    "an accept": enc.pdu(enc.ASSOCIATE_AC, bytes(68)),
    "an empty request": enc.pdu(enc.ASSOCIATE_RQ, b""),
    "a request cut short": enc.pdu(enc.ASSOCIATE_RQ, enc.associate_rq([Context(1, enc.CT_IMAGE)])[6:40]),
    "an item longer than the request": enc.pdu(
        enc.ASSOCIATE_RQ, enc.associate_rq([Context(1, enc.CT_IMAGE)])[6:74] + struct.pack(">BBH", 0x10, 0, 0xFFFF) + b"1.2"
    ),
    "a request of zeros": enc.pdu(enc.ASSOCIATE_RQ, bytes(200)),
    "an abort": enc.ABORT_PDU,
}


@pytest.mark.parametrize("kind", FIRST_PDU_BOMBS)
def test_a_first_pdu_that_is_no_request_closes_the_connection(receiver: FastScp, kind: str) -> None:
    with RawScu(receiver.port) as scu:
        scu.send(FIRST_PDU_BOMBS[kind])
        assert {pdu_type for pdu_type, _ in scu.wait_closed()} <= {enc.ABORT, enc.ASSOCIATE_RJ}


def store_pdv(payload: bytes, *, command: bool, last: bool, context_id: int = 1) -> bytes:
    return enc.pdu(enc.P_DATA, enc.pdv(context_id, payload, command=command, last=last))


_MADE = make()
_COMMAND = store_pdv(enc.store_command(_MADE.sop_class, _MADE.sop_instance), command=True, last=True)
ASSOCIATED_BOMBS = {
    "p-data of 4 GB": struct.pack(">BBL", enc.P_DATA, 0, 0xFFFFFFFF),
    "p-data far over the maximum": struct.pack(">BBL", enc.P_DATA, 0, 2**24),
    "pdv longer than its pdu": enc.pdu(enc.P_DATA, struct.pack(">LBB", 1000, 1, 3) + b"short"),
    "pdv of 4 GB": enc.pdu(enc.P_DATA, struct.pack(">LBB", 0xFFFFFFFF, 1, 3)),
    "pdv of length 0": enc.pdu(enc.P_DATA, struct.pack(">L", 0) + bytes(8)),
    "pdv of length 1": enc.pdu(enc.P_DATA, struct.pack(">LB", 1, 1)),
    "pdv header cut off by the pdu": enc.pdu(enc.P_DATA, b"\0\0\0"),
    "a context that was not negotiated": store_pdv(b"x" * 20, command=True, last=True, context_id=99),
    "a command set without end": store_pdv(bytes(8000), command=True, last=False) * 4,
    "a data set without a command": store_pdv(b"x" * 20, command=False, last=True),
    "a command element longer than the command": store_pdv(struct.pack("<HHL", 0, 0x0100, 0xFFFFFFFF), command=True, last=True),
    "a command without a command field": store_pdv(enc.command_set([(enc.MESSAGE_ID, b"\1\0")]), command=True, last=True),
    "a command of random bytes": store_pdv(bytes(range(256)), command=True, last=True),
    "a second command inside a message": _COMMAND * 2,
    "the data set on another context": _COMMAND + store_pdv(_MADE.data_set, command=False, last=True, context_id=3),
    "a second association request": enc.associate_rq([Context(1, enc.CT_IMAGE)]),
    "an accept": enc.pdu(enc.ASSOCIATE_AC, bytes(68)),
    "a release response": enc.RELEASE_RP_PDU,
    "an unknown pdu": enc.pdu(0x0B, b"1234"),
    "a release of the wrong length": struct.pack(">BBL", enc.RELEASE_RQ, 0, 0xFFFF),
    "http": GARBAGE["http"],
}


@pytest.mark.parametrize("kind", ASSOCIATED_BOMBS)
def test_a_broken_protocol_aborts_the_association(receiver: FastScp, kind: str) -> None:
    """PS3.8 table 9-10: Evt19 in Sta6 is AA-8, an A-ABORT from the service provider."""
    with RawScu(receiver.port) as scu:
        scu.associate([Context(1, enc.CT_IMAGE), Context(3, enc.CT_IMAGE)])
        scu.send(ASSOCIATED_BOMBS[kind])
        seen = scu.wait_closed()
    assert [pdu_type for pdu_type, _ in seen] == [enc.ABORT]
    assert seen[0][1][2] == 2, "the source of the abort is not the service provider"
    assert not (receiver.store / _MADE.relative_path).exists()


def test_hostile_peers_do_not_disturb_an_association_beside_them(receiver: FastScp) -> None:
    with RawScu(receiver.port) as good:
        good.associate()
        for bomb in (*GARBAGE.values(), *FIRST_PDU_BOMBS.values()):
            with RawScu(receiver.port) as scu:
                scu.send(bomb)
            made = make()
            assert good.store(made.sop_class, made.sop_instance, made.data_set).status == 0
        good.release()
