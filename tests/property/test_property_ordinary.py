"""The short way to an instance's name says what the long way says, or nothing.

Enters: drawn commands and data sets. Leaves: the three UIDs where all is ordinary. Never: a name for what would have been refused.
"""

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fastscp._ext import pdu
from fastscp._ext.memory import BufferPool
from reference import traffic
from reference.driving import Limits, native_reader
from reference.reference_dimse import encode_store_request
from reference.reference_part10 import scan_head
from reference.strategies import data_sets, store_context_ids, uid_texts, uids

CONFORMANT = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*").fullmatch
odd_uids = st.sampled_from(
    ["1.02", "1..2", ".1", "1.", "1.2a", "1.2 3", "0", "0.0", "1.0.00", "1." + "2" * 62, "1." + "2" * 63, "", "1.2/3"]
)
some_uids = st.one_of(uids, uids, uids, odd_uids, uid_texts)
paddings = st.sampled_from([b"", b"\0", b" ", b"\0\0", b"\0 "])


def conformant(uid: str | None) -> bool:
    return uid is not None and len(uid) <= 64 and CONFORMANT(uid) is not None


def expected(instance: Any, head: Any) -> tuple[str, str, str] | None:
    names = (head.study_instance_uid, head.series_instance_uid, head.sop_instance_uid)
    same = (instance.sop_class_uid, instance.sop_instance_uid) == (head.sop_class_uid, head.sop_instance_uid)
    ordinary = head.state == "complete" and bool(head.sop_class_uid) and same and all(map(conformant, names))
    return names if ordinary else None


@st.composite
def messages(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """(command set, data set in explicit VR little endian) that mostly name the same instance."""
    sop_class, sop_instance = draw(some_uids), draw(some_uids)
    values = [sop_class, sop_instance, draw(some_uids), draw(some_uids)]
    tags = [(0x0008, 0x0016), (0x0008, 0x0018), (0x0020, 0x000D), (0x0020, 0x000E)]
    absent = draw(st.sampled_from([None, None, None, *tags]))
    data = b"".join(
        traffic.element(*tag, b"UI", value.encode("latin-1", "replace") + draw(paddings))
        for tag, value in zip(tags, values, strict=True)
        if tag != absent
    )
    if draw(st.integers(0, 9)) == 0:
        data = draw(data_sets(True, True))
    if draw(st.integers(0, 5)) == 0:
        sop_class = draw(some_uids)
    if draw(st.integers(0, 5)) == 0:
        sop_instance = draw(some_uids)
    return encode_store_request(sop_class_uid=sop_class, sop_instance_uid=sop_instance), data


def received(command: bytes, data: bytes, context_id: int = 1, limits: Limits = Limits()) -> Any:  # noqa: B008
    reader = native_reader(BufferPool(1 << 26), limits)
    pdvs = traffic.fragments(context_id, command, [], command=True) + traffic.fragments(context_id, data, [], command=False)
    stream = traffic.packed(pdvs, [])
    assert reader.feed(stream) == (pdu.STORE, len(stream))
    return reader.take_instance()


@given(messages())
def test_an_ordinary_instance_is_named(message: tuple[bytes, bytes]) -> None:
    instance = received(*message)
    assert instance.ordinary_name() == expected(instance, scan_head(message[1], explicit_vr=True, little_endian=True))


@given(uids, uids, uids, store_context_ids)
def test_an_ordinary_instance_is_ordinary(study: str, series: str, sop_instance: str, context_id: int) -> None:
    syntax = {3: {"explicit_vr": False}, 5: {"little_endian": False}}.get(context_id, {})
    data = traffic.data_set(study_instance_uid=study, series_instance_uid=series, sop_instance_uid=sop_instance, **syntax)
    command = encode_store_request(sop_instance_uid=sop_instance)
    assert received(command, data, context_id).ordinary_name() == (study, series, sop_instance)
    assert received(command, data, context_id, Limits(max_instance_bytes=len(data) - 1)).ordinary_name() is None


def test_an_instance_that_is_still_being_received_has_no_ordinary_name() -> None:
    reader = native_reader(BufferPool(1 << 26), Limits(spill_threshold_bytes=20_000))
    assert reader.feed(traffic.store(1, traffic.data_set(pixels=bytes(100_000))))[0] == pdu.SPILL
    instance = reader.instance
    instance.spillable_bytes()  # scans
    assert instance.head.state == "complete"
    assert instance.ordinary_name() is None
