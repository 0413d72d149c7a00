"""What `fastscp local --data` keeps from one run to the next."""

from __future__ import annotations

from pathlib import Path

from fastscp.local.embedded import EmbeddedAws, EmbeddedOptions
from fastscp.local.healthimaging import Limits
from fastscp.local.stack import Pace
from tests.local.running import Local, study_file
from tests.peers.datasets import new_uid


def test_what_is_kept_in_a_directory_is_there_in_the_next_run(tmp_path: Path) -> None:
    study, series = new_uid(), new_uid()
    options = EmbeddedOptions(
        limits=Limits(submitted_s=0.1, in_progress_s=0.1), pace=Pace(sweep_interval_s=3600), data=tmp_path / "data", events_late=0
    )
    with EmbeddedAws(options) as aws:
        local = Local(aws)
        odd = ["odd/../%2F ü/", "odd", "odd/.", "odd//x%"]
        for key in odd:
            aws.objects.write(local.bucket, key, key.encode())
        batch_id = local.put_batch([study_file(study, series, 1)])
        local.send_event(local.keys.manifest(batch_id))
        before = local.wait_imported([study], 1)
        (image_set,) = local.image_sets(study)
        datastore_id, jobs = aws.datastore_id, aws.healthimaging.jobs.every()
    with EmbeddedAws(options) as aws:
        local = Local(aws)
        assert local.rows([study]) == before
        assert local.result(before[0])["counts"]["imported"] == 1
        assert aws.datastore_id == datastore_id
        assert aws.healthimaging.jobs.every() == jobs
        assert local.image_sets(study) == [image_set]
        assert [aws.objects.read(local.bucket, key) for key in odd] == [key.encode() for key in odd]
        # A batch of the same series joins what was there.
        local.send_event(local.keys.manifest(local.put_batch([study_file(study, series, 2)])))
        local.wait_imported([study], 2)
        (image_set,) = local.image_sets(study)
        assert (image_set.version, len(image_set.instances)) == (2, 2)
        assert len({job.job_id for job in [*jobs, *aws.healthimaging.jobs.every()]}) == 2
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["current"]
