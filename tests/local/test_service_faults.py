"""Every other call to HealthImaging fails, in each way that it has, and then the others: everything is imported, once."""

from __future__ import annotations

import itertools

import pytest

from fastscp.local.embedded import EmbeddedAws, EmbeddedOptions
from fastscp.local.healthimaging import Limits
from fastscp.local.healthimaging.faults import Fault
from fastscp.local.healthimaging.limits import RATES, Rate
from fastscp.local.stack import Pace
from tests.local.running import Local, study_file
from tests.peers.datasets import new_uid

BATCHES = 8
MOST_CALLS = 400
STARTS_PER_SECOND = 20.0
PASSING = ("InternalServerException", "ThrottlingException")
FAULTS = {
    "StartDICOMImportJob": (*PASSING, "ServiceQuotaExceededException", "ConflictException"),
    "GetDICOMImportJob": PASSING,
    "ListDICOMImportJobs": PASSING,
}


def planned(first: int) -> list[Fault]:
    """A fault for every second call of each operation, from the first on; of every second 500 the operation was carried out."""
    faults = []
    for operation, errors in FAULTS.items():
        kinds = itertools.cycle([*((error, False) for error in errors), ("InternalServerException", True)])
        faults += [Fault(operation, call, *kind) for call, kind in zip(range(first, MOST_CALLS, 2), kinds, strict=False)]
    return faults


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("first", [1, 2])
def test_whatever_healthimaging_answers_each_batch_is_imported_by_one_job(first: int) -> None:
    limits = Limits(
        rates={**RATES, "StartDICOMImportJob": Rate(STARTS_PER_SECOND, 2 * STARTS_PER_SECOND)}, submitted_s=0.2, in_progress_s=0.3, file_s=0
    )
    pace = Pace(starts_per_second=STARTS_PER_SECOND, poll_min_s=1, poll_max_s=1, stuck_after_s=1, sweep_interval_s=5)
    with EmbeddedAws(EmbeddedOptions(limits=limits, pace=pace, seed=first)) as aws:
        local = Local(aws)
        for fault in planned(first):
            aws.healthimaging.faults.inject(fault)
        studies = [new_uid() for _ in range(BATCHES)]
        batch_ids = [local.put_batch([study_file(study, new_uid(), 1)]) for study in studies]
        for batch_id in batch_ids:
            local.send_event(local.keys.manifest(batch_id))
        rows = local.wait_imported(studies, BATCHES, timeout_s=300, every_s=1)
        assert {(row["state"], row["importedCount"], row["failedCount"], row["missingCount"]) for row in rows} == {("DONE", 1, 0, 0)}
        jobs = aws.healthimaging.jobs.newest_first(aws.datastore_id)
        assert sorted(job.name for job in jobs) == sorted(f"{batch_id}-1" for batch_id in batch_ids)
        faults = aws.healthimaging.faults
        refused = [call for call in faults.calls if call.status >= 400]
        assert len(refused) >= BATCHES, "calls failed"
        for fault in faults.planned:
            assert fault.call > faults.count(fault.operation), "what was planned and called has failed"
