"""Every PDU in every state that an acceptor has, through a real socket (PS3.8 table 9-10).

Enters: what is legal and what is not. Leaves: the answer of the table, and a thread that ends. Never: a state without a way out.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.association.inprocess import Recorder, Running, descriptors, eventually, nothing_left_open, releasing_soon
from tests.peers import encoding as enc
from tests.peers.datasets import make
from tests.peers.encoding import Context
from tests.peers.raw_scu import RawScu

CONTEXTS = [Context(1, enc.CT_IMAGE), Context(3, enc.VERIFICATION)]
REQUEST = enc.associate_rq(CONTEXTS)
ACCEPT = enc.pdu(enc.ASSOCIATE_AC, REQUEST[6:])
REJECT = enc.pdu(enc.ASSOCIATE_RJ, b"\0\1\1\1")
_MADE = make(pixel_bytes=20_000)
STORE = b"".join(enc.message_pdus(1, enc.store_command(_MADE.sop_class, _MADE.sop_instance), _MADE.data_set))
ECHO = b"".join(enc.message_pdus(3, enc.echo_command(), None))

PDUS = {
    "A-ASSOCIATE-RQ": REQUEST,
    "A-ASSOCIATE-AC": ACCEPT,
    "A-ASSOCIATE-RJ": REJECT,
    "C-STORE-RQ": STORE,
    "C-ECHO-RQ": ECHO,
    "A-RELEASE-RQ": enc.RELEASE_RQ_PDU,
    "A-RELEASE-RP": enc.RELEASE_RP_PDU,
    "A-ABORT": enc.ABORT_PDU,
    "garbage": b"GET / HTTP/1.1\r\n\r\n",
    "an unknown PDU": enc.pdu(0x0B, b"1234"),
    "close": b"",
}


def sta2(running: Running, scu: RawScu) -> None:
    """Connected. The listener waits for a first byte, which the PDU under test brings."""


def sta6(running: Running, scu: RawScu) -> None:
    scu.associate(CONTEXTS)


def sta7(running: Running, scu: RawScu) -> None:
    """The receiver has asked for the release."""
    scu.associate(CONTEXTS)
    running.acceptor.begin_drain()
    scu.expect(enc.RELEASE_RQ)


def sta10(running: Running, scu: RawScu) -> None:
    """Both have asked for the release; what comes next is the peer's answer."""
    sta7(running, scu)
    scu.send(enc.RELEASE_RQ_PDU)


def sta13_released(running: Running, scu: RawScu) -> None:
    scu.associate(CONTEXTS)
    scu.send(enc.RELEASE_RQ_PDU)
    scu.expect(enc.RELEASE_RP)


def sta13_rejected(running: Running, scu: RawScu) -> None:
    scu.send(enc.associate_rq(CONTEXTS, application_context="1.2.3"))
    scu.expect(enc.ASSOCIATE_RJ)


def sta13_aborted(running: Running, scu: RawScu) -> None:
    """After an abort for something that could still be framed."""
    scu.associate(CONTEXTS)
    scu.send(enc.RELEASE_RP_PDU)
    kind, _ = scu.read_pdu()
    assert kind == enc.ABORT


STATES: dict[str, Callable[[Running, RawScu], None]] = {
    "Sta2": sta2,
    "Sta6": sta6,
    "Sta7": sta7,
    "Sta10": sta10,
    "Sta13 after a release": sta13_released,
    "Sta13 after a rejection": sta13_rejected,
    "Sta13 after an abort": sta13_aborted,
}

AA8 = [(enc.ABORT, 2)]
AA1 = [(enc.ABORT, None)]  # who is named as the source is not the same in all editions
NONE: list[tuple[int, int | None]] = []
INVALID = ("garbage", "an unknown PDU")
TABLE: dict[str, dict[str, list[tuple[int, int | None]]]] = {
    # (type, source of an abort) of the PDUs that come back before the connection is closed
    "Sta2": {
        "A-ASSOCIATE-RQ": [(enc.ASSOCIATE_AC, None)],
        **dict.fromkeys(("A-ASSOCIATE-AC", "A-ASSOCIATE-RJ", "C-STORE-RQ", "C-ECHO-RQ", "A-RELEASE-RQ", "A-RELEASE-RP", *INVALID), AA1),
        "A-ABORT": NONE,
        "close": NONE,
    },
    "Sta6": {
        **dict.fromkeys(("A-ASSOCIATE-RQ", "A-ASSOCIATE-AC", "A-ASSOCIATE-RJ", "A-RELEASE-RP", *INVALID), AA8),
        "C-STORE-RQ": [(enc.P_DATA, None)],
        "C-ECHO-RQ": [(enc.P_DATA, None)],
        "A-RELEASE-RQ": [(enc.RELEASE_RP, None)],
        "A-ABORT": NONE,
        "close": NONE,
    },
    "Sta7": {
        **dict.fromkeys(("A-ASSOCIATE-RQ", "A-ASSOCIATE-AC", "A-ASSOCIATE-RJ", *INVALID), AA8),
        # Data may still arrive; that of an association that is being released gets no answer.
        "C-STORE-RQ": NONE,
        "C-ECHO-RQ": NONE,
        "A-RELEASE-RQ": NONE,  # a collision: the acceptor's answer comes after the requestor's
        "A-RELEASE-RP": NONE,
        "A-ABORT": NONE,
        "close": NONE,
    },
    "Sta10": {
        **dict.fromkeys(("A-ASSOCIATE-RQ", "A-ASSOCIATE-AC", "A-ASSOCIATE-RJ", "C-STORE-RQ", "C-ECHO-RQ", "A-RELEASE-RQ", *INVALID), AA8),
        "A-RELEASE-RP": [(enc.RELEASE_RP, None)],
        "A-ABORT": NONE,
        "close": NONE,
    },
}
SILENT = ("A-ASSOCIATE-AC", "A-ASSOCIATE-RJ", "C-STORE-RQ", "C-ECHO-RQ", "A-RELEASE-RQ", "A-RELEASE-RP", "A-ABORT", "close")
for _state in [name for name in STATES if name.startswith("Sta13")]:
    TABLE[_state] = {**dict.fromkeys(SILENT, NONE), **dict.fromkeys(("A-ASSOCIATE-RQ", *INVALID), AA8)}


@pytest.fixture(autouse=True)
def _left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    releasing_soon(monkeypatch)
    with nothing_left_open():
        yield


def answers(scu: RawScu) -> list[tuple[int, int | None]]:
    return [(kind, body[2] if kind == enc.ABORT else None) for kind, body in scu.wait_closed()]


@pytest.mark.parametrize("sent", PDUS)
@pytest.mark.parametrize("state", STATES)
def test_table_9_10(state: str, sent: str) -> None:
    recorder = Recorder()
    with Running(recorder.handlers()) as running:
        with running.connect() as scu:
            STATES[state](running, scu)
            recorder.clear()
            scu.send(PDUS[sent])
            # The peer then says nothing more, so that the receiver comes to an end whatever state it is in.
            scu.half_close()
            expected, seen = TABLE[state][sent], answers(scu)
            assert [kind for kind, _ in seen] == [kind for kind, _ in expected]
            assert all(source in (None, told) for (_, told), (_, source) in zip(seen, expected, strict=True)), seen
        running.wait_none_left()
        if (state, sent) != ("Sta2", "close"):
            # Whatever the state machine did, it ended in Sta1.
            transitions = recorder.details("FSM_TRANSITION")
            assert transitions[-1][3] == "Sta1", transitions
            assert recorder.counts()["CONN_CLOSE"] == 1


@pytest.mark.parametrize("state", [name for name in STATES if name.startswith("Sta13")])
def test_a_peer_that_never_closes_is_closed_when_artim_expires(state: str) -> None:
    recorder = Recorder()
    with Running(recorder.handlers(), associate_timeout_s=0.3) as running:
        with running.connect() as scu:
            STATES[state](running, scu)
            assert scu.wait_closed(stay=True) == []
        running.wait_none_left()
        assert recorder.details("FSM_TRANSITION")[-1] == ("Sta13", "Evt18", "AA-2", "Sta1")
        assert recorder.counts()["CONN_CLOSE"] == 1


@pytest.mark.parametrize("sent", ["C-STORE-RQ", "C-ECHO-RQ", "A-RELEASE-RQ", "garbage"])
def test_a_peer_that_never_stops_after_the_end_is_closed_when_artim_expires(sent: str) -> None:
    with Running(associate_timeout_s=0.5) as running:
        with running.connect(timeout_s=10) as scu:
            sta13_released(running, scu)
            with pytest.raises(OSError):  # noqa: PT012 - where it shows that the receiver has closed is its choice
                until = time.monotonic() + 20
                while time.monotonic() < until:
                    scu.send(PDUS[sent])
                    time.sleep(0.005)
        running.wait_none_left()


UNFINISHED = {
    "a type": b"\x04",
    "a command": STORE[:50],
    "a data set": STORE[:1000],
    "the end of a data set": STORE[:-10],
    "a release": enc.RELEASE_RQ_PDU[:8],
}


@pytest.mark.parametrize(
    ("state", "what"),
    [
        *(("Sta6", what) for what in UNFINISHED),
        *((state, what) for state in ("Sta7", "Sta10", "Sta13 after a release") for what in ("a data set", "a release")),
    ],
)
def test_what_was_begun_and_never_ended(state: str, what: str) -> None:
    recorder = Recorder()
    with Running(recorder.handlers(), associate_timeout_s=0.2, progress_timeout_s=0.2, idle_timeout_s=0.3) as running:
        with running.connect() as scu:
            STATES[state](running, scu)
            scu.send(UNFINISHED[what])
            assert {kind for kind, _ in scu.wait_closed(stay=True)} <= {enc.ABORT}
        running.wait_none_left()
        assert recorder.counts()["CONN_CLOSE"] == 1


def test_large_data_in_sta7_holds_no_memory() -> None:
    """An instance that comes after the request for the release is read, not kept, not answered."""
    made = make(pixel_bytes=12 << 20)
    with Running(spill_threshold_bytes=1 << 20, memory_budget_bytes=8 << 20) as running:
        with running.connect() as scu:
            sta7(running, scu)
            for message in enc.message_pdus(1, enc.store_command(made.sop_class, made.sop_instance), made.data_set, data_pdv_bytes=120_000):
                scu.send(message)
            scu.send(enc.RELEASE_RP_PDU)
            assert scu.wait_closed() == []
        running.wait_none_left()
        assert running.sample("fastscp_associations_total", outcome="released") == 1
        assert running.sample("fastscp_instances_total", status="0000") == 0


def test_nothing_is_held_after_many_ends_inside_instances() -> None:
    held: list[int] = []
    with Running(spill_threshold_bytes=1 << 20) as running:
        for _ in range(3):
            peers = [running.connect() for _ in range(10)]
            for scu in peers:
                scu.associate(CONTEXTS)
                scu.send(STORE[: len(STORE) // 2])
            eventually(lambda: running.acceptor.pool.in_use_bytes > 0, "the halves are there")
            for number, scu in enumerate(peers):
                if number % 3 == 0:
                    scu.reset()
                elif number % 3 == 1:
                    scu.close()
                else:
                    running.acceptor.abort_all("the test is over")
                    scu.close()
            running.wait_none_left()
            held.append(descriptors())
    assert held[2] <= held[1] <= held[0]


def test_the_reason_of_an_abort_says_what_was_wrong() -> None:
    """PS3.8 table 9-26: 1 for an unrecognized PDU, 2 for one that was not expected."""
    reasons: dict[str, Any] = {}
    with Running() as running:
        for sent in ("an unknown PDU", "A-RELEASE-RP", "A-ASSOCIATE-RQ"):
            with running.connect() as scu:
                scu.associate(CONTEXTS)
                scu.send(PDUS[sent])
                ((_, body),) = scu.wait_closed()
                reasons[sent] = struct.unpack(">BBBB", body)[2:]
            running.wait_none_left()
    assert reasons["an unknown PDU"] == (2, 1)
    assert reasons["A-RELEASE-RP"][0] == reasons["A-ASSOCIATE-RQ"][0] == 2
    assert reasons["A-RELEASE-RP"][1] in (0, 2)
    assert reasons["A-ASSOCIATE-RQ"][1] in (0, 2)
