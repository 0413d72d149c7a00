"""The rows of the two tables: DicomImportBatchTable and DicomImportJobTable.

Enters: items of DynamoDB. Leaves: batches and jobs, under the names of their attributes.
Never: a control row, a number that is not whole, a row that is not understood passed over.
"""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from fastscp.batches.marker import member_name
from fastscp.errors import CommandError

State = Literal["RECEIVED", "WAITING", "STARTING", "IMPORTING", "DONE", "FAILED"]
STATES: tuple[State, ...] = ("RECEIVED", "WAITING", "STARTING", "IMPORTING", "DONE", "FAILED")
"""Of a batch, in the order in which it goes through them; DONE and FAILED are ends."""

Moment = Annotated[str, Meta(pattern=r"^[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\.[0-9]+)?Z$")]

CONTROL = "#"
"""The ids of rows that belong to the workflow itself begin with it."""


class Batch(msgspec.Struct, frozen=True, kw_only=True, rename=member_name):
    """A row of the table of batches. Times are ISO 8601 in UTC, as they stand in the table; None: not known (yet)."""

    batch_id: str
    state: State
    attempt: int
    updated_at: Moment
    source: str | None = None
    study_instance_uid: str | None = None
    study_date: str | None = None
    series_instance_uid: str | None = None
    sop_instance_uid: str | None = None
    calling_ae_titles: tuple[str, ...] = ()
    called_ae_titles: tuple[str, ...] = ()
    association_ids: tuple[str, ...] = ()
    instance_count: int | None = None
    total_bytes: int | None = None
    closed_by: str | None = None
    close_reason: str | None = None
    opened_at: Moment | None = None
    closed_at: Moment | None = None
    received_at: Moment | None = None
    slot_at: Moment | None = None
    start_requested_at: Moment | None = None
    started_at: Moment | None = None
    ended_at: Moment | None = None
    job_id: str | None = None
    execution_arn: str | None = None
    manifest_key: str | None = None
    result_key: str | None = None
    message: str | None = None
    imported_count: int | None = None
    warning_count: int | None = None
    failed_count: int | None = None
    missing_count: int | None = None
    unexpected_count: int | None = None
    non_primary_count: int | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True, rename=member_name):
    """A row of the table of jobs."""

    job_id: str
    job_status: str
    batch_id: str | None = None
    attempt: int | None = None
    submitted_at: Moment | None = None
    ended_at: Moment | None = None
    input_s3_uri: str | None = None
    output_s3_uri: str | None = None
    datastore_id: str | None = None
    data_access_role_arn: str | None = None
    study_date: str | None = None
    study_instance_uid: str | None = None
    series_instance_uid: str | None = None
    sop_instance_uid: str | None = None
    message: str | None = None
    imported_count: int | None = None
    warning_count: int | None = None
    failed_count: int | None = None
    missing_count: int | None = None
    unexpected_count: int | None = None
    non_primary_count: int | None = None


Row = TypeVar("Row", Batch, Job)


def _plain(value: Any) -> Any:
    match value:
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case list():
            return [_plain(one) for one in value]
        case dict():
            return {key: _plain(one) for key, one in value.items()}
    return value


def row(kind: type[Row], item: dict[str, Any]) -> Row:
    """An item as boto3 gives it. Raises CommandError for one that the workflow has not written."""
    try:
        return msgspec.convert(_plain(item), kind)
    except msgspec.ValidationError as error:
        name = item.get("batchId" if kind is Batch else "jobId")
        raise CommandError(f"the row of {name!r} is not one of the import workflow's: {error}") from error


def utc(at: datetime) -> str:
    """A time as the tables have it."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def needs_retry(batch: Batch) -> bool:
    """Whether the import ended, and something of the batch is not imported."""
    return batch.state == "FAILED" or (batch.state == "DONE" and bool((batch.failed_count or 0) + (batch.missing_count or 0)))
