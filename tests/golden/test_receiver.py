"""The receiver writes exactly the golden documents, and refuses every spoilt one."""

import json
from urllib.parse import unquote_plus

import pytest

from fastscp.batches import Arrival, Keys, Limits, Listed
from fastscp.batches.closing import manifest_from_listing, manifest_of, marker_of
from fastscp.batches.lease import Lease
from fastscp.batches.manifest import Entry, decode_manifest, encode_manifest
from fastscp.batches.marker import Marker, decode_marker, encode_marker
from fastscp.batches.membership import Batch
from fastscp.settings.kinds import STORE
from tests.golden.documents import BUCKET, CLOSED_S, CRC, MANIFESTS, MARKERS, OPENED_S, PREFIX, SWEEPER, WORKER, accepted, read

STUDY = "1.2.840.1"
# What may stand in a prefix of a store.
KEYS = Keys(STORE.parse(f"s3://{BUCKET}/{PREFIX}").path)
LIMITS = Limits()


def batch(batch_id: str, opened_s: float) -> Batch:
    lease = Lease(LIMITS.lease_s, LIMITS.renew_s, LIMITS.retry_s)
    return Batch(batch_id=batch_id, study_instance_uid=STUDY, opened_at_s=opened_s, lease=lease, limits=LIMITS)


def received() -> Batch:
    """Two series from two peers, one of whom has an odd name; one instance of which nobody knows the content."""
    made = batch(WORKER, OPENED_S)
    for number, series, size, title in (
        (3, "2", 30, "MODALITY"),
        (1, "1", 10, "CT\x1b\\Ö"),
        (2, "1", 20, "MODALITY"),
        (4, "2", 40, "MODALITY"),
    ):
        uid = f"{STUDY}.{series}.{number}"
        arrival = Arrival(STUDY, f"{STUDY}.{series}", uid, "20260101", title, "FASTSCP", f"association-{series}")
        made.reserve(arrival, size, OPENED_S + number)
        key = KEYS.instance(WORKER, STUDY, f"{STUDY}.{series}", uid)
        made.commit(Entry(sop_instance_uid=uid, key=key, size=size, crc64nvme=CRC), OPENED_S + number)
        if number == 4:
            made.reserve(arrival, size, OPENED_S + number)
            made.fail(uid, may_have_landed=True, now_s=OPENED_S + number)
    made.close_reason = "quiet"
    return made


def left_marker() -> Marker:
    """Of a batch whose worker was killed."""
    made = batch(SWEEPER, OPENED_S)
    made.reserve(Arrival(STUDY, f"{STUDY}.1", f"{STUDY}.1.1", "", "MODALITY", "FASTSCP", "association-1"), 10, OPENED_S)
    return marker_of(made, "worker-1", OPENED_S + 0.25)


def test_the_manifest_of_a_worker() -> None:
    data = encode_manifest(manifest_of(received(), KEYS, "worker-1", CLOSED_S))
    assert data == read("manifest.worker.json")
    assert encode_manifest(decode_manifest(KEYS, KEYS.manifest(WORKER), data)) == data


def test_the_marker() -> None:
    data = encode_marker(left_marker())
    assert data == read("marker.json")
    assert decode_marker(KEYS, KEYS.marker(SWEEPER), data) == left_marker()


def test_the_manifest_of_the_sweeper() -> None:
    listing = [
        Listed(KEYS.instance(SWEEPER, STUDY, f"{STUDY}.{series}", f"{STUDY}.{series}.{number}"), 10 * number, 0.0)
        for series, number in ((1, 1), (1, 2), (2, 1))
    ]
    manifest = manifest_from_listing(left_marker(), listing, KEYS, CLOSED_S)
    assert manifest is not None
    assert encode_manifest(manifest) == read("manifest.sweeper.json")


def test_the_event_names_the_key_of_the_manifest() -> None:
    (record,) = json.loads(read("event.put.json"))["Records"]
    assert record["s3"]["bucket"]["name"] == BUCKET
    assert unquote_plus(record["s3"]["object"]["key"]) == KEYS.manifest(WORKER)


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_spoilt_manifest_is_refused(name: str) -> None:
    key = KEYS.manifest(MANIFESTS[name])
    assert accepted(name, lambda data: decode_manifest(KEYS, key, data)) == []


@pytest.mark.parametrize("name", MARKERS)
def test_a_spoilt_marker_is_refused(name: str) -> None:
    key = KEYS.marker(MARKERS[name])
    assert accepted(name, lambda data: decode_marker(KEYS, key, data)) == []
