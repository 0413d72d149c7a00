"""From a sender to image sets: the receiver, S3, the queue, the functions, the state machine and HealthImaging's emulator together."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fastscp.local.embedded import EmbeddedAws, EmbeddedOptions
from fastscp.local.healthimaging import Limits
from fastscp.local.healthimaging.limits import RATES, Rate
from fastscp.local.stack import Pace
from tests.local.running import Local, study_file
from tests.local.support import dicom_file
from tests.peers.datasets import Made, make, new_uid
from tests.peers.dcmtk import dcmtk
from tests.peers.raw_scu import PeerClosed, RawScu
from tests.peers.server import wait_until

STARTS_PER_SECOND = 20.0


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    limits = Limits(
        rates={**RATES, "StartDICOMImportJob": Rate(STARTS_PER_SECOND, 2 * STARTS_PER_SECOND)},
        submitted_s=0.2,
        in_progress_s=0.3,
        file_s=0,
    )
    pace = Pace(starts_per_second=STARTS_PER_SECOND, poll_min_s=1, poll_max_s=1, stuck_after_s=1, visibility_s=3, sweep_interval_s=3600)
    # The sweeper runs when a test says so. Half of the events come twice, half late.
    options = EmbeddedOptions(limits=limits, pace=pace, events_twice=0.5, events_late=0.5, events_latest_s=2, seed=1)
    with EmbeddedAws(options) as aws:
        yield Local(aws)


@pytest.mark.requires_dcmtk
def test_three_studies_of_a_hundred_instances_end_as_one_primary_image_set_for_each_series(local: Local, tmp_path: Path) -> None:
    series_of = {new_uid(): [new_uid(), new_uid()] for _ in range(3)}
    for study, (one, other) in series_of.items():
        for number in range(100):
            made, content = study_file(study, one if number < 60 else other, number)
            (tmp_path / f"{made.sop_instance}.dcm").write_bytes(content)
    with local.receiver(quiet_s=2) as server:
        command = [dcmtk("storescu"), "-aec", "FASTSCP", "+sd", "127.0.0.1", str(server.port), str(tmp_path)]
        subprocess.run(command, check=True, capture_output=True, timeout=100)
        rows = local.wait_imported(list(series_of), 300)
    assert sum(row["importedCount"] for row in rows) == sum(row["instanceCount"] for row in rows) == 300
    assert all((row["state"], row["failedCount"], row["missingCount"], row["nonPrimaryCount"]) == ("DONE", 0, 0, 0) for row in rows)
    for row in rows:
        counts = local.result(row)["counts"]
        assert counts == {"imported": row["importedCount"], "warned": 0, "failed": 0, "missing": 0, "unexpected": 0, "nonPrimary": 0}
    for study, series in series_of.items():
        found = Counter({(one.series_instance_uid, one.is_primary): len(one.instances) for one in local.image_sets(study)})
        assert found == {(series[0], True): 60, (series[1], True): 40}


def test_a_broken_file_among_others_is_named_and_the_others_are_imported(local: Local) -> None:
    study, series = new_uid(), new_uid()
    good = [make(study=study, series=series) for _ in range(3)]
    # Its head is whole, so the receiver takes it; its pixel data end too early.
    whole = make(study=study, series=series)
    broken = whole.data_set[:-20]
    with local.receiver() as server, RawScu(server.port) as scu:
        scu.associate()
        for number, (made, data_set) in enumerate([*((made, made.data_set) for made in good), (whole, broken)], 1):
            assert scu.store(made.sop_class, made.sop_instance, data_set, message_id=number).status == 0
        scu.release()
        (row,) = local.wait_imported([study], 4)
    assert (row["state"], row["importedCount"], row["failedCount"]) == ("DONE", 3, 1)
    (failed,) = local.result(row)["failed"]
    assert failed["sopInstanceUID"] == whole.sop_instance
    assert "pixel data" in failed["message"]
    kept = local.aws.objects.read(local.bucket, f"{local.keys.quarantine}{row['batchId']}/{study}/{series}/{whole.sop_instance}.dcm")
    assert kept.endswith(broken)


def test_a_receiver_that_is_killed_loses_nothing_that_it_acknowledged(local: Local) -> None:
    study, series = new_uid(), new_uid()
    acknowledged: list[Made] = []
    with local.receiver(quiet_s=600) as server:

        def send() -> None:
            with RawScu(server.port) as scu:
                scu.associate()
                while True:
                    made = make(study=study, series=series)
                    try:
                        assert scu.store(made.sop_class, made.sop_instance, made.data_set).status == 0
                    except (PeerClosed, OSError):
                        return
                    acknowledged.append(made)

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        wait_until(lambda: len(acknowledged) >= 25, "the association is in full flow")
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL
        sender.join(30)
    assert local.rows([study]) == []
    assert local.sweep()["BatchesClosedBySweeper"] == 0, "its lease holds"
    assert local.age_markers(600) == 1
    assert local.sweep()["BatchesClosedBySweeper"] == 1
    (row,) = local.wait_imported([study], len(acknowledged))
    assert (row["state"], row["closedBy"], row["failedCount"], row["missingCount"]) == ("DONE", "sweeper", 0, 0)
    (image_set,) = local.image_sets(study)
    assert image_set.is_primary
    assert {made.sop_instance for made in acknowledged} <= set(image_set.instances)
    # One more may have been committed and not yet acknowledged when it died.
    assert len(acknowledged) <= row["importedCount"] == len(image_set.instances) <= len(acknowledged) + 1
    assert list(local.aws.objects.listing(local.bucket, local.keys.open)) == []


def test_an_event_that_comes_ten_times_starts_one_job(local: Local) -> None:
    study, series = new_uid(), new_uid()
    batch_id = local.put_batch([study_file(study, series, number) for number in range(3)])
    for _ in range(10):
        local.send_event(local.keys.manifest(batch_id))
    (row,) = local.wait_imported([study], 3)
    local.send_event(local.keys.manifest(batch_id))
    assert_one_job(local, batch_id)
    assert (row["state"], row["importedCount"]) == ("DONE", 3)


def test_an_event_that_comes_fifty_times_at_once_starts_one_job(local: Local) -> None:
    study, series = new_uid(), new_uid()
    batch_id = local.put_batch([study_file(study, series, number) for number in range(3)])
    event = local.created_event(local.keys.manifest(batch_id))
    with ThreadPoolExecutor(50) as pool:
        results = list(pool.map(lambda _: local.aws.functions.invoke("trigger_import", event), range(50)))
    assert [result.payload for result in results if result.failed] == []
    (row,) = local.wait_imported([study], 3)
    assert_one_job(local, batch_id)
    assert (row["state"], row["importedCount"]) == ("DONE", 3)


def assert_one_job(local: Local, batch_id: str) -> None:
    jobs = [job for job in local.aws.healthimaging.jobs.newest_first(local.aws.datastore_id) if job.name.startswith(batch_id)]
    assert [job.name for job in jobs] == [f"{batch_id}-1"]


def test_a_file_put_into_the_inbox_by_anybody_is_imported(local: Local) -> None:
    study = new_uid()
    content = dicom_file(StudyInstanceUID=study, StudyDate="20260304")
    local.s3.put_object(Bucket=local.bucket, Key=f"{local.keys.inbox}from elsewhere/a+b.dcm", Body=content)
    (row,) = local.wait_imported([study], 1)
    assert (row["state"], row["source"], row["importedCount"], row["studyDate"]) == ("DONE", "inbox", 1, "20260304")
    assert len(local.image_sets(study)) == 1


def test_what_no_function_takes_ends_in_the_dead_letter_queue(local: Local) -> None:
    forged = "0011223344556677-019abcdef012"
    local.s3.put_object(Bucket=local.bucket, Key=f"{local.keys.batches}{forged}.json", Body=b'{"version": 1}')
    found: list[str] = []

    def dead() -> bool:
        answer = local.sqs.receive_message(QueueUrl=local.dead_letter_url)
        found.extend(message["Body"] for message in answer.get("Messages", []))
        return any(forged in body for body in found)

    wait_until(dead, "the event is in the dead-letter queue", 60)
    assert [job.name for job in local.aws.healthimaging.jobs.newest_first(local.aws.datastore_id) if forged in job.name] == []
