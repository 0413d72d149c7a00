"""The functions read exactly the golden documents and events, write the sweeper's manifest byte for byte, and refuse every spoilt one."""

import json
from typing import Any

import pytest

from importflow.documents import Entry, decode_manifest, decode_marker, encode_manifest
from importflow.errors import PermanentError
from importflow.keys import Keys
from tests.golden.documents import BUCKET, CLOSED_S, EVENTS, MANIFESTS, MARKERS, OPENED_S, PREFIX, SWEEPER, WORKER, accepted, encode, read
from trigger_import.events import Created, created, created_in_message

KEYS = Keys(f"{PREFIX}/")
STUDY = "1.2.840.1"


def key(batch_id: str, series: int, number: int) -> str:
    return f"{PREFIX}/instances/{batch_id}/{STUDY}/{STUDY}.{series}/{STUDY}.{series}.{number}.dcm"


def test_the_manifest_of_a_worker() -> None:
    manifest = decode_manifest(KEYS, f"{PREFIX}/batches/{WORKER}.json", read("manifest.worker.json"))
    assert (manifest.batch_id, manifest.owner, manifest.closed_by, manifest.close_reason) == (WORKER, "worker-1", "worker", "quiet")
    assert (manifest.opened_at_s, manifest.closed_at_s) == (OPENED_S, pytest.approx(CLOSED_S, abs=1e-6))
    assert (manifest.study_instance_uid, manifest.study_date, manifest.total_bytes) == (STUDY, "20260101", 60)
    assert manifest.series_instance_uids == [f"{STUDY}.1", f"{STUDY}.2"]
    assert manifest.calling_ae_titles == ["CT\\x1b\\\\\\xd6", "MODALITY"]
    assert (manifest.called_ae_titles, manifest.association_ids) == (["FASTSCP"], ["association-1", "association-2"])
    assert manifest.instances == [
        Entry(f"{STUDY}.{series}.{number}", key(WORKER, series, number), size)
        for series, number, size in ((1, 1, 10), (1, 2, 20), (2, 3, 30), (2, 4, None))
    ]


def test_the_marker() -> None:
    marker = decode_marker(KEYS, f"{PREFIX}/open/{SWEEPER}.json", read("marker.json"))
    assert (marker.batch_id, marker.owner, marker.study_instance_uid, marker.study_date) == (SWEEPER, "worker-1", STUDY, None)
    assert (marker.opened_at_s, marker.expires_at_s) == (OPENED_S, OPENED_S + 120.25)
    assert (marker.lease_s, marker.put_deadline_s) == (120.0, 60.0)
    assert (marker.calling_ae_titles, marker.called_ae_titles, marker.association_ids) == (["MODALITY"], ["FASTSCP"], ["association-1"])


def test_the_sweeper_writes_what_the_receiver_would() -> None:
    marker = decode_marker(KEYS, f"{PREFIX}/open/{SWEEPER}.json", read("marker.json"))
    entries = [
        Entry(f"{STUDY}.{series}.{number}", key(SWEEPER, series, number), 10 * number) for series, number in ((2, 1), (1, 2), (1, 1))
    ]
    data = encode_manifest(KEYS, marker, entries, closed_by="sweeper", close_reason="lease", closed_at_s=CLOSED_S)
    assert data == read("manifest.sweeper.json")
    assert decode_manifest(KEYS, f"{PREFIX}/batches/{SWEEPER}.json", data).instances == sorted(entries, key=lambda entry: entry.key)


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_spoilt_manifest_is_refused(name: str) -> None:
    assert accepted(name, lambda data: decode_manifest(KEYS, f"{PREFIX}/batches/{MANIFESTS[name]}.json", data)) == []


@pytest.mark.parametrize("name", MARKERS)
def test_a_spoilt_marker_is_refused(name: str) -> None:
    assert accepted(name, lambda data: decode_marker(KEYS, f"{PREFIX}/open/{MARKERS[name]}.json", data)) == []


@pytest.mark.parametrize("name", [*MANIFESTS, *MARKERS])
def test_a_document_under_another_key_is_refused(name: str) -> None:
    batch_id = (MANIFESTS | MARKERS)[name]
    decode, folder = (decode_manifest, "batches") if name in MANIFESTS else (decode_marker, "open")
    other = "00112233445566ab-01a3185c5000"
    for wrong in (
        f"{PREFIX}/{folder}/{other}.json",
        f"elsewhere/{folder}/{batch_id}.json",
        f"{folder}/{batch_id}.json",
        f"{PREFIX}/{folder}/x/{batch_id}.json",
        f"{PREFIX}/{folder}/{batch_id}",
        f"{PREFIX}/inbox/{batch_id}.json",
    ):
        with pytest.raises(ValueError):
            decode(KEYS, wrong, read(name))


def test_the_events() -> None:
    found = {name: list(created(json.loads(read(name)))) for name in EVENTS}
    assert found == {
        "event.put.json": [Created(BUCKET, f"{PREFIX}/batches/{WORKER}.json", None)],
        "event.inbox.json": [Created(BUCKET, f"{PREFIX}/inbox/chest & lung ü+1.dcm", "96fnBHN6dhsTOOpC51bTDmE6sKzb3VXP")],
        "event.test.json": [],
    }
    # As a queue has it.
    assert {name: created_in_message(read(name).decode()) for name in EVENTS} == found


def _spoilt_events() -> dict[str, Any]:
    event = json.loads(read("event.put.json"))
    record = event["Records"][0]
    return {
        "no object": [],
        "no records": {},
        "records that are none": {"Records": "x"},
        "a record that is none": {"Records": ["x"]},
        "no name of the event": {"Records": [{name: value for name, value in record.items() if name != "eventName"}]},
        "nothing of S3": {"Records": [{name: value for name, value in record.items() if name != "s3"}]},
        "no bucket": {"Records": [record | {"s3": {"object": record["s3"]["object"]}}]},
        "no key": {"Records": [record | {"s3": record["s3"] | {"object": {"size": 1}}}]},
        "a key that is no text": {"Records": [record | {"s3": record["s3"] | {"object": {"key": 1}}}]},
        "an event of EventBridge": {"source": "aws.s3", "detail": {"bucket": {"name": BUCKET}, "object": {"key": "k"}}},
    }


@pytest.mark.parametrize(("what", "event"), _spoilt_events().items(), ids=_spoilt_events())
def test_what_is_no_event_is_refused(what: str, event: Any) -> None:
    with pytest.raises(PermanentError):
        created_in_message(encode(event).decode())


def test_a_message_that_is_no_json_is_refused() -> None:
    for body in ("", "x", read("event.put.json").decode()[:-1]):
        with pytest.raises(PermanentError):
            created_in_message(body)


def test_what_was_removed_was_not_created() -> None:
    event = json.loads(read("event.put.json"))
    event["Records"][0]["eventName"] = "ObjectRemoved:Delete"
    assert list(created(event)) == []
