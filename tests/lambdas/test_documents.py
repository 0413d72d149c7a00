"""Manifests and markers: what the receiver writes is what the functions read, and the same bytes come from both."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastscp.batches import Keys as ReceiverKeys
from fastscp.batches import Listed
from fastscp.batches.closing import manifest_from_listing
from fastscp.batches.manifest import Entry, Manifest, decode_manifest, encode_manifest
from fastscp.batches.marker import Marker, encode_marker
from fastscp.batches.times import utc
from importflow import documents
from importflow.keys import Keys

BATCH_ID = "00112233445566aa-019abcdef012"
KEY = f"hospital/batches/{BATCH_ID}.json"
MARKER_KEY = f"hospital/open/{BATCH_ID}.json"
KEYS = Keys("hospital/")
RECEIVER_KEYS = ReceiverKeys("hospital")
NOW_S = 1_800_000_000.123

uids = st.lists(st.integers(0, 999), min_size=2, max_size=5).map(lambda arcs: ".".join(map(str, arcs)))
titles = st.lists(st.sampled_from(["", "MODALITY", "A B", "\\xe9", '"quoted"']), max_size=3, unique=True).map(sorted)
times = st.integers(0, 4_000_000_000_000).map(lambda ms: ms / 1000)


@st.composite
def markers(draw: st.DrawFn) -> Marker:
    opened_s = draw(times)
    return Marker(
        batch_id=BATCH_ID,
        owner=draw(st.sampled_from(["host-1", "h\u00e4user", "\U0001f3e5", '"\\', "x" * 256])),
        opened_at=utc(opened_s),
        expires_at=utc(opened_s + 120),
        lease_seconds=draw(st.sampled_from([120.0, 0.5])),
        put_deadline_seconds=60.0,
        study_instance_uid=draw(uids),
        study_date=draw(st.sampled_from([None, "20260101"])),
        calling_ae_titles=tuple(draw(titles)),
        called_ae_titles=tuple(draw(titles)),
        association_ids=("association-1",),
    )


def a_manifest() -> Manifest:
    entries = tuple(
        Entry(
            sop_instance_uid=f"1.2.1.{n}",
            key=RECEIVER_KEYS.instance(BATCH_ID, "1.2", "1.2.1", f"1.2.1.{n}"),
            size=n,
            crc64nvme="AAAAAAAAAAA=",
        )
        for n in (1, 2)
    )
    return Manifest(
        batch_id=BATCH_ID,
        owner="worker",
        closed_by="worker",
        close_reason="quiet",
        opened_at=utc(NOW_S),
        closed_at=utc(NOW_S + 20),
        study_instance_uid="1.2",
        study_date="20260101",
        series_instance_uids=("1.2.1",),
        calling_ae_titles=("MODALITY",),
        called_ae_titles=("FASTSCP",),
        association_ids=("association-1",),
        instance_count=2,
        total_bytes=3,
        instances=entries,
    )


def spoilt(change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(encode_manifest(a_manifest()))
    change(document)
    return json.dumps(document).encode()


def test_the_manifest_of_a_receiver_is_read() -> None:
    read = documents.decode_manifest(KEYS, KEY, encode_manifest(a_manifest()))
    assert (read.batch_id, read.owner, read.closed_by, read.close_reason) == (BATCH_ID, "worker", "worker", "quiet")
    assert (read.opened_at_s, read.closed_at_s) == (NOW_S, NOW_S + 20)
    assert (read.study_instance_uid, read.study_date, read.series_instance_uids) == ("1.2", "20260101", ["1.2.1"])
    assert [(entry.sop_instance_uid, entry.size_bytes) for entry in read.instances] == [("1.2.1.1", 1), ("1.2.1.2", 2)]
    assert read.total_bytes == 3


@settings(max_examples=60, deadline=None)
@given(marker=markers(), instances=st.lists(st.tuples(uids, uids, st.integers(0, 1 << 40)), min_size=1, max_size=5), closed_s=times)
def test_a_manifest_of_ours_has_the_bytes_of_a_receivers(marker: Marker, instances: list[tuple[str, str, int]], closed_s: float) -> None:
    listed = {RECEIVER_KEYS.instance(BATCH_ID, marker.study_instance_uid, series, sop): size for series, sop, size in instances}
    listing = [Listed(key, size, NOW_S) for key, size in sorted(listed.items())]
    theirs = manifest_from_listing(marker, listing, RECEIVER_KEYS, closed_s)
    assert theirs is not None
    read = documents.decode_marker(KEYS, MARKER_KEY, encode_marker(marker))
    entries = [documents.Entry(key.rpartition("/")[2].removesuffix(".dcm"), key, size) for key, size in listed.items()]
    ours = documents.encode_manifest(KEYS, read, entries, closed_by="sweeper", close_reason="lease", closed_at_s=closed_s)
    assert ours == encode_manifest(theirs)
    assert decode_manifest(RECEIVER_KEYS, KEY, ours) == theirs
    assert documents.decode_manifest(KEYS, KEY, ours).total_bytes == theirs.total_bytes


@settings(max_examples=30, deadline=None)
@given(marker=markers())
def test_the_marker_of_a_receiver_is_read(marker: Marker) -> None:
    read = documents.decode_marker(KEYS, MARKER_KEY, encode_marker(marker))
    assert (read.batch_id, read.owner, read.lease_s, read.put_deadline_s) == (BATCH_ID, marker.owner, marker.lease_seconds, 60.0)
    assert (read.opened_at_s, read.expires_at_s) == (marker.opened_at.timestamp(), marker.expires_at.timestamp())
    assert (read.calling_ae_titles, read.association_ids) == (list(marker.calling_ae_titles), ["association-1"])


SPOILT: dict[str, Callable[[dict[str, Any]], object]] = {
    "version": lambda d: d.update(version=2),
    "version-true": lambda d: d.update(version=True),
    "another batch": lambda d: d.update(batchId="ffffffffffffffff-019abcdef012"),
    "no batch id": lambda d: d.update(batchId=7),
    "a member too many": lambda d: d.update(more=1),
    "a member too few": lambda d: d.pop("owner"),
    "owner is empty": lambda d: d.update(owner=""),
    "owner is long": lambda d: d.update(owner="x" * 257),
    "closed by nobody": lambda d: d.update(closedBy="somebody"),
    "closed by a list": lambda d: d.update(closedBy=[]),
    "reason": lambda d: d.update(closeReason="whim"),
    "reason is a list": lambda d: d.update(closeReason=["quiet"]),
    "time without zone": lambda d: d.update(openedAt="2027-01-15T08:00:00"),
    "time is a number": lambda d: d.update(closedAt=1),
    "no time": lambda d: d.update(closedAt="yesterday"),
    "no such day": lambda d: d.update(closedAt="2027-02-31T08:00:00Z"),
    "study": lambda d: d.update(studyInstanceUID="1.3"),
    "study goes up": lambda d: d.update(studyInstanceUID="../.."),
    "study date": lambda d: d.update(studyDate="2026-01-01"),
    "study date is a number": lambda d: d.update(studyDate=20260101),
    "series": lambda d: d.update(seriesInstanceUIDs=["1.2.9"]),
    "series are a text": lambda d: d.update(seriesInstanceUIDs="1.2.1"),
    "titles are numbers": lambda d: d.update(callingAeTitles=[1]),
    "count": lambda d: d.update(instanceCount=3),
    "count is true": lambda d: (d.update(instanceCount=True), d["instances"].pop()),
    "bytes": lambda d: d.update(totalBytes=4),
    "no instances": lambda d: d.update(instances=[], instanceCount=0, totalBytes=0, seriesInstanceUIDs=[]),
    "instances are a map": lambda d: d.update(instances={"1": 1}),
    "an instance is a text": lambda d: d.update(instances=["1"]),
    "an instance twice": lambda d: d["instances"].__setitem__(1, d["instances"][0] | {"size": 2}),
    "key of another batch": lambda d: d["instances"][0].update(key=d["instances"][0]["key"].replace(BATCH_ID, "f" * 16 + BATCH_ID[16:])),
    "key of another bucket's root": lambda d: d["instances"][0].update(key="/etc/passwd"),
    "key goes up": lambda d: d["instances"][0].update(key=f"hospital/instances/{BATCH_ID}/../1.2/1.2.1.1.dcm"),
    "key is of another instance": lambda d: d["instances"][0].update(sopInstanceUID="1.2.1.3"),
    "key is long": lambda d: d["instances"][0].update(key="x" * 1025),
    "instance has a member too many": lambda d: d["instances"][0].update(name="DOE"),
    "size is negative": lambda d: d["instances"][0].update(size=-1),
    "size is a text": lambda d: d["instances"][0].update(size="1"),
    "checksum": lambda d: d["instances"][0].update(crc64nvme="no"),
}


@pytest.mark.parametrize("change", SPOILT.values(), ids=SPOILT)
def test_a_manifest_that_is_none_is_refused(change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(ValueError):
        documents.decode_manifest(KEYS, KEY, spoilt(change))


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"version":1,"version":1}', b'"' + b"x" * 100 + b'"'], ids=range(8)
)
def test_what_is_no_document_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        documents.decode_manifest(KEYS, KEY, data)
    with pytest.raises(ValueError):
        documents.decode_marker(KEYS, MARKER_KEY, data)


def test_a_manifest_under_another_key_is_refused() -> None:
    data = encode_manifest(a_manifest())
    for key in (
        f"hospital/batches/{'f' * 16}-019abcdef012.json",
        f"other/batches/{BATCH_ID}.json",
        f"hospital/open/{BATCH_ID}.json",
        KEY + "\n",
    ):
        with pytest.raises(ValueError):
            documents.decode_manifest(KEYS, key, data)


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3), max_leaves=6)
)
def test_no_value_of_a_member_does_anything_but_be_refused_or_read(value: Any) -> None:
    good = json.loads(encode_manifest(a_manifest()))
    for member in good:
        data = json.dumps(good | {member: value}).encode()
        try:
            documents.decode_manifest(KEYS, KEY, data)
        except ValueError:
            with pytest.raises(ValueError):
                decode_manifest(RECEIVER_KEYS, KEY, data)
