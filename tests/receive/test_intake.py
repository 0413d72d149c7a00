"""From a reader's events to the answer: what reaches the store, what is abandoned, what is given back.

Enters: bytes of C-STORE-RQ, into the native reader. Leaves: answers, and the calls that a store saw.
Never: memory that is kept, an upload that ends twice or not at all.
"""

from __future__ import annotations

import random
import zlib
from typing import Any

import pytest

from fastscp._ext import pdu
from fastscp._ext.memory import BufferPool
from fastscp._ext.pdu import MessageReader
from fastscp.errors import RefusedError, StoreError
from fastscp.observe.metrics import Metrics
from fastscp.receive import Answer, Intake
from fastscp.stores import InstanceName
from tests.peers import encoding as enc
from tests.peers.datasets import SERIES_UID, SOP_INSTANCE, STUDY_UID, Made, make, new_uid

MIB = 1 << 20
CONTEXTS = {1: enc.EXPLICIT_LE, 3: enc.IMPLICIT_LE, 5: enc.DEFLATED_LE}


class RecordingUpload:
    def __init__(self, store: RecordingStore) -> None:
        self._store = store
        self.data = bytearray()

    def _take(self, instance: Any) -> None:
        views = instance.spillable_segments()
        for view in views:
            self.data += view
            view.release()
        instance.drop_spillable(instance.spillable_bytes())

    def spill(self, instance: Any) -> None:
        self._store.note("spill")
        self._store.fail("spill")
        self._take(instance)

    def commit(self, instance: Any, name: InstanceName) -> None:
        self._store.note("upload.commit")
        self._store.fail("upload.commit")
        self._store.committed[name] = bytes(self.data) + whole(instance)

    def abandon(self) -> None:
        self._store.note("abandon")


class RecordingStore:
    """Keeps everything and notes every call; fails where it is told to, with what it is told to, so many times."""

    def __init__(self, **failures: list[Exception]) -> None:
        self.calls: list[str] = []
        self.committed: dict[InstanceName, bytes] = {}
        self.failures = {name.replace("upload_", "upload."): errors for name, errors in failures.items()}

    def note(self, call: str) -> None:
        self.calls.append(call)

    def fail(self, call: str) -> None:
        errors = self.failures.get(call)
        if errors:
            raise errors.pop(0)

    def commit(self, instance: Any, name: InstanceName) -> None:
        self.note("commit")
        self.fail("commit")
        self.committed[name] = whole(instance)

    def begin_upload(self, instance: Any) -> RecordingUpload:
        self.note("begin")
        self.fail("begin")
        return RecordingUpload(self)

    def close(self) -> None:
        self.note("close")


def whole(instance: Any) -> bytes:
    return b"".join(bytes(view) for view in instance.segments())


class Receiving:
    """A reader and an intake, driven as an association drives them."""

    def __init__(self, store: RecordingStore | None = None, *, limit_bytes: int = 64 * MIB, sop_classes: tuple[str, ...] = ()) -> None:
        self.store = store or RecordingStore()
        self.metrics = Metrics("test")
        self.pool = BufferPool(limit_bytes)
        self.reader = MessageReader(
            self.pool,
            max_pdu_bytes=131072,
            max_instance_bytes=16 * MIB,
            spill_threshold_bytes=MIB,
            implementation_class_uid="1.2.3",
            implementation_version_name="TEST",
        )
        self.reader.establish(CONTEXTS, frozenset(CONTEXTS), "SENDER")
        self.intake = Intake(self.store, self.metrics, self.metrics.sender("SENDER"), frozenset(sop_classes), "test-1")

    def feed(self, data: bytes) -> list[Answer]:
        answers = []
        while True:
            event, consumed = self.reader.feed(data)
            data = data[consumed:]
            if event == pdu.NEED_DATA:
                assert not data
                return answers
            if event == pdu.STORE:
                answers.append(self.intake.store(self.reader.take_instance()))
            else:
                assert event in (pdu.SPILL, pdu.NO_MEMORY)
                if not self.intake.spill(self.reader.instance) or event == pdu.NO_MEMORY:
                    self.reader.discard()

    def send(self, made: Made, *, context_id: int = 1, command: bytes | None = None, **options: Any) -> Answer:
        command = command if command is not None else enc.store_command(made.sop_class, made.sop_instance)
        stream = b"".join(enc.message_pdus(context_id, command, made.data_set, data_pdv_bytes=60_000, **options))
        (answer,) = self.feed(stream)
        return answer

    def refusals(self) -> dict[str, float]:
        counted = {}
        for metric in self.metrics.registry.collect():
            for sample in metric.samples:
                if sample.name == "fastscp_refusals_total" and sample.value:
                    counted[sample.labels["reason"]] = sample.value
        return counted


def ends(calls: list[str]) -> int:
    return calls.count("abandon") + calls.count("upload.commit")


@pytest.mark.parametrize("pixel_bytes", [0, 100, 300_000])
def test_what_fits_into_memory_is_committed_at_once(pixel_bytes: int) -> None:
    receiving, made = Receiving(), make(pixel_bytes=pixel_bytes)
    assert receiving.send(made) == Answer(0x0000)
    ((name, file),) = receiving.store.committed.items()
    assert name == (made.study, made.series, made.sop_instance)
    assert file.endswith(made.data_set)
    assert file[128:132] == b"DICM"
    assert receiving.store.calls == ["commit"]
    assert receiving.pool.in_use_bytes == 0
    assert receiving.metrics.registry.get_sample_value("fastscp_instance_bytes_total") == len(made.data_set)


def test_what_does_not_is_uploaded_while_it_arrives() -> None:
    receiving, made = Receiving(), make(pixel_bytes=5 * MIB)
    assert receiving.send(made) == Answer(0x0000)
    ((_, file),) = receiving.store.committed.items()
    assert file.endswith(made.data_set)
    calls = receiving.store.calls
    assert calls[0] == "begin"
    assert calls[-1] == "upload.commit"
    assert set(calls[1:-1]) == {"spill"}
    assert len(calls) > 4
    assert receiving.pool.in_use_bytes == 0


IMPLICIT_HEAD = make(explicit=False)
REFUSALS: dict[str, tuple[Made, dict[str, Any], int, str, int]] = {
    # what is sent, how, status, reason, offending element
    "sop class differs": (
        make(),
        {"command": enc.store_command("1.2.840.10008.5.1.4.1.1.4", make().sop_instance)},
        0xA900,
        "sop_class_mismatch",
        0x00080016,
    ),
    "sop instance differs": (
        make(),
        {"command": enc.store_command(enc.CT_IMAGE, "1.2.3.4")},
        0xA900,
        "sop_instance_mismatch",
        SOP_INSTANCE,
    ),
    "no study": (make(study=None), {}, 0xC000, "missing_uid", STUDY_UID),
    "no series": (make(series=None), {}, 0xC000, "missing_uid", SERIES_UID),
    "no instance": (make(sop_instance=None), {"command": enc.store_command(enc.CT_IMAGE, "1.2.3.4")}, 0xC000, "missing_uid", SOP_INSTANCE),
    "a study that is a path": (make(study="../../etc"), {}, 0xC000, "unusable_uid", STUDY_UID),
    "a series of dots": (make(series=".."), {}, 0xC000, "unusable_uid", SERIES_UID),
    "a study that is too long": (make(study="1." + "2" * 63), {}, 0xC000, "unusable_uid", STUDY_UID),
    "another encoding": (IMPLICIT_HEAD, {}, 0xC000, "unreadable_head", 0),
    "not deflated": (make(), {"context_id": 5}, 0xC000, "unreadable_head", 0),
    "too large": (make(pixel_bytes=17 * MIB), {}, 0xA700, "too_large", 0),
    "class that is not in the list": (
        make(sop_class="1.2.840.10008.5.1.4.1.1.4"),
        {"sop_classes": (enc.CT_IMAGE,)},
        0x0122,
        "sop_class_not_supported",
        0,
    ),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_what_is_refused(kind: str) -> None:
    made, options, status, reason, offending = REFUSALS[kind]
    options = dict(options)
    receiving = Receiving(sop_classes=options.pop("sop_classes", ()))
    answer = receiving.send(made, **options)
    assert (answer.status, answer.offending_element) == (status, offending)
    assert 0 < len(answer.error_comment) <= 64
    assert receiving.refusals() == {reason: 1}
    assert receiving.store.committed == {}
    assert "commit" not in receiving.store.calls
    assert receiving.store.calls.count("begin") == receiving.store.calls.count("abandon")
    assert receiving.pool.in_use_bytes == 0
    # The next one is as good as if nothing had been.
    after = make()
    assert receiving.send(after) == Answer(0x0000)
    assert len(receiving.store.committed) == 1


def test_a_request_without_a_data_set() -> None:
    receiving = Receiving()
    command = enc.command_set(
        [
            (enc.AFFECTED_SOP_CLASS, enc.padded(enc.CT_IMAGE)),
            (enc.COMMAND_FIELD, enc.ushort(1)),
            (enc.MESSAGE_ID, enc.ushort(1)),
            (enc.DATA_SET_TYPE, enc.ushort(0x0101)),
            (enc.AFFECTED_SOP_INSTANCE, enc.padded("1.2.3")),
        ]
    )
    (answer,) = receiving.feed(b"".join(enc.message_pdus(1, command, None)))
    assert answer.status == 0xC000
    assert receiving.refusals() == {"no_data_set": 1}


@pytest.mark.parametrize("missing", [enc.AFFECTED_SOP_CLASS, enc.AFFECTED_SOP_INSTANCE])
def test_a_command_without_a_uid(missing: int) -> None:
    receiving, made = Receiving(), make()
    elements = [
        (enc.AFFECTED_SOP_CLASS, enc.padded(made.sop_class)),
        (enc.COMMAND_FIELD, enc.ushort(1)),
        (enc.MESSAGE_ID, enc.ushort(1)),
        (enc.DATA_SET_TYPE, enc.ushort(0)),
        (enc.AFFECTED_SOP_INSTANCE, enc.padded(made.sop_instance)),
    ]
    answer = receiving.send(made, command=enc.command_set([each for each in elements if each[0] != missing]))
    assert (answer.status, answer.offending_element) == (0xC000, missing)
    assert receiving.refusals() == {"missing_uid": 1}


def test_no_memory_refuses_one_and_no_more() -> None:
    # Of the smallest budget all but a little is taken by somebody else.
    receiving = Receiving(limit_bytes=4 * MIB)
    other = MessageReader(
        receiving.pool,
        max_pdu_bytes=131072,
        max_instance_bytes=64 * MIB,
        spill_threshold_bytes=32 * MIB,
        implementation_class_uid="1.2.3",
        implementation_version_name="TEST",
    )
    other.establish(CONTEXTS, frozenset(CONTEXTS), "OTHER")
    big, made = make(pixel_bytes=6 * MIB), make(pixel_bytes=200_000)
    event, _ = other.feed(b"".join(enc.message_pdus(1, enc.store_command(big.sop_class, big.sop_instance), big.data_set)))
    assert event == pdu.NO_MEMORY
    answer = receiving.send(made)
    assert answer.status == 0xA700
    assert receiving.refusals() == {"no_memory": 1}
    other.close()
    assert receiving.pool.in_use_bytes == 0
    assert receiving.send(made) == Answer(0x0000)


FAILURES: dict[str, tuple[dict[str, list[Exception]], int, int, str]] = {
    # what fails, bytes of the instance, status, reason
    "commit": ({"commit": [StoreError("The storage is full", "ENOSPC")]}, 100, 0xA700, "store_failed"),
    "commit, duplicate": ({"commit": [RefusedError(0xC000, "duplicate", "There already")]}, 100, 0xC000, "duplicate"),
    "commit, unexpected": ({"commit": [KeyError("on purpose")]}, 100, 0x0110, "internal_error"),
    "commit, no memory": ({"commit": [MemoryError()]}, 100, 0x0110, "internal_error"),
    "begin": ({"begin": [StoreError("The storage is full", "ENOSPC")]}, 4 * MIB, 0xA700, "store_failed"),
    "spill": ({"spill": [StoreError("The storage is full", "ENOSPC")]}, 4 * MIB, 0xA700, "store_failed"),
    "upload commit": ({"upload_commit": [StoreError("The storage is full", "ENOSPC")]}, 4 * MIB, 0xA700, "store_failed"),
    "upload commit, duplicate": ({"upload_commit": [RefusedError(0xC000, "duplicate", "There already")]}, 4 * MIB, 0xC000, "duplicate"),
    "upload commit, unexpected": ({"upload_commit": [KeyError("on purpose")]}, 4 * MIB, 0x0110, "internal_error"),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_store_that_fails_once(kind: str) -> None:
    failures, pixel_bytes, status, reason = FAILURES[kind]
    receiving = Receiving(RecordingStore(**{name: list(errors) for name, errors in failures.items()}))
    made = make(pixel_bytes=pixel_bytes)
    answer = receiving.send(made)
    assert answer.status == status
    assert "on purpose" not in answer.error_comment
    assert receiving.refusals() == {reason: 1}
    assert receiving.pool.in_use_bytes == 0
    calls = receiving.store.calls
    if "begin" in failures:
        assert calls == ["begin"], "it was asked again for the same instance"
    else:
        # An upload ends with exactly one of commit and abandon, whatever commit then does.
        assert ends(calls) == calls.count("begin")
    again = receiving.send(made)
    assert again == Answer(0x0000)
    assert list(receiving.store.committed) == [(made.study, made.series, made.sop_instance)]


@pytest.mark.parametrize("call", ["begin", "spill"])
def test_a_bug_in_the_store_while_an_instance_arrives(call: str) -> None:
    """Design: 0x0110, and the association goes on, as where the bug shows at the commit."""
    receiving = Receiving(RecordingStore(**{call: [KeyError("on purpose")]}))
    made = make(pixel_bytes=4 * MIB)
    assert receiving.send(made).status == 0x0110
    assert receiving.refusals() == {"internal_error": 1}
    assert receiving.store.calls.count("abandon") == (1 if call == "spill" else 0)
    assert receiving.pool.in_use_bytes == 0
    assert receiving.send(made) == Answer(0x0000)


def test_an_upload_of_what_turns_out_to_be_refused_is_abandoned_once() -> None:
    receiving = Receiving()
    assert receiving.send(make(pixel_bytes=4 * MIB, study="no uid")).status == 0xC000
    assert receiving.store.calls.count("begin") == receiving.store.calls.count("abandon") == 1
    assert "upload.commit" not in receiving.store.calls


def test_an_association_that_ends_inside_an_upload_abandons_it_once() -> None:
    receiving, made = Receiving(), make(pixel_bytes=4 * MIB)
    stream = b"".join(enc.message_pdus(1, enc.store_command(made.sop_class, made.sop_instance), made.data_set, data_pdv_bytes=60_000))
    assert receiving.feed(stream[: 3 * MIB]) == []
    receiving.intake.abandon()
    receiving.intake.abandon()
    receiving.reader.close()
    assert receiving.store.calls.count("abandon") == receiving.store.calls.count("begin") == 1
    assert receiving.pool.in_use_bytes == 0


def test_a_handler_that_refuses_abandons_the_upload() -> None:
    receiving, made = Receiving(), make(pixel_bytes=4 * MIB)
    data = b"".join(enc.message_pdus(1, enc.store_command(made.sop_class, made.sop_instance), made.data_set, data_pdv_bytes=60_000))
    while True:
        event, consumed = receiving.reader.feed(data)
        data = data[consumed:]
        if event == pdu.STORE:
            break
        assert receiving.intake.spill(receiving.reader.instance)
    wish = Answer(0xA700, "Not today")
    assert receiving.intake.refuse(receiving.reader.take_instance(), wish) == wish
    assert receiving.store.calls.count("abandon") == 1
    assert receiving.refusals() == {"handler": 1}
    receiving.feed(b"")
    assert receiving.pool.in_use_bytes == 0


def test_a_deflated_instance_that_spills_is_named_all_the_same() -> None:

    plain = make(pixel_bytes=0)
    noise = random.Random(7).randbytes(4 * MIB)
    deflater = zlib.compressobj(wbits=-15)
    data_set = deflater.compress(plain.data_set + noise) + deflater.flush()
    made = Made(data_set + bytes(len(data_set) % 2), plain.sop_class, plain.sop_instance, plain.study, plain.series)
    receiving = Receiving()
    assert receiving.send(made, context_id=5) == Answer(0x0000)
    ((name, file),) = receiving.store.committed.items()
    assert name == (made.study, made.series, made.sop_instance)
    assert file.endswith(made.data_set)
    assert "upload.commit" in receiving.store.calls


@pytest.mark.parametrize(("uid", "count"), [("1.02.3", 1), ("1..3", 1), ("1.2.3", 0)])
def test_a_uid_that_is_odd_is_stored_and_counted(uid: str, count: int) -> None:
    receiving, made = Receiving(), make(series=uid)
    assert receiving.send(made) == Answer(0x0000)
    assert receiving.metrics.registry.get_sample_value("fastscp_nonconformant_uids_total") == count


def test_a_list_of_classes_lets_the_listed_through() -> None:
    receiving = Receiving(sop_classes=(enc.CT_IMAGE,))
    assert receiving.send(make()) == Answer(0x0000)
    assert receiving.send(make(sop_class="1.2.840.10008.5.1.4.1.1.4")).status == 0x0122
    assert receiving.send(make(sop_instance=new_uid())) == Answer(0x0000)


@pytest.mark.parametrize(
    ("status", "warning"),
    [(0x0000, False), (0xB000, True), (0xB007, True), (0x0001, True), (0x0107, True), (0x0116, True), (0xA700, False), (0xC000, False)],
)
def test_which_statuses_are_warnings(status: int, warning: bool) -> None:
    assert Answer(status).is_warning == warning
