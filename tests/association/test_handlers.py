"""Handlers that decide: what they see, what they return, and what becomes of it.

Enters: handlers, bound in every way that pynetdicom has. Leaves: statuses and answers.
Never: an association that a handler can hang or break.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import evt

from fastscp.stores.file import FileStore
from tests.association.inprocess import Recorder, Running, nothing_left_open
from tests.peers import encoding as enc
from tests.peers.datasets import Made, make
from tests.peers.encoding import Context
from tests.peers.part10 import read_part10
from tests.peers.raw_scu import Accepted, RawScu, Rejected

CONTEXTS = [Context(1, enc.CT_IMAGE), Context(3, enc.VERIFICATION), Context(5, enc.CT_IMAGE, (enc.IMPLICIT_LE,))]


@pytest.fixture(autouse=True)
def _left() -> Iterator[None]:
    with nothing_left_open():
        yield


def send(scu: RawScu, made: Made, **options: Any) -> Any:
    return scu.store(made.sop_class, made.sop_instance, made.data_set, **options)


# C-STORE.


@pytest.mark.parametrize(("context_id", "explicit"), [(1, True), (5, False)])
def test_the_data_set_is_the_one_that_was_sent(tmp_path: Path, context_id: int, explicit: bool) -> None:
    seen = []
    made = make(pixel_bytes=100_000, explicit=explicit)

    def store(event: evt.Event) -> int:
        data_set = event.dataset
        data_set.file_meta = event.file_meta
        encoded = event.encoded_dataset()
        whole = pydicom.dcmread(BytesIO(encoded))
        seen.append((data_set, whole, event.message_id, event.context.transfer_syntax, event.request.AffectedSOPInstanceUID))
        assert event.encoded_dataset(include_meta=False) == made.data_set
        return 0x0000

    with Running([(evt.EVT_C_STORE, store)], store=FileStore(tmp_path, fsync=False, replace=True)) as running:
        with running.connect() as scu:
            scu.associate(CONTEXTS)
            assert send(scu, made, context_id=context_id, message_id=9).status == 0x0000
            scu.release()
        running.wait_none_left()
        ((data_set, whole, message_id, transfer_syntax, sop_instance),) = seen
        sent = pydicom.dcmread(BytesIO(made.data_set), force=True)
        assert data_set.PixelData == whole.PixelData
        assert data_set.StudyInstanceUID == made.study
        assert list(data_set.keys()) == list(sent.keys()) or explicit
        assert message_id == 9
        assert transfer_syntax == (enc.EXPLICIT_LE if explicit else enc.IMPLICIT_LE)
        assert sop_instance == made.sop_instance
        assert read_part10(tmp_path / made.relative_path).data_set == made.data_set


def dataset_status(**elements: Any) -> Dataset:
    status = Dataset()
    for keyword, value in elements.items():
        setattr(status, keyword, value)
    return status


def failing(event: evt.Event) -> int:
    raise RuntimeError("on purpose")


RETURNS: dict[str, tuple[Any, int, str, bool]] = {
    # what the handler returns, status, comment, whether it is stored
    "success": (0x0000, 0x0000, "", True),
    "refused": (0xA700, 0xA700, "", False),
    "cannot understand": (0xC123, 0xC123, "", False),
    "coercion of elements": (0xB000, 0xB000, "", True),
    "attribute list error": (0x0107, 0x0107, "", True),
    "data set: success": (dataset_status(Status=0x0000), 0x0000, "", True),
    "data set: refused": (dataset_status(Status=0xA900, ErrorComment="Not today"), 0xA900, "Not today", False),
    "data set: warning": (dataset_status(Status=0xB006, ErrorComment="Elements discarded"), 0xB006, "Elements discarded", True),
    "data set without a status": (dataset_status(ErrorComment="Nothing"), 0xC001, "", False),
    "nothing": (None, 0xC002, "", False),
    "a string": ("0x0000", 0xC002, "", False),
    "a comment that is too long": (dataset_status(Status=0xA700, ErrorComment="x" * 64), 0xA700, "x" * 64, False),
}


@pytest.mark.parametrize("kind", RETURNS)
def test_what_a_handler_returns(tmp_path: Path, kind: str) -> None:
    returned, status, comment, stored = RETURNS[kind]
    made, after = make(), make()
    calls = []

    def store(event: evt.Event) -> Any:
        calls.append(event.message_id)
        return returned if event.request.AffectedSOPInstanceUID == made.sop_instance else 0x0000

    recorder = Recorder()
    handlers = [(evt.EVT_C_STORE, store), *recorder.handlers()]
    with Running(handlers, store=FileStore(tmp_path, fsync=False, replace=True)) as running:
        with running.connect() as scu:
            scu.associate(CONTEXTS)
            answer = send(scu, made)
            assert answer.status == status
            assert not comment or answer.comment == comment
            assert send(scu, after, message_id=2).status == 0x0000
            scu.release()
        running.wait_none_left()
        assert calls == [1, 2]
        assert (tmp_path / made.relative_path).exists() == stored
        assert [message.command_set.Status for message in recorder.details("DIMSE_SENT")] == [status, 0x0000]
        assert running.sample("fastscp_refusals_total", reason="handler") == (0 if stored else 1)


def test_a_handler_that_raises(tmp_path: Path) -> None:
    made = make()
    with Running([(evt.EVT_C_STORE, failing)], store=FileStore(tmp_path, fsync=False, replace=True)) as running:
        with running.connect() as scu:
            scu.associate(CONTEXTS)
            assert send(scu, made).status == 0xC211
            assert scu.echo(3).status == 0x0000
            assert send(scu, made).status == 0xC211
            scu.release()
        running.wait_none_left()
        assert not (tmp_path / made.relative_path).exists()


@pytest.mark.parametrize("status", [-1, 0x10000, 1 << 40])
def test_a_status_that_no_response_can_carry(status: int) -> None:
    with Running([(evt.EVT_C_STORE, lambda event: status)]) as running:
        with running.connect() as scu:
            scu.associate(CONTEXTS)
            assert send(scu, make()).status >> 12 == 0xC
            assert scu.echo(3).status == 0x0000
            scu.release()
        running.wait_none_left()


def test_a_comment_that_no_response_can_carry() -> None:
    status = dataset_status(Status=0xA700)
    status.ErrorComment = "übergroß " * 10
    with Running([(evt.EVT_C_STORE, lambda event: status)]) as running:
        with running.connect() as scu:
            scu.associate(CONTEXTS)
            answer = send(scu, make())
            assert answer.status == 0xA700
            assert len(answer.comment) <= 64
            scu.release()
        running.wait_none_left()


@pytest.mark.parametrize(
    "sop_instance", ["1." + "2" * 70, "", "1.2.ä", "not a uid", "1.2\\3.4"], ids=["long", "empty", "latin", "words", "two"]
)
@pytest.mark.parametrize("event", [evt.EVT_C_STORE, evt.EVT_DIMSE_RECV, evt.EVT_DIMSE_SENT], ids=lambda event: event.name)
def test_handlers_do_not_change_what_an_unusable_uid_gets(event: Any, sop_instance: str) -> None:
    """Without a handler it is refused with 0xC000 or 0xA900, and the association goes on."""
    made = make()
    with Running([(event, lambda event: 0x0000)]) as running:
        with running.connect() as scu:
            scu.associate(CONTEXTS)
            answer = scu.store(made.sop_class, sop_instance, made.data_set)
            assert answer.status in (0xC000, 0xA900)
            assert scu.echo(3).status == 0x0000
            scu.release()
        running.wait_none_left()


def test_an_instance_that_left_memory_has_no_data_set_for_handlers(tmp_path: Path) -> None:
    """It is stored all the same, unless the handler refuses it."""
    seen = []

    def store(event: evt.Event) -> int:
        seen.append(event.request.DataSet)
        return 0x0000

    made = make(pixel_bytes=4 << 20)
    store_ = FileStore(tmp_path, fsync=False, replace=True)
    with Running([(evt.EVT_C_STORE, store)], store=store_, spill_threshold_bytes=1 << 20) as running:
        with running.connect() as scu:
            scu.associate(CONTEXTS)
            assert send(scu, made, data_pdv_bytes=100_000).status == 0x0000
            scu.release()
        running.wait_none_left()
        assert seen == [None]
        assert read_part10(tmp_path / made.relative_path).data_set == made.data_set


def test_a_data_set_that_a_handler_keeps_outlives_the_instance() -> None:
    kept = []

    def store(event: evt.Event) -> int:
        kept.append((event, event.request.DataSet))
        return 0x0000

    first, second = make(pixel_bytes=50_000), make(pixel_bytes=50_000)
    with Running([(evt.EVT_C_STORE, store)]) as running:
        with running.connect() as scu:
            scu.associate(CONTEXTS)
            send(scu, first)
            send(scu, second)
            scu.release()
        running.wait_none_left()
        assert [data_set.getvalue() for _, data_set in kept] == [first.data_set, second.data_set]
        assert kept[0][0].request.DataSet.getvalue() == first.data_set


def test_handlers_bound_while_the_association_lives() -> None:
    seen = []

    def established(event: evt.Event) -> None:
        event.assoc.bind(evt.EVT_C_STORE, lambda event, word: seen.append(word) or 0xA700, ["bound"])
        event.assoc.bind(evt.EVT_RELEASED, lambda event: seen.append("released"))

    def echo(event: evt.Event) -> int:
        event.assoc.unbind(evt.EVT_C_STORE, event.assoc.get_handlers(evt.EVT_C_STORE)[0])
        return 0x0000

    with Running([(evt.EVT_ESTABLISHED, established), (evt.EVT_C_ECHO, echo)]) as running:
        for _ in range(2):
            with running.connect() as scu:
                scu.associate(CONTEXTS)
                assert send(scu, make()).status == 0xA700
                scu.echo(3)
                assert send(scu, make()).status == 0x0000
                scu.release()
            running.wait_none_left()
        assert seen == ["bound", "released"] * 2


# C-ECHO.


@pytest.mark.parametrize(("returned", "status"), [(0x0000, 0x0000), (0x0122, 0x0122), (dataset_status(Status=0x0210), 0x0210)])
def test_c_echo(returned: Any, status: int) -> None:
    with Running([(evt.EVT_C_ECHO, lambda event: returned)]) as running:
        with running.connect() as scu:
            scu.associate(CONTEXTS)
            assert scu.echo(3).status == status
            scu.release()
        running.wait_none_left()


def test_c_echo_whose_handler_raises() -> None:
    with Running([(evt.EVT_C_ECHO, failing)]) as running:
        with running.connect() as scu:
            scu.associate(CONTEXTS)
            assert scu.echo(3).status == 0x0000  # as pynetdicom has it
            scu.release()
        running.wait_none_left()


# Handlers that end the association.


def abort(event: evt.Event) -> int:
    event.assoc.abort()
    return 0x0000


def release(event: evt.Event) -> int:
    event.assoc.release()
    return 0x0000


@pytest.mark.parametrize(
    "event",
    [
        evt.EVT_REQUESTED,
        evt.EVT_ACCEPTED,
        evt.EVT_ESTABLISHED,
    ],
    ids=["requested", "accepted", "established"],
)
def test_a_handler_aborts_before_the_first_message(event: Any) -> None:
    recorder = Recorder()
    with Running([*recorder.handlers(), (event, abort)]) as running:
        with running.connect() as scu:
            scu.send(enc.associate_rq(CONTEXTS))
            scu.sock.settimeout(3)
            assert [kind for kind, _ in scu.wait_closed()][-1] == enc.ABORT
        running.wait_none_left()
        counts = recorder.counts()
        assert (counts["ABORTED"], counts["CONN_CLOSE"]) == (1, 1)


@pytest.mark.parametrize("event", [evt.EVT_C_ECHO, evt.EVT_C_STORE, evt.EVT_DIMSE_RECV], ids=lambda event: event.name)
def test_a_handler_aborts_inside_a_message(event: Any, tmp_path: Path) -> None:
    recorder, made = Recorder(), make()
    handlers = [*recorder.handlers(), (event, abort)]
    with Running(handlers, store=FileStore(tmp_path, fsync=False, replace=True)) as running:
        with running.connect() as scu:
            scu.associate(CONTEXTS)
            scu.send(echo_request() if event is evt.EVT_C_ECHO else store_request(made))
            seen = [kind for kind, _ in scu.wait_closed()]
            assert seen[0] == enc.ABORT
        running.wait_none_left()
        counts = recorder.counts()
        assert (counts["ABORTED"], counts["CONN_CLOSE"]) == (1, 1)


def echo_request() -> bytes:
    return b"".join(enc.message_pdus(3, enc.echo_command(), None))


def store_request(made: Made) -> bytes:
    return b"".join(enc.message_pdus(1, enc.store_command(made.sop_class, made.sop_instance), made.data_set))


@pytest.mark.parametrize(
    "event",
    [evt.EVT_C_ECHO, evt.EVT_C_STORE],
    ids=["echo", "store"],
)
def test_a_handler_releases(event: Any) -> None:
    """As pynetdicom's own association does when a handler asks for it inside a message."""
    made, recorder = make(), Recorder()
    with Running([*recorder.handlers(), (event, release)]) as running:
        with running.connect() as scu:
            scu.associate(CONTEXTS)
            scu.send(echo_request() if event is evt.EVT_C_ECHO else store_request(made))
            scu.sock.settimeout(3)
            try:
                scu.expect(enc.RELEASE_RQ)
                scu.send(enc.RELEASE_RP_PDU)
                scu.wait_closed()
            finally:
                # Where the handler waits for ever, this lets it go, so that the test ends.
                recorder.associations()[0]._is_paused = True
        running.wait_none_left()


def test_a_handler_rejects() -> None:
    recorder = Recorder()

    def requested(event: evt.Event) -> None:
        event.assoc.acse.send_reject(0x01, 0x01, 0x01)

    with Running([*recorder.handlers(), (evt.EVT_REQUESTED, requested)]) as running:
        with running.connect() as scu, pytest.raises(Rejected) as rejected:
            scu.associate(CONTEXTS)
        assert rejected.value.answer == (1, 1, 1)
        running.wait_none_left()
        assert recorder.counts()["CONN_CLOSE"] == 1
        assert recorder.counts()["ESTABLISHED"] == 0


# Negotiation.

USER_IDENTITY = enc.item(0x58, b"\x03\x01" + struct.pack(">H", 6) + b"ticket" + struct.pack(">H", 0))
ASYNC_OPS = enc.item(0x53, struct.pack(">HH", 5, 6))
EXTENDED = enc.item(0x56, struct.pack(">H", len(enc.CT_IMAGE)) + enc.CT_IMAGE.encode() + b"\x02\0\0\0\0\0")
DECIDING: dict[str, tuple[Any, bytes, Callable[[int], Any]]] = {
    # event, user item, what the handler answers to the n-th request
    "user identity": (evt.EVT_USER_ID, USER_IDENTITY, lambda n: (True, b"ok %d" % n)),
    "asynchronous operations": (evt.EVT_ASYNC_OPS, ASYNC_OPS, lambda n: (n, n)),
    "extended negotiation": (evt.EVT_SOP_EXTENDED, EXTENDED, lambda n: {enc.CT_IMAGE: b"\x01" + bytes([n])}),
}


@pytest.mark.parametrize("kind", DECIDING)
@pytest.mark.parametrize("where", ["acceptor", "association"])
def test_a_handler_decides_each_time_anew(kind: str, where: str) -> None:
    event, item, answer = DECIDING[kind]
    calls: list[int] = []

    def decide(event: evt.Event) -> Any:
        calls.append(len(calls) + 1)
        return answer(len(calls))

    def requested(event_: evt.Event) -> None:
        # Only some associations have the handler; the others' answers are remembered.
        if event_.assoc.requestor.primitive.called_ae_title.strip() == "FASTSCP" and bound:
            event_.assoc.bind(event, decide)

    bound = False
    with Running([(event, decide)] if where == "acceptor" else [(evt.EVT_REQUESTED, requested)]) as running:
        answers = []
        for number in range(5):
            bound = number >= 2
            with running.connect() as scu:
                scu.send(enc.associate_rq(CONTEXTS, user_items=item))
                answers.append(scu.expect(enc.ASSOCIATE_AC))
                scu.send(enc.RELEASE_RQ_PDU)
                scu.expect(enc.RELEASE_RP)
            running.wait_none_left()
        expected = 5 if where == "acceptor" else 3
        assert len(calls) == expected
        # Whatever the handler says of a window, pynetdicom answers that it has one operation at a time.
        different = 1 if kind == "asynchronous operations" else expected
        assert len(set(answers[-expected:])) == different, "an answer was remembered that a handler had given"


def test_a_user_that_is_refused_is_counted_and_never_established() -> None:
    recorder = Recorder()
    with Running([*recorder.handlers(), (evt.EVT_USER_ID, lambda event: (False, None))], max_associations=1) as running:
        for _ in range(2):
            with running.connect() as scu, pytest.raises(Rejected) as rejected:
                scu.associate(CONTEXTS, user_items=USER_IDENTITY)
            assert rejected.value.answer == (2, 2, 1)
            running.wait_none_left()
        assert recorder.counts()["REJECTED"] == 2
        assert recorder.counts()["ESTABLISHED"] == 0
        assert running.sample("fastscp_rejections_total", reason="user_identity") == 2
        assert running.sample("fastscp_associations_total", outcome="rejected") == 2
        assert running.sample("fastscp_connections_total", result="associated") == 0


def test_the_user_information_of_the_request_is_there_for_handlers() -> None:
    seen: list[tuple[Any, ...]] = []

    def requested(event: evt.Event) -> None:
        requestor = event.assoc.requestor
        seen.append((requestor.maximum_length, requestor.implementation_class_uid, requestor.asynchronous_operations))

    answer: Accepted
    with Running([(evt.EVT_REQUESTED, requested)]) as running:
        for _ in range(2):
            with running.connect() as scu:
                answer = scu.associate(CONTEXTS, user_items=ASYNC_OPS, max_pdu_bytes=20_000)
                scu.release()
        running.wait_none_left()
    assert seen == [(20_000, "1.2.826.0.1.3680043.10.9999", (5, 6))] * 2
    assert answer.max_pdu_bytes == 131_072
