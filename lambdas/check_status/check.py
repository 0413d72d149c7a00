"""An import job is followed to its end, and its end is written down.

Enters: a batch and its attempt. Leaves: the job's status, and at its end what became of each instance. Never: a status that goes back.
"""

from typing import Any

from check_status.classes import Classes, classify, result
from check_status.output import Output, read_output
from check_status.quarantine import quarantine
from importflow import imaging, turns
from importflow.documents import LARGEST_DOCUMENT_BYTES, Manifest, decode_manifest
from importflow.errors import PermanentError, RetryableError
from importflow.imaging import STATUSES, Job
from importflow.keys import result_key
from importflow.observe import MetricUnit, about, logger, metrics
from importflow.rows import ENDED, heartbeat, read, step
from importflow.steps import END, Next
from importflow.table import Item
from importflow.times import iso_utc, seconds
from importflow.workflow import Workflow

OUTPUT_GRACE_S = 300.0
"""How long after its end a job that COMPLETED may still be without its output manifest."""


def check(workflow: Workflow, batch_id: str, attempt: int) -> Next:
    """Look at the job of an attempt, and write down what is new. It may be called again at any time."""
    row = read(workflow, batch_id, attempt)
    if row is None:
        return END
    if row["state"] in ENDED:
        turns.release(workflow, row)
        return END
    if row["state"] != "IMPORTING":
        raise RetryableError(f"the row of batch {batch_id} is {row['state']}, and has no job")
    job = imaging.get(workflow, row)
    if job.status not in ("COMPLETED", "FAILED"):
        return _still_running(workflow, row, job)
    output = read_output(workflow, row, job)
    ended_s = seconds(job.ended_at) if job.ended_at else seconds(row["startedAt"])
    if job.status == "COMPLETED" and not output.complete and workflow.now() < ended_s + OUTPUT_GRACE_S:
        return _still_running(workflow, row, job)
    _end(workflow, row, job, output)
    return END


def _still_running(workflow: Workflow, row: Item, job: Job) -> Next:
    if job.status in ("SUBMITTED", "IN_PROGRESS"):
        _update_job(workflow, job, {})
    heartbeat(workflow, row)
    turns.renew_lock(workflow, row)
    return {"next": "WAIT", "seconds": workflow.poll_s(workflow.now() - seconds(row["startedAt"]))}


def _end(workflow: Workflow, row: Item, job: Job, output: Output) -> None:
    """Result object, quarantine, the job's row, the batch's row, and then whose turn is next. Each may be done again."""
    classes = classify(_manifest(workflow, row), output)
    key = result_key(workflow.settings.results_prefix, row["batchId"], row["attempt"])
    workflow.results.put_json(key, result(row, job, output, classes))
    gone = quarantine(workflow, row["batchId"], [*classes.failed, *classes.missing])
    now = iso_utc(workflow.now())
    _update_job(workflow, job, classes.counts() | {"endedAt": job.ended_at or now, "message": job.message or None})
    changes = classes.counts() | {
        "state": "DONE" if job.status == "COMPLETED" else "FAILED",
        "endedAt": job.ended_at or now,
        "message": _message(job, output, classes),
        "resultKey": key,
    }
    if step(workflow, row, ("IMPORTING",), changes) is not None:
        _tell(workflow, row, job, output, classes, gone)
    turns.release(workflow, row)


def _manifest(workflow: Workflow, row: Item) -> Manifest:
    key = workflow.keys.manifest(row["batchId"])
    data = workflow.dicom.get(key, LARGEST_DOCUMENT_BYTES)
    if data is None:
        raise PermanentError("the job has ended, and the manifest is not there any more")
    try:
        return decode_manifest(workflow.keys, key, data)
    except ValueError as error:
        raise PermanentError(f"the job has ended, and the manifest was refused: {error}") from None


def _message(job: Job, output: Output, classes: Classes) -> str | None:
    said = [job.message] if job.message else []
    if job.status == "FAILED" and not job.message:
        said.append("the job failed, and the service gave no reason")
    if job.status == "COMPLETED" and not output.complete:
        said.append("the job left no output manifest")
    if output.unreadable_lines:
        said.append(f"{output.unreadable_lines} lines of the output cannot be read")
    return "; ".join(said) or None


def _update_job(workflow: Workflow, job: Job, changes: dict[str, Any]) -> None:
    """The job's row, unless a later status is there already."""
    values = {name: value for name, value in changes.items() if value is not None} | {"jobStatus": job.status}
    # The ends are as late as each other: one that is there stays.
    earlier = [status for status in STATUSES[:2] if STATUSES.index(status) < STATUSES.index(job.status)]
    if changes:
        earlier.append(job.status)
    if not earlier:
        return
    places = {f"earlier{index}": status for index, status in enumerate(earlier)}
    workflow.jobs.update(
        job.job_id,
        "SET " + ", ".join(f"#{name} = :{name}" for name in values),
        f"#jobStatus IN ({', '.join(f':{place}' for place in places)})",
        values | places,
    )


def _tell(workflow: Workflow, row: Item, job: Job, output: Output, classes: Classes, gone: int) -> None:
    counts = classes.counts()
    facts = about(row) | counts | {"jobId": job.job_id, "jobStatus": job.status, "unreadableLines": output.unreadable_lines, "gone": gone}
    whole = job.status == "COMPLETED" and not classes.failed and not classes.missing
    (logger.info if whole else logger.error)("import ended", extra=facts)
    with metrics() as measured:
        measured.add_metric("BatchesDone" if job.status == "COMPLETED" else "BatchesFailed", MetricUnit.Count, 1)
        for name, count in counts.items():
            measured.add_metric(f"Instances{name[0].upper()}{name[1:].removesuffix('Count')}", MetricUnit.Count, count)
        measured.add_metric("CloseToEnd", MetricUnit.Seconds, max(0.0, workflow.now() - seconds(row["closedAt"])))
