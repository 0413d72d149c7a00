"""A study larger than a job may be, and many batches at once against the throttle."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fastscp.local.embedded import EmbeddedAws, EmbeddedOptions
from fastscp.local.healthimaging import Limits
from fastscp.local.healthimaging.limits import RATES, Rate
from fastscp.local.stack import Pace
from tests.local.running import Local, study_file
from tests.peers.datasets import make, new_uid
from tests.peers.raw_scu import RawScu

pytestmark = pytest.mark.slow

INSTANCES = 12_000
BATCHES = 100
STARTS_PER_SECOND = 2.0


@contextmanager
def embedded(starts_per_second: float, poll_s: int) -> Iterator[Local]:
    # The service's own: a burst of two seconds' starts.
    start = Rate(starts_per_second, 2 * starts_per_second)
    limits = Limits(rates={**RATES, "StartDICOMImportJob": start}, submitted_s=0.2, in_progress_s=0.3, file_s=0)
    pace = Pace(
        starts_per_second=starts_per_second,
        poll_min_s=poll_s,
        poll_max_s=poll_s,
        stuck_after_s=600,
        visibility_s=600,
        sweep_interval_s=3600,
    )
    options = EmbeddedOptions(limits=limits, pace=pace, function_processes=4)
    with EmbeddedAws(options) as aws:
        yield Local(aws)


@pytest.mark.timeout(600)
def test_a_study_larger_than_a_job_is_imported_by_jobs_one_after_the_other_into_one_image_set() -> None:
    study, series = new_uid(), new_uid()
    with embedded(1.0, 1) as local:
        # Longer than this machine may stand still: a pause would close a batch early.
        with local.receiver(quiet_s=10) as server, RawScu(server.port, timeout_s=120) as scu:
            scu.associate()
            for number in range(INSTANCES):
                made = make(study=study, series=series, pixel_bytes=8)
                assert scu.store(made.sop_class, made.sop_instance, made.data_set, message_id=number % 65536).status == 0
            scu.release()
            rows = local.wait_imported([study], INSTANCES, timeout_s=300, every_s=2)
        assert [(row["state"], row["instanceCount"], row["importedCount"]) for row in rows] == [
            ("DONE", 5000, 5000),
            ("DONE", 5000, 5000),
            ("DONE", 2000, 2000),
        ]
        jobs = local.aws.healthimaging.jobs.newest_first(local.aws.datastore_id)[::-1]
        assert [job.name for job in jobs] == [f"{row['batchId']}-1" for row in rows]
        for earlier, later in itertools.pairwise(jobs):
            assert earlier.ended_at_s is not None
            assert earlier.ended_at_s <= later.submitted_at_s, "two jobs of one study at one time"
        (image_set,) = local.image_sets(study)
        assert (image_set.is_primary, image_set.version, len(image_set.instances)) == (True, 3, INSTANCES)


@pytest.mark.timeout(600)
def test_of_many_batches_at_once_each_is_started_once_and_few_are_refused() -> None:
    with embedded(STARTS_PER_SECOND, 5) as local:
        studies = [new_uid() for _ in range(BATCHES)]
        batches = [local.put_batch([study_file(study, new_uid(), 1)]) for study in studies]
        for batch_id in batches:
            local.send_event(local.keys.manifest(batch_id))
        rows = local.wait_imported(studies, BATCHES, timeout_s=400, every_s=5)
        assert {(row["state"], row["importedCount"], row["attempt"]) for row in rows} == {("DONE", 1, 1)}
        faults = local.aws.healthimaging.faults
        started = faults.answered("StartDICOMImportJob", 200)
        names = [job.name for job in local.aws.healthimaging.jobs.newest_first(local.aws.datastore_id)]
        assert sorted(names) == sorted(f"{batch_id}-1" for batch_id in batches), "each once"
        assert len(started) == BATCHES
        # A start that comes late, because this machine is busy, may meet the next one and be refused. It takes a slot anew: the calls
        # that are refused are few, and do not breed others.
        refused = len(faults.answered("StartDICOMImportJob", 429))
        assert refused <= BATCHES * 0.5
        assert faults.answered("StartDICOMImportJob", 402) == []
