"""Which of pynetdicom's events fire, how often, and with what: stock pynetdicom hears the same bytes and is the oracle.

Enters: conversations. Leaves: event counts. Never: an association whose end is told twice, or not at all.
"""

from __future__ import annotations

import os
import select
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pynetdicom import AE, evt

from tests.association.inprocess import Recorder, Running, eventually, local_pair, nothing_left_open, releasing_soon
from tests.peers import encoding as enc
from tests.peers.datasets import make
from tests.peers.encoding import Context
from tests.peers.raw_scu import PeerClosed, RawScu

CONTEXTS = [Context(1, enc.CT_IMAGE), Context(3, enc.VERIFICATION)]
IMPATIENT = {"associate_timeout_s": 0.5, "idle_timeout_s": 0.5, "progress_timeout_s": 0.5}


@pytest.fixture(autouse=True)
def _left() -> Iterator[None]:
    with nothing_left_open():
        yield


@contextmanager
def stock(recorder: Recorder, handlers: list[Any]) -> Iterator[int]:
    """pynetdicom's own acceptor with the same policy."""
    ae = AE("FASTSCP")
    ae.add_supported_context(enc.CT_IMAGE, enc.EXPLICIT_LE)
    ae.add_supported_context(enc.VERIFICATION, enc.EXPLICIT_LE)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[*recorder.handlers(), *handlers])
    assert server is not None
    try:
        yield server.server_address[1]
        eventually(lambda: "CONN_CLOSE" in recorder.names() and not server.active_associations, "the association is over")
    finally:
        server.shutdown()


def converse(scu: RawScu) -> None:
    scu.associate(CONTEXTS)
    assert scu.echo(3).status == 0
    for _ in range(2):
        made = make(pixel_bytes=40_000)
        assert scu.store(made.sop_class, made.sop_instance, made.data_set).status == 0
    assert scu.echo(3).status == 0
    scu.send(enc.RELEASE_RQ_PDU)
    scu.expect(enc.RELEASE_RP)
    scu.half_close()
    scu.wait_closed()


def comparable(recorder: Recorder) -> Counter[Any]:
    """What both must tell alike: all but the P-DATA-TF PDUs, for which the native reader has no events."""
    told: Counter[Any] = Counter()
    for name, what, _ in recorder.fired:
        if name.startswith("PDU_") and what != "P_DATA_TF":
            told[name, what] += 1
        elif name.startswith("DATA_") and what[0] != enc.P_DATA:
            told[name, what[0]] += 1
        elif (name == "FSM_TRANSITION" and what[1] not in ("Evt9", "Evt10")) or name.startswith("ACSE_"):
            told[name, what] += 1
        elif name.startswith("DIMSE_"):
            told[name, type(what).__name__] += 1
        elif name not in ("PDU_RECV", "PDU_SENT", "DATA_RECV", "DATA_SENT", "FSM_TRANSITION"):
            told[name] += 1
    return told


def main_order(recorder: Recorder) -> list[str]:
    return [name for name in recorder.names() if name.split("_")[0] in ("REQUESTED", "ACCEPTED", "ESTABLISHED", "DIMSE", "RELEASED")]


def test_the_events_of_a_conversation_are_those_of_stock_pynetdicom() -> None:
    told = []
    store_handler = (evt.EVT_C_STORE, lambda event: 0x0000)
    theirs = Recorder()
    with stock(theirs, [store_handler]) as port, RawScu(port) as scu:
        converse(scu)
    for _ in range(2):
        # The second time the answer to the proposal may be one that is remembered.
        ours = Recorder()
        with Running([*ours.handlers(), store_handler]) as running:
            for _ in range(2):
                ours.clear()
                with running.connect() as scu:
                    converse(scu)
                running.wait_none_left()
                told.append(ours)
    for ours in told:
        assert comparable(ours) == comparable(theirs)
        assert main_order(ours) == main_order(theirs)
        assert ours.counts()["CONN_CLOSE"] == 1
        assert ours.names()[0] == "CONN_OPEN"


def test_what_the_events_tell(tmp_path: Any) -> None:
    recorder, seen = Recorder(), []

    def echo(event: evt.Event) -> int:
        seen.append((event.message_id, event.context.abstract_syntax, event.assoc.is_established))
        return 0x0000

    with Running([*recorder.handlers(), (evt.EVT_C_ECHO, echo)], store=None) as running:
        with running.connect() as scu:
            local = scu.sock.getsockname()
            scu.associate(CONTEXTS, calling=b"MODALITY")
            scu.echo(3, message_id=77)
            made = make()
            scu.store(made.sop_class, made.sop_instance, made.data_set, message_id=78)
            scu.release()
        running.wait_none_left()
        (assoc,) = recorder.associations()
        assert recorder.details("CONN_OPEN") == recorder.details("CONN_CLOSE") == [local]
        assert assoc.requestor.ae_title == "MODALITY"
        assert (assoc.requestor.address, assoc.requestor.port) == local
        assert assoc.acceptor.ae_title == "FASTSCP"
        assert [context.abstract_syntax for context in assoc.accepted_contexts] == [enc.CT_IMAGE, enc.VERIFICATION]
        assert assoc.is_released
        assert not assoc.is_established
        assert not assoc.is_alive()
        assert seen == [(77, enc.VERIFICATION, True)]
        requests, responses = recorder.details("DIMSE_RECV"), recorder.details("DIMSE_SENT")
        assert [type(message).__name__ for message in requests] == ["C_ECHO_RQ", "C_STORE_RQ"]
        assert requests[1].command_set.MessageID == 78
        assert requests[1].command_set.AffectedSOPInstanceUID == made.sop_instance
        assert requests[1].context_id == 1
        assert [type(message).__name__ for message in responses] == ["C_ECHO_RSP", "C_STORE_RSP"]
        assert responses[1].command_set.MessageIDBeingRespondedTo == 78
        assert responses[1].command_set.Status == 0x0000
        assert ("Sta2", "Evt6", "AE-6", "Sta3") in recorder.details("FSM_TRANSITION")
        assert ("Sta3", "Evt7", "AE-7", "Sta6") in recorder.details("FSM_TRANSITION")


def garbage(scu: RawScu, running: Running) -> None:
    scu.associate(CONTEXTS)
    scu.send(b"GET / HTTP/1.1\r\n\r\n")
    scu.wait_closed()


def close(scu: RawScu, running: Running) -> None:
    scu.associate(CONTEXTS)
    scu.close()


def reset(scu: RawScu, running: Running) -> None:
    scu.associate(CONTEXTS)
    scu.reset()


def release(scu: RawScu, running: Running) -> None:
    scu.associate(CONTEXTS)
    scu.release()


def abort(scu: RawScu, running: Running) -> None:
    scu.associate(CONTEXTS)
    scu.abort()


def silence(scu: RawScu, running: Running) -> None:
    scu.associate(CONTEXTS)
    scu.wait_closed()


def stall(scu: RawScu, running: Running) -> None:
    made = make()
    scu.associate(CONTEXTS)
    scu.send(next(enc.message_pdus(1, enc.store_command(made.sop_class, made.sop_instance), made.data_set)))
    scu.wait_closed()


def no_request(scu: RawScu, running: Running) -> None:
    scu.send(enc.associate_rq(CONTEXTS)[:20])
    scu.wait_closed()


def bad_request(scu: RawScu, running: Running) -> None:
    scu.send(enc.pdu(enc.ASSOCIATE_RQ, bytes(200)))
    scu.wait_closed()


def other_application_context(scu: RawScu, running: Running) -> None:
    scu.send(enc.associate_rq(CONTEXTS, application_context="1.2.3"))
    assert [kind for kind, _ in scu.wait_closed()] == [enc.ASSOCIATE_RJ]


def end_soon(scu: RawScu, running: Running) -> None:
    scu.associate(CONTEXTS)
    running.acceptor.abort_all("the test is over")
    assert [kind for kind, _ in scu.wait_closed()] == [enc.ABORT]


def drain(scu: RawScu, running: Running) -> None:
    scu.associate(CONTEXTS)
    running.acceptor.begin_drain()
    scu.expect(enc.RELEASE_RQ)
    scu.send(enc.RELEASE_RP_PDU)
    assert scu.wait_closed() == []


ENDS: dict[str, tuple[Callable[[RawScu, Running], None], str, str]] = {
    # how, the one event that tells it, the outcome in the metrics
    "released by the peer": (release, "RELEASED", "released"),
    "aborted by the peer": (abort, "ABORTED", "aborted_by_peer"),
    "closed": (close, "ABORTED", "closed"),
    "reset": (reset, "ABORTED", "closed"),
    "silent for too long": (silence, "ABORTED", "timed_out"),
    "stalled inside a message": (stall, "ABORTED", "timed_out"),
    "protocol error": (garbage, "ABORTED", "aborted"),
    "aborted from outside": (end_soon, "ABORTED", "aborted"),
    "released by the drain": (drain, "RELEASED", "released"),
    "rejected": (other_application_context, "REJECTED", "rejected"),
    "no request in time": (no_request, "", ""),
    "a request that is none": (bad_request, "", ""),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_end_is_told_once(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    releasing_soon(monkeypatch)
    how, told, outcome = ENDS[end]
    recorder = Recorder()
    patience = IMPATIENT if end in ("silent for too long", "stalled inside a message", "no request in time") else {}
    with Running(recorder.handlers(), **patience) as running:
        with running.connect() as scu:
            how(scu, running)
            scu.close()
            eventually(lambda: "CONN_CLOSE" in recorder.names(), "the connection is closed")
        running.wait_none_left()
        counts = recorder.counts()
        assert counts["CONN_OPEN"] == counts["CONN_CLOSE"] == 1
        assert {name: counts[name] for name in ("RELEASED", "ABORTED", "REJECTED") if counts[name]} == ({told: 1} if told else {})
        (assoc,) = recorder.associations()
        assert not assoc.is_established
        assert (assoc.is_released, assoc.is_aborted, assoc.is_rejected) == (told == "RELEASED", told == "ABORTED", told == "REJECTED")
        if outcome:
            assert running.sample("fastscp_associations_total", outcome=outcome) == 1


def test_many_ends_at_one_time_are_each_told_once() -> None:
    recorder = Recorder()
    with Running(recorder.handlers(), max_associations=100) as running:
        ways = [release, abort, close, reset, garbage]

        def peer(number: int) -> None:
            with running.connect() as scu:
                ways[number % len(ways)](scu, running)

        threads = [threading.Thread(target=peer, args=(number,)) for number in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        eventually(lambda: recorder.counts()["CONN_CLOSE"] >= 50, "all are closed")
        running.wait_none_left()
    closes = Counter(assoc for name, _, assoc in recorder.fired if name == "CONN_CLOSE")
    assert len(closes) == 50
    assert set(closes.values()) == {1}


def test_a_handler_that_fails_does_not_end_the_association() -> None:
    """pynetdicom's rule for notification events: it is logged, and that is all."""

    def fail(event: evt.Event) -> None:
        raise RuntimeError("on purpose")

    with Running([(event, fail) for event in evt._NOTIFICATION_EVENTS]) as running:
        with running.connect() as scu:
            converse(scu)
        running.wait_none_left()
        assert running.sample("fastscp_associations_total", outcome="released") == 1


def test_the_peer_is_gone_before_the_answer() -> None:
    """Its descriptor is closed then and may be another connection's: not a byte may be read from there."""
    gone, stolen = threading.Event(), []
    outsider, its_other_end = local_pair()
    numbers: list[int] = []

    def requested(event: evt.Event) -> None:
        numbers.append(event.assoc._client_socket.fileno())
        gone.wait(30)
        poller = select.poll()
        poller.register(event.assoc._client_socket, 0)
        assert poller.poll(30_000), "the reset never came"

    def accepted(event: evt.Event) -> None:
        if event.assoc._client_socket.fileno() == -1:
            while not stolen or stolen[-1] < numbers[0]:
                stolen.append(its_other_end.dup().detach())

    outsider.sendall(enc.associate_rq(CONTEXTS))
    try:
        with Running([(evt.EVT_REQUESTED, requested), (evt.EVT_ACCEPTED, accepted)]) as running:
            scu = running.connect()
            scu.send(enc.associate_rq(CONTEXTS))
            eventually(lambda: bool(numbers), "the request is there")
            scu.reset()
            gone.set()
            running.wait_none_left()
        its_other_end.settimeout(1)
        assert its_other_end.recv(4096) == enc.associate_rq(CONTEXTS)
    finally:
        for fd in stolen:
            os.close(fd)
        outsider.close()
        its_other_end.close()


def test_a_connection_that_ends_during_the_negotiation_is_told_once() -> None:
    recorder, gone = Recorder(), threading.Event()

    def requested(event: evt.Event) -> None:
        gone.wait(30)

    with Running([*recorder.handlers(), (evt.EVT_REQUESTED, requested)]) as running:
        scu = running.connect()
        scu.send(enc.associate_rq(CONTEXTS))
        eventually(lambda: "REQUESTED" in recorder.names(), "the request is there")
        scu.close()
        gone.set()
        running.wait_none_left()
        assert recorder.counts()["CONN_CLOSE"] == 1
        assert recorder.counts()["ABORTED"] == 1


def test_a_closed_peer_is_seen_by_raw_scu() -> None:
    """The tool that these tests rest on tells an abort from a close."""
    with Running() as running, running.connect() as scu:
        scu.associate(CONTEXTS)
        scu.send(enc.ABORT_PDU)
        with pytest.raises(PeerClosed):
            scu.read_pdu()
