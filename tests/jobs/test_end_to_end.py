"""An administrator's way through a study of which one instance failed, against functions, state machine and HealthImaging's emulator."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from fastscp.local.embedded import EmbeddedAws, EmbeddedOptions
from fastscp.local.healthimaging import Limits
from fastscp.local.stack import Pace
from fastscp.local.wiring import aws_environment
from tests.local.running import Local
from tests.peers.datasets import Made, make, new_uid
from tests.peers.raw_scu import RawScu


def fastscp_jobs(local: Local, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """Exit code, and what was printed as JSON; in a process of its own."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "FASTSCP_"))}
    result = subprocess.run(
        [sys.executable, "-m", "fastscp", "jobs", *arguments, "--json"],
        env=environment | aws_environment(local.aws.url),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.stderr == ""
    return result.returncode, [json.loads(line) for line in result.stdout.splitlines()]


def send(local: Local, known: int, *instances: tuple[Made, bytes]) -> None:
    """Sends these over one association, and waits until the imports of them and of those that were known of their study have ended."""
    with local.receiver() as server, RawScu(server.port) as scu:
        scu.associate()
        for number, (made, data_set) in enumerate(instances, 1):
            assert scu.store(made.sop_class, made.sop_instance, data_set, message_id=number).status == 0
        scu.release()
        local.wait_imported([instances[0][0].study], known + len(instances))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_from_a_failed_instance_to_an_imported_study() -> None:
    options = EmbeddedOptions(
        limits=Limits(submitted_s=0.1, in_progress_s=0.1, file_s=0),
        pace=Pace(starts_per_second=1.0, poll_min_s=1, poll_max_s=1, stuck_after_s=1, sweep_interval_s=3600),
    )
    study, series = new_uid(), new_uid()
    good, other = make(study=study, series=series), make(study=study, series=series)
    with EmbeddedAws(options) as aws:
        local = Local(aws)
        code, (verdict,) = fastscp_jobs(local, "--study", study, "--store", f"s3://{local.bucket}")
        assert (code, verdict["verdict"]) == (5, "UNKNOWN")
        # Its pixel data end too early.
        send(local, 0, (good, good.data_set), (other, other.data_set[:-20]))

        code, (first, verdict) = fastscp_jobs(local, "--study", study)
        assert (code, verdict["verdict"], verdict["importedCount"], verdict["failedCount"]) == (4, "FAILED", 1, 1)
        code, (shown,) = fastscp_jobs(local, "show", first["batchId"])
        (failed,) = shown["result"]["failed"]
        assert failed["sopInstanceUID"] == other.sop_instance
        assert "pixel data" in failed["message"]
        assert shown["job"]["jobStatus"] == "COMPLETED"

        code, (retried,) = fastscp_jobs(local, "retry", first["job"]["jobId"])
        assert (code, retried["batchId"], retried["attempt"]) == (0, first["batchId"], 2)
        (row,) = local.wait_imported([study], 2)
        assert (row["state"], row["attempt"], row["failedCount"], row["executionArn"]) == ("DONE", 2, 1, retried["executionArn"])
        code, (shown,) = fastscp_jobs(local, "show", first["batchId"])
        assert [(job["attempt"], job["jobStatus"]) for job in shown["jobs"]] == [(1, "COMPLETED"), (2, "COMPLETED")]
        assert shown["result"]["attempt"] == 2
        assert fastscp_jobs(local, "--study", study)[0] == 4

        send(local, 2, (other, other.data_set))
        code, (*batches, verdict) = fastscp_jobs(local, "--study", study)
        assert (code, verdict["verdict"], len(batches)) == (0, "IMPORTED", 2)
        assert verdict["sentAgainBatchIds"] == [first["batchId"]]
        code, listed = fastscp_jobs(local, "--troubled")
        assert (code, [batch["batchId"] for batch in listed]) == (0, [first["batchId"]])
