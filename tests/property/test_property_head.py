"""The head scan against the reference, and against pydicom on data sets that pydicom wrote.

Enters: drawn data sets, whole, damaged and cut. Leaves: equal heads. Never: a data set that only the code under test has read.
"""

import zlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from fastscp._ext import pdu
from fastscp._ext.head import scan_head
from fastscp._ext.memory import BufferPool
from reference import reference_part10, traffic
from reference.driving import CONTEXTS, STORE_CONTEXT_IDS, head_line, native_reader
from reference.reference_part10 import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
from reference.strategies import damaged, data_sets, nested, uids

SYNTAXES = [(False, True), (True, True), (True, False)]
DEFLATED_CONTEXT_ID = 9
syntaxes = st.sampled_from(SYNTAXES)


@st.composite
def written_data_sets(draw: st.DrawFn) -> tuple[bytes, bool, bool]:
    explicit_vr, little_endian = draw(syntaxes)
    whole = data_sets(explicit_vr, little_endian)
    return draw(st.one_of(whole, damaged(whole), st.binary(max_size=64))), explicit_vr, little_endian


@given(written_data_sets(), st.booleans())
def test_a_scan_finds_what_the_reference_finds(written: tuple[bytes, bool, bool], last: bool) -> None:
    data, explicit_vr, little_endian = written
    found = scan_head(data, explicit_vr=explicit_vr, little_endian=little_endian, last=last)
    expected = reference_part10.scan_head(data, explicit_vr=explicit_vr, little_endian=little_endian, last=last)
    assert head_line(found) == head_line(expected)


@given(written_data_sets())
def test_a_longer_prefix_never_changes_what_a_shorter_one_said(written: tuple[bytes, bool, bool]) -> None:
    data, explicit_vr, little_endian = written
    settled = None
    for end in range(min(len(data), 400) + 1):
        head = scan_head(data[:end], explicit_vr=explicit_vr, little_endian=little_endian, last=False)
        if settled is not None:
            assert head_line(head) == settled
        elif head.state != "incomplete":
            settled = head_line(head)


@given(st.integers(28, 36), st.sampled_from(["sequences", "items"]), syntaxes)
def test_nesting_has_a_floor(levels: int, of_undefined_length: str, syntax: tuple[bool, bool]) -> None:
    explicit_vr, little_endian = syntax
    order = "little" if little_endian else "big"

    def number(value: int, count_bytes: int) -> bytes:
        return value.to_bytes(count_bytes, order)  # type: ignore[arg-type]

    header = number(0x0008, 2) + number(0x1115, 2) + (b"SQ\0\0" if explicit_vr else b"") + number(0xFFFFFFFF, 4)
    item = number(0xFFFE, 2) + number(0xE000, 2) + number(0xFFFFFFFF, 4)
    data = b"".join(header if of_undefined_length == "sequences" and not level % 2 else item for level in range(levels))
    if of_undefined_length == "items":
        data = (header + item) * (levels // 2)
    found = scan_head(data, explicit_vr=explicit_vr, little_endian=little_endian)
    expected = reference_part10.scan_head(data, explicit_vr=explicit_vr, little_endian=little_endian)
    assert head_line(found) == head_line(expected)


# pydicom as the writer: what was put into the data set is what must be found.

IDENTIFYING = {
    "sop_class_uid": "SOPClassUID",
    "sop_instance_uid": "SOPInstanceUID",
    "study_date": "StudyDate",
    "study_instance_uid": "StudyInstanceUID",
    "series_instance_uid": "SeriesInstanceUID",
}


dates = st.sampled_from(["20240229", "", "19991231"])


@st.composite
def pydicom_data_sets(draw: st.DrawFn, depth: int = 0) -> Dataset:
    data_set = Dataset()
    data_set.is_undefined_length_sequence_item = draw(st.booleans())
    absent = draw(st.sets(st.sampled_from(sorted(IDENTIFYING.values())), max_size=2))
    for keyword in sorted(IDENTIFYING.values()):
        if keyword not in absent:
            setattr(data_set, keyword, draw(dates if keyword == "StudyDate" else uids))
    data_set.add_new(0x00080005, "CS", "ISO_IR 192")
    if draw(st.booleans()):
        data_set.PatientComments = draw(st.text("abcdefgh", max_size=300))
    for group in draw(st.lists(st.sampled_from([0x0009, 0x0011, 0x0019, 0x0021]), max_size=2, unique=True)):
        block = data_set.private_block(group, "FASTSCP TEST", create=True)
        vr = draw(st.sampled_from(["UN", "OB", "LO", "UT"]))
        value = draw(st.binary(max_size=20).map(lambda data: data + bytes(len(data) % 2))) if vr in ("UN", "OB") else "text"
        block.add_new(0x01, vr, value)
        if depth < 2 and draw(st.booleans()):
            block.add_new(0x02, "SQ", draw(pydicom_sequences(depth)))
    if depth < 2:
        for keyword in sorted(draw(st.sets(st.sampled_from(["ReferencedStudySequence", "OtherPatientIDsSequence"])))):
            setattr(data_set, keyword, draw(pydicom_sequences(depth)))
            data_set[keyword].is_undefined_length = draw(st.booleans())
    if draw(st.booleans()):
        data_set.add_new(0x7FE00010, "OW", draw(st.binary(max_size=40).map(lambda data: data + bytes(len(data) % 2))))
    return data_set


@st.composite
def pydicom_sequences(draw: st.DrawFn, depth: int) -> Sequence:
    return Sequence(draw(st.lists(pydicom_data_sets(depth + 1), max_size=2)))


def written(data_set: Dataset, explicit_vr: bool, little_endian: bool) -> bytes:
    target = DicomBytesIO()
    target.is_implicit_VR = not explicit_vr
    target.is_little_endian = little_endian
    write_dataset(target, data_set)
    return target.getvalue()


def assert_found(head: Any, data_set: Dataset) -> None:
    assert head.state == "complete"
    for name, keyword in IDENTIFYING.items():
        expected = data_set.get(keyword)
        assert getattr(head, name) == (None if expected is None else str(expected))


a_third = settings(max_examples=1 + settings.default.max_examples // 3)  # pydicom is slow


@a_third
@given(pydicom_data_sets(), st.integers(0, 9))
def test_what_pydicom_wrote_is_found(data_set: Dataset, level: int) -> None:
    for explicit_vr, little_endian in SYNTAXES:
        data = written(data_set, explicit_vr, little_endian)
        assert_found(scan_head(data, explicit_vr=explicit_vr, little_endian=little_endian), data_set)
    instance = received(deflate(written(data_set, True, True), level))
    assert_found(instance.inflated_head(1 << 20), data_set)
    assert head_line(instance.head) == head_line(instance.inflated_head(1))


# Deflated data sets.


def deflate(data: bytes, level: int = 6) -> bytes:
    deflater = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


def received(deflated: bytes) -> Any:
    reader = native_reader(BufferPool(1 << 26), established=False)
    contexts = CONTEXTS | {DEFLATED_CONTEXT_ID: DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN}
    reader.establish(contexts, STORE_CONTEXT_IDS | {DEFLATED_CONTEXT_ID}, "STORESCU")
    stream = traffic.store(DEFLATED_CONTEXT_ID, deflated)
    assert reader.feed(stream) == (pdu.STORE, len(stream))
    instance = reader.take_instance()
    assert instance.deflated
    assert instance.head.state == "incomplete"
    return instance


@given(st.one_of(data_sets(True, True), damaged(data_sets(True, True))), st.integers(0, 9), st.integers(1, 600), st.integers(0, 600))
def test_no_more_is_inflated_than_was_allowed(data: bytes, level: int, limit_bytes: int, end: int) -> None:
    deflated = deflate(data, level)[:end]
    head = received(deflated).inflated_head(limit_bytes)
    assert head_line(head) == head_line(reference_part10.inflated_head(deflated, limit_bytes))


@given(st.lists(nested(True, True), max_size=2), st.integers(0, 300_000), st.integers(1, 1 << 19))
def test_a_deflated_head_may_span_segments(before: list[bytes], comment_bytes: int, limit_bytes: int) -> None:
    """Stored blocks of deflate: what is inflated is as long as what is received."""
    comment = traffic.element(0x0008, 0x0001, b"UT", bytes(comment_bytes))
    data = comment + b"".join(before) + traffic.data_set()
    deflated = deflate(data, level=0)
    head = received(deflated).inflated_head(limit_bytes)
    assert head_line(head) == head_line(reference_part10.inflated_head(deflated, limit_bytes))


@given(damaged(data_sets(True, True).map(deflate)), st.integers(1, 1 << 16))
def test_a_damaged_deflate_stream_has_a_head_in_some_state(deflated: bytes, limit_bytes: int) -> None:
    instance = received(deflated)
    assert instance.inflated_head(limit_bytes).state in ("complete", "incomplete", "malformed")
    assert b"".join(instance.segments()).endswith(deflated)
