"""The import job of an attempt is started, once.

Enters: a batch and its attempt. Leaves: the job on both rows. Never: a second start before the job of the first has been looked for.
"""

from importflow import imaging, turns
from importflow.errors import ConflictError, QuotaError, RetryableError, ThrottledError
from importflow.imaging import Job
from importflow.observe import MetricUnit, about, logger, metrics
from importflow.rows import ENDED, read, step
from importflow.steps import END, Next
from importflow.table import Item
from importflow.times import iso_utc, seconds
from importflow.workflow import Workflow

LONGEST_SLEEP_S = 1.0
"""The state machine waits whole seconds until the start slot; this function the rest."""

HOLD_AFTER_THROTTLE_S = 2.0
HOLD_AFTER_QUOTA_S = 10.0


def start_job(workflow: Workflow, batch_id: str, attempt: int) -> Next:
    """Start the job of an attempt, or find that it has been started. It may be called again at any time.

    Raises one of our errors. After ThrottledError, QuotaError and ConflictError a start slot is to be taken anew.
    """
    row = read(workflow, batch_id, attempt)
    if row is None or row["state"] in ENDED:
        return END
    if row["state"] == "STARTING":
        row = _record(workflow, row, _job(workflow, row))
    if row["state"] != "IMPORTING":
        raise RetryableError(f"the row of batch {batch_id} is {row['state']}, and not at its start")
    workflow.dicom.delete(workflow.keys.marker(batch_id))
    return {"next": "CHECK", "seconds": workflow.poll_s(0)}


def _job(workflow: Workflow, row: Item) -> Job:
    """The job that this call starts, or that an earlier one has."""
    now = workflow.now()
    first = step(workflow, row, ("STARTING",), {"startRequestedAt": iso_utc(now)}, condition="attribute_not_exists(#startRequestedAt)")
    if first is None:
        fresh = read(workflow, row["batchId"], row["attempt"])
        if fresh is None or fresh["state"] != "STARTING":
            raise RetryableError("the row changed while its job was to be started")
        found = imaging.find(workflow, row, seconds(fresh["startRequestedAt"]))
        if found:
            logger.info("job found that was started before", extra=about(row) | {"jobId": found.job_id})
            return found
    slot_in_s = seconds(row["slotAt"]) - now if "slotAt" in row else 0.0
    if slot_in_s > 0:
        workflow.sleep(min(slot_in_s, LONGEST_SLEEP_S))
    try:
        return imaging.start(workflow, row)
    except ThrottledError:
        turns.hold_starts(workflow, HOLD_AFTER_THROTTLE_S)
        _give_up_slot(workflow, row, nothing_requested=first is not None)
        raise
    except QuotaError:
        turns.hold_starts(workflow, HOLD_AFTER_QUOTA_S)
        _give_up_slot(workflow, row, nothing_requested=first is not None)
        raise
    except ConflictError:
        found = imaging.find(workflow, row, now)
        if found:
            return found
        _give_up_slot(workflow, row, nothing_requested=False)
        raise


def _give_up_slot(workflow: Workflow, row: Item, *, nothing_requested: bool) -> None:
    """The start was refused. Where it was the first, nothing can have been started, and the next is a first one again."""
    remove = ("slotAt", "startRequestedAt") if nothing_requested else ("slotAt",)
    step(workflow, row, ("STARTING",), {}, remove=remove)


def _record(workflow: Workflow, row: Item, job: Job) -> Item:
    """Write the job's row, then the batch's: a job that a batch names has a row."""
    names = ("studyDate", "studyInstanceUID", "seriesInstanceUID", "sopInstanceUID")
    job_row = {
        "jobId": job.job_id,
        "jobStatus": job.status,
        "submittedAt": job.submitted_at or iso_utc(workflow.now()),
        "inputS3Uri": imaging.input_uri(workflow, row),
        "outputS3Uri": imaging.output_uri(workflow, row),
        "datastoreId": workflow.settings.datastore_id,
        "dataAccessRoleArn": workflow.settings.data_access_role_arn,
        "batchId": row["batchId"],
        "attempt": row["attempt"],
    } | {name: row[name] for name in names if name in row}
    workflow.jobs.put_new(job_row)
    changes = {"state": "IMPORTING", "jobId": job.job_id, "startedAt": job_row["submittedAt"]}
    moved = step(workflow, row, ("STARTING",), changes, remove=("message",))
    if moved is None:
        fresh = read(workflow, row["batchId"], row["attempt"])
        if fresh is None or fresh.get("jobId") != job.job_id:
            raise RetryableError("the row changed while its job was started")
        return fresh
    logger.info("import started", extra=about(row) | {"jobId": job.job_id, "instances": row["instanceCount"]})
    with metrics() as measured:
        measured.add_metric("JobsStarted", MetricUnit.Count, 1)
        measured.add_metric("CloseToStart", MetricUnit.Seconds, max(0.0, seconds(job_row["submittedAt"]) - seconds(row["closedAt"])))
    return moved
