"""The import jobs of HealthImaging.

Enters: the name of an attempt, its URIs. Leaves: jobs. Never: more than one job for a name, as far as the service tells.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from importflow.errors import RetryableError, calling
from importflow.keys import attempt_name, output_prefix
from importflow.table import Item
from importflow.times import iso_utc
from importflow.workflow import Workflow

PAGE = 50
"""Most that ListDICOMImportJobs gives at once."""

CLOCK_SKEW_S = 300.0
"""Most by which our clock and HealthImaging's may differ."""

STATUSES = ("SUBMITTED", "IN_PROGRESS", "COMPLETED", "FAILED")
"""In the order in which a job goes through them; the last two are ends."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """An import job. Times are ISO 8601, None where the service says none."""

    job_id: str
    status: str
    submitted_at: str | None
    ended_at: str | None
    message: str
    output_uri: str


def input_uri(workflow: Workflow, row: Item) -> str:
    """S3 URI of a batch's instances, with a slash at its end: a prefix without one could be that of another batch too."""
    return f"s3://{workflow.settings.dicom_bucket}/{workflow.keys.instances(row['batchId'])}"


def output_uri(workflow: Workflow, row: Item) -> str:
    """S3 URI under which the service writes about the job of a row's attempt."""
    settings = workflow.settings
    return f"s3://{settings.results_bucket}/{output_prefix(settings.results_prefix, row['batchId'], row['attempt'])}"


def start(workflow: Workflow, row: Item) -> Job:
    """StartDICOMImportJob, once. Raises one of our errors."""
    settings, name = workflow.settings, attempt_name(row["batchId"], row["attempt"])
    with calling("StartDICOMImportJob"):
        answer = workflow.clients.starts.start_dicom_import_job(
            jobName=name,
            clientToken=name,
            datastoreId=settings.datastore_id,
            dataAccessRoleArn=settings.data_access_role_arn,
            inputS3Uri=input_uri(workflow, row),
            outputS3Uri=output_uri(workflow, row),
        )
    return _job(workflow, row, dict(answer))


def find(workflow: Workflow, row: Item, requested_at_s: float) -> Job | None:
    """The job of a row's attempt, found by its name among all jobs, None where there is none.

    The order of the list is not documented. It is read to its end; or, where it has been in order from the newest on, until its jobs are
    older than the start that was requested. https://docs.aws.amazon.com/healthimaging/latest/APIReference/API_ListDICOMImportJobs.html

    Args:
        requested_at_s: when the start was first requested, in seconds since the epoch.
    """
    name = attempt_name(row["batchId"], row["attempt"])
    request: dict[str, Any] = {"datastoreId": workflow.settings.datastore_id, "maxResults": PAGE}
    last: datetime | None = None
    newest_first = True
    while True:
        with calling("ListDICOMImportJobs"):
            answer = workflow.clients.imaging.list_dicom_import_jobs(**request)
        for summary in answer["jobSummaries"]:
            if summary["jobName"] == name:
                return _job(workflow, row, dict(summary))
            submitted = summary.get("submittedAt")
            newest_first = newest_first and submitted is not None and (last is None or submitted <= last)
            last = submitted
        if "nextToken" not in answer:
            return None
        if newest_first and last is not None and last.timestamp() < requested_at_s - CLOCK_SKEW_S:
            return None
        request["nextToken"] = answer["nextToken"]


def get(workflow: Workflow, row: Item) -> Job:
    """GetDICOMImportJob of a row's job."""
    with calling("GetDICOMImportJob"):
        answer = workflow.clients.imaging.get_dicom_import_job(datastoreId=workflow.settings.datastore_id, jobId=row["jobId"])
    job = _job(workflow, row, dict(answer["jobProperties"]))
    if job.status not in STATUSES:
        raise RetryableError(f"GetDICOMImportJob: unknown status {job.status[:40]}")
    return job


def _job(workflow: Workflow, row: Item, answer: dict[str, Any]) -> Job:
    def time_of(member: str) -> str | None:
        return iso_utc(answer[member].timestamp()) if answer.get(member) else None

    return Job(
        job_id=answer["jobId"],
        status=answer["jobStatus"],
        submitted_at=time_of("submittedAt"),
        ended_at=time_of("endedAt"),
        message=answer.get("message", ""),
        output_uri=answer.get("outputS3Uri") or output_uri(workflow, row),
    )
