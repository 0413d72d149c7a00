"""Proposals: decoded whatever they are, answered as stock pynetdicom answers, remembered by their bytes.

Enters: A-ASSOCIATE-RQ, sound and broken. Leaves: answers. Never: an unbounded memory, an answer that was another's.
"""

from __future__ import annotations

import copy
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pynetdicom import AE, evt
from pynetdicom.pdu import A_ASSOCIATE_RQ

from fastscp.association.proposal import ProposalPdu, Proposals
from fastscp.observe.metrics import Metrics
from tests.association.inprocess import Recorder, Running, nothing_left_open
from tests.peers import encoding as enc
from tests.peers.encoding import Context
from tests.peers.raw_scu import RawScu, Rejected, items, parse_accept

CONTEXTS = [Context(1, enc.CT_IMAGE, (enc.EXPLICIT_LE, enc.IMPLICIT_LE)), Context(3, enc.VERIFICATION)]
REQUEST = enc.associate_rq(CONTEXTS)


@pytest.fixture(autouse=True)
def _left() -> Iterator[None]:
    with nothing_left_open():
        yield


def answer(request: bytes, running: Running) -> bytes:
    with running.connect() as scu:
        scu.send(request)
        body = scu.expect(enc.ASSOCIATE_AC)
        scu.send(enc.RELEASE_RQ_PDU)
        scu.expect(enc.RELEASE_RP)
    running.wait_none_left()
    return body


def looked_up(running: Running) -> tuple[int, int]:
    return tuple(int(running.sample("fastscp_negotiation_cache_total", result=result)) for result in ("hit", "miss"))  # type: ignore[return-value]


# What is remembered.


def test_the_same_bytes_get_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_copies(*_: object) -> None:
        raise AssertionError("a deep copy of contexts")

    monkeypatch.setattr(copy, "deepcopy", no_copies)
    with Running() as running:
        answers = [answer(REQUEST, running) for _ in range(3)]
        assert looked_up(running) == (2, 1)
        assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize(
    "other",
    [
        enc.associate_rq(CONTEXTS, calling=b"RAWSCV"),
        enc.associate_rq(CONTEXTS, max_pdu_bytes=16385),
        enc.associate_rq([Context(5, enc.CT_IMAGE, (enc.EXPLICIT_LE, enc.IMPLICIT_LE)), CONTEXTS[1]]),
        REQUEST[:73] + b"\1" + REQUEST[74:],  # a reserved byte
    ],
    ids=["calling AE title", "maximum length", "context id", "reserved"],
)
def test_one_byte_that_differs_is_another_proposal(other: bytes) -> None:
    with Running() as running:
        answer(REQUEST, running)
        answer(other, running)
        assert looked_up(running) == (0, 2)
        answer(other, running)
        assert looked_up(running) == (1, 2)


def test_a_remembered_proposal_fires_the_same_events() -> None:
    recorder, told = Recorder(), []
    with Running(recorder.handlers()) as running:
        for _ in range(3):
            recorder.clear()
            answer(REQUEST, running)
            told.append([(name, what) for name, what, _ in recorder.fired if not name.startswith("CONN_")])
        assert looked_up(running) == (2, 1)
    assert told[0] == told[1] == told[2]


@pytest.mark.parametrize(
    ("request_", "options"),
    [
        (enc.associate_rq(CONTEXTS, application_context="1.2.3"), {}),
        (enc.associate_rq(CONTEXTS, called=b"OTHER"), {"require_called_aet": True}),
        (enc.associate_rq(CONTEXTS, calling=b"OTHER"), {"require_calling_aet": ("GOOD",)}),
        (enc.associate_rq(CONTEXTS, protocol_version=2), {}),
    ],
    ids=["application context", "called", "calling", "version"],
)
def test_a_rejected_proposal_is_not_remembered(request_: bytes, options: dict[str, Any]) -> None:
    with Running(**options) as running:
        for _ in range(2):
            with running.connect() as scu:
                scu.send(request_)
                with pytest.raises(Rejected):
                    scu.expect(enc.ASSOCIATE_AC)
            running.wait_none_left()
        assert looked_up(running) == (0, 2)


def test_a_remembered_proposal_is_judged_each_time() -> None:
    with Running(max_associations=1) as running:
        first = running.connect()
        first.send(REQUEST)
        first.expect(enc.ASSOCIATE_AC)
        for _ in range(2):
            with running.connect() as scu, pytest.raises(Rejected) as rejected:
                scu.associate(CONTEXTS)
            assert rejected.value.answer == (2, 3, 2)
        first.release()
        running.wait_none_left()
        answer(REQUEST, running)
        running.acceptor.begin_drain()
        with running.connect() as scu, pytest.raises(Rejected):
            scu.associate(CONTEXTS)
        running.wait_none_left()


def test_a_proposal_with_a_user_in_it_is_not_remembered() -> None:
    identity = enc.item(0x58, b"\x02\x00" + struct.pack(">H", 4) + b"user" + struct.pack(">H", 6) + b"secret")
    with Running() as running:
        for _ in range(2):
            answer(enc.associate_rq(CONTEXTS, user_items=identity), running)
        assert looked_up(running) == (0, 2)


class Remembered:
    """A memory and what it has looked up."""

    def __init__(self, **ceilings: int) -> None:
        self.metrics = Metrics("test")
        self.proposals = Proposals(self.metrics, **ceilings)

    def remember(self, encoded: bytes) -> ProposalPdu:
        pdu = self.proposals.decode(encoded)
        pdu.answer = object()  # type: ignore[assignment]  # whatever it is, it is kept
        self.proposals.remember(pdu)
        return pdu

    def knows(self, encoded: bytes) -> bool:
        return self.proposals.decode(encoded).answer is not None


def numbered(number: int, padding_bytes: int = 0) -> bytes:
    return enc.associate_rq(CONTEXTS, calling=b"N%d" % number, user_items=enc.item(0x77, bytes(padding_bytes)))


def test_as_many_as_the_ceiling_are_remembered() -> None:
    memory = Remembered()
    for number in range(256):
        memory.remember(numbered(number))
    assert memory.knows(numbered(0)), "the ceiling is lower than it says"
    memory.remember(numbered(256))
    # Number 0 was used last, so number 1 is the one that has gone.
    assert memory.knows(numbered(0))
    assert not memory.knows(numbered(1))
    assert memory.knows(numbered(2))
    assert memory.knows(numbered(256))


def test_as_many_bytes_as_the_ceiling_are_remembered() -> None:
    memory = Remembered()
    each = len(numbered(100, 60_000))
    fitting = (8 << 20) // each
    for number in range(100, 100 + fitting):
        memory.remember(numbered(number, 60_000))
    assert memory.knows(numbered(100, 60_000))
    memory.remember(numbered(100 + fitting, 60_000))
    assert not memory.knows(numbered(101, 60_000))
    assert memory.knows(numbered(100, 60_000))


def test_one_proposal_over_the_ceiling_forgets_no_more_than_itself_needs() -> None:
    memory = Remembered(ceiling_bytes=1000)
    memory.remember(numbered(1, 5000))
    assert not memory.knows(numbered(1, 5000))
    memory.remember(numbered(2))
    assert memory.knows(numbered(2))


def test_what_is_remembered_twice_counts_once() -> None:
    memory = Remembered(ceiling_bytes=3 * len(numbered(1)))
    for _ in range(10):
        first, second = (ProposalPdu(numbered(1)) for _ in range(2))
        first.answer = second.answer = object()  # type: ignore[assignment]
        memory.proposals.remember(first)
        memory.proposals.remember(second)
    memory.remember(numbered(2))
    memory.remember(numbered(3))
    assert [memory.knows(numbered(number)) for number in (1, 2, 3)] == [True] * 3


# What is answered.


@pytest.fixture(scope="module")
def stock_port() -> Iterator[int]:
    """pynetdicom's own acceptor. Its choice among syntaxes is the first proposed that it supports."""
    ae = AE("FASTSCP")
    ae.maximum_pdu_size = 131072
    ae.add_supported_context(enc.CT_IMAGE, [enc.EXPLICIT_LE, enc.IMPLICIT_LE], scu_role=True, scp_role=False)
    ae.add_supported_context(enc.VERIFICATION, enc.EXPLICIT_LE, scu_role=True, scp_role=False)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_USER_ID, lambda event: (True, b"fine"))])
    assert server is not None
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


def role(uid: str, scu: int, scp: int) -> bytes:
    return enc.item(0x54, struct.pack(">H", len(uid)) + uid.encode() + bytes([scu, scp]))


SAME: dict[str, tuple[list[Context], bytes]] = {
    "one context": ([Context(1, enc.CT_IMAGE)], b""),
    "two syntaxes": (CONTEXTS, b""),
    "the same class twice": ([Context(1, enc.CT_IMAGE, (enc.IMPLICIT_LE,)), Context(7, enc.CT_IMAGE)], b""),
    "ids in no order": ([Context(9, enc.CT_IMAGE), Context(1, enc.VERIFICATION), Context(255, enc.CT_IMAGE)], b""),
    "a class that is not supported": ([Context(1, "1.2.840.10008.5.1.4.1.2.2.1"), Context(3, enc.CT_IMAGE)], b""),
    "role scu and scp": ([Context(1, enc.CT_IMAGE)], role(enc.CT_IMAGE, 1, 1)),
    "role scu": ([Context(1, enc.CT_IMAGE)], role(enc.CT_IMAGE, 1, 0)),
    "role of a class without a context": ([Context(1, enc.CT_IMAGE)], role("1.2.3.4", 1, 1)),
    "an asynchronous window": ([Context(1, enc.CT_IMAGE)], enc.item(0x53, struct.pack(">HH", 3, 4))),
    "a user": (
        [Context(1, enc.CT_IMAGE)],
        enc.item(0x58, b"\x03\x01" + struct.pack(">H", 4) + b"tick" + struct.pack(">H", 0)),
    ),
}


@pytest.mark.parametrize("kind", SAME)
def test_the_answer_is_that_of_stock_pynetdicom(stock_port: int, kind: str) -> None:
    """Contexts, roles and user items; what says whose implementation it is aside."""
    contexts, user_items = SAME[kind]
    request = enc.associate_rq(contexts, user_items=user_items)
    with RawScu(stock_port) as scu:
        scu.send(request)
        expected = scu.expect(enc.ASSOCIATE_AC)
        scu.release()
    with Running([(evt.EVT_USER_ID, lambda event: (True, b"fine"))]) as running:
        got = answer(request, running)
    assert got[:68] == expected[:68], "the fixed fields"
    # The standard gives results no order; pynetdicom's has those that were accepted first.
    assert sorted(context_items(got)) == sorted(context_items(expected))
    assert user_information(got) == user_information(expected)
    assert parse_accept(got).max_pdu_bytes == parse_accept(expected).max_pdu_bytes


def context_items(accept: bytes) -> list[tuple[int, bytes]]:
    return [(kind, value) for kind, value in items(accept[68:]) if kind != 0x50]


def user_information(accept: bytes) -> list[tuple[int, bytes]]:
    user = next(value for kind, value in items(accept[68:]) if kind == 0x50)
    return sorted((kind, value) for kind, value in items(user) if kind not in (0x52, 0x55))


# What is decoded.


@given(st.binary(max_size=400))
@settings(deadline=None)
def test_any_bytes_are_a_pdu_or_an_error(data: bytes) -> None:
    decode_or_fail(enc.pdu(enc.ASSOCIATE_RQ, data))


FULL = enc.associate_rq(
    [*CONTEXTS, Context(5, "1.2.3.4")],
    user_items=role(enc.CT_IMAGE, 1, 0)
    + enc.item(0x53, struct.pack(">HH", 1, 1))
    + enc.item(0x55, b"VERSION")
    + enc.item(0x56, struct.pack(">H", 5) + b"1.2.3" + b"\1\2")
    + enc.item(0x57, struct.pack(">H", 5) + b"1.2.3" + struct.pack(">H", 3) + b"1.2" + struct.pack(">HH", 5, 3) + b"1.4")
    + enc.item(0x58, b"\1\1" + struct.pack(">H", 4) + b"user" + struct.pack(">H", 0)),
)


@given(st.lists(st.tuples(st.integers(6, len(FULL) - 1), st.integers(0, 255)), max_size=6), st.integers(0, len(FULL)))
@settings(max_examples=200, deadline=None)
def test_a_damaged_request_is_a_pdu_or_an_error(changes: list[tuple[int, int]], cut: int) -> None:
    damaged = bytearray(FULL)
    for at, value in changes:
        damaged[at] = value
    decode_or_fail(enc.pdu(enc.ASSOCIATE_RQ, bytes(damaged[6:])))
    decode_or_fail(enc.pdu(enc.ASSOCIATE_RQ, bytes(damaged[6 : 6 + cut])))


def decode_or_fail(encoded: bytes) -> None:
    """Either a whole request with a primitive, or an exception. pynetdicom has many, and the state machine takes them all for Evt19."""
    try:
        pdu = ProposalPdu(encoded)
    except (MemoryError, RecursionError):
        raise
    except Exception:
        return
    assert pdu.to_primitive() is pdu.to_primitive()
    assert pdu.encoded == encoded


def again(primitive: Any) -> bytes:
    return bytes(A_ASSOCIATE_RQ(primitive).encode())


def test_handlers_can_use_the_request_as_any_pdu() -> None:
    """What event.pdu of EVT_PDU_RECV is asked for in practice."""
    theirs = A_ASSOCIATE_RQ()
    theirs.decode(FULL)
    pdu = ProposalPdu(FULL)
    assert pdu.pdu_type == 0x01
    assert (len(pdu), str(pdu), pdu.encode()) == (len(theirs), str(theirs), theirs.encode())
    assert pdu == theirs


UIDS = st.from_regex(r"[12](\.(0|[1-9][0-9]{0,8})){1,5}", fullmatch=True)
TITLES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="\\"), min_size=1, max_size=16).filter(str.strip)


@given(
    calling=TITLES,
    called=TITLES,
    contexts=st.lists(st.tuples(st.integers(0, 127), UIDS, st.lists(UIDS, min_size=1, max_size=4)), min_size=1, max_size=8),
    max_pdu_bytes=st.integers(0, 2**32 - 1),
)
@settings(max_examples=40, deadline=None)
def test_a_sound_request_keeps_its_meaning(
    calling: str, called: str, contexts: list[tuple[int, str, list[str]]], max_pdu_bytes: int
) -> None:
    encoded = enc.associate_rq(
        [Context(2 * number + 1, abstract, tuple(transfer)) for number, abstract, transfer in contexts],
        called=called.encode(),
        calling=calling.encode(),
        max_pdu_bytes=max_pdu_bytes,
    )
    ours, theirs = ProposalPdu(encoded), A_ASSOCIATE_RQ()
    theirs.decode(encoded)
    mine, stock_ = ours.to_primitive(), theirs.to_primitive()
    assert again(mine) == again(stock_)
    assert ours.calling_ae_title.strip() == calling.strip()


@pytest.mark.parametrize("version", [0x0001, 0x0003, 0x8001, 0xFFFF])
def test_of_the_protocol_version_only_one_bit_counts(version: int) -> None:
    assert ProposalPdu(enc.associate_rq(CONTEXTS, protocol_version=version)).protocol_version == 1


@pytest.mark.parametrize(
    ("name", "kept"),
    [(b"", None), (b" ", None), (b"x" * 16, "x" * 16), (b"x" * 17, None), (b"caf\xe9", None), (b"FINE_1", "FINE_1")],
)
def test_an_implementation_version_name_is_kept_or_ignored(name: bytes, kept: str | None) -> None:
    pdu = ProposalPdu(enc.associate_rq(CONTEXTS, user_items=enc.item(0x55, name)))
    names = [
        item.implementation_version_name for item in pdu.to_primitive().user_information if hasattr(item, "implementation_version_name")
    ]
    assert names == ([] if kept is None else [kept])


def test_a_request_that_is_as_long_as_can_be_is_decoded_in_time() -> None:
    """1 MiB of items that mean nothing, and of contexts as many as there can be."""
    contexts = [Context(number, "1." + "9" * 62, tuple("1." + "8" * 60 + f"{n:02}" for n in range(100))) for number in range(1, 256, 2)]
    encoded = enc.associate_rq(contexts)
    assert len(encoded) > 800_000
    assert len(ProposalPdu(encoded).to_primitive().presentation_context_definition_list) == 128
    with Running() as running:
        assert parse_accept(answer(encoded, running)).results == dict.fromkeys(range(1, 256, 2), 0)
