"""The result of an import, as the workflow wrote it to the results bucket.

Enters: a job. Leaves: which instances of its batch failed, are missing, came with warnings or are not primary, and the service's words.
Never: a result of another batch or attempt.
"""

import re
from typing import NamedTuple

import msgspec
from botocore.exceptions import ClientError

from fastscp.batches.marker import member_name
from fastscp.errors import CommandError
from fastscp.jobs.aws import Aws, code_of, errors
from fastscp.jobs.rows import Job

_S3_URI = re.compile(r"s3://([^/]+)/(.*)")


class _Document(msgspec.Struct, frozen=True, kw_only=True, rename=member_name):
    pass


class ResultCounts(_Document, frozen=True, kw_only=True, rename=member_name):
    """Instances by what became of them; unexpected: in the output, and not in the batch's manifest."""

    imported: int
    warned: int
    failed: int
    missing: int
    unexpected: int
    non_primary: int


class ImageSet(_Document, frozen=True, kw_only=True, rename=member_name):
    """An image set that the job made or changed."""

    image_set_id: str
    image_set_version: int | str | None = None
    is_primary: bool | None = None
    instances: int | None = None


class Failed(_Document, frozen=True, kw_only=True, rename=member_name):
    """An instance that the service refused."""

    sop_instance_uid: str
    key: str
    message: str = ""


class Warned(_Document, frozen=True, kw_only=True, rename=member_name):
    """An instance that was imported, with reservations."""

    sop_instance_uid: str
    key: str
    messages: tuple[str, ...] = ()


class Missing(_Document, frozen=True, kw_only=True, rename=member_name):
    """An instance of the manifest that the job said nothing of."""

    sop_instance_uid: str
    key: str


class Unexpected(_Document, frozen=True, kw_only=True, rename=member_name):
    """An object that was imported and is not in the manifest."""

    key: str


class NonPrimary(_Document, frozen=True, kw_only=True, rename=member_name):
    """An instance that DICOMweb does not show: its metadata contradict those of its study."""

    sop_instance_uid: str
    image_set_id: str | None = None


class Result(_Document, frozen=True, kw_only=True, rename=member_name):
    """What one attempt to import a batch came to."""

    batch_id: str
    attempt: int
    job_id: str
    job_status: str
    counts: ResultCounts
    message: str | None = None
    image_sets: tuple[ImageSet, ...] = ()
    failed: tuple[Failed, ...] = ()
    warned: tuple[Warned, ...] = ()
    missing: tuple[Missing, ...] = ()
    unexpected: tuple[Unexpected, ...] = ()
    non_primary: tuple[NonPrimary, ...] = ()


class Place(NamedTuple):
    """A prefix of a bucket, "" or with a slash at its end."""

    bucket: str
    prefix: str


def place(uri: str | None, below: str) -> Place | None:
    """Where the part of a store is that has this place of a job below it; None where the URI does not name such a place."""
    found = _S3_URI.fullmatch(uri or "")
    if not found or not (found[2] == below or found[2].endswith("/" + below)):
        return None
    return Place(found[1], found[2].removesuffix(below))


def read_result(aws: Aws, job: Job) -> Result | None:
    """The result of this job; None where there is none (yet). Raises CommandError."""
    at = place(job.output_s3_uri, f"output/{job.batch_id}/{job.attempt}/")
    if at is None:
        raise CommandError(f"the row of job {job.job_id!r} does not say where its result is")
    key = f"{at.prefix}results/{job.batch_id}/{job.attempt}.json"
    with errors(f"s3://{at.bucket}/{key}"):
        try:
            data = aws.s3.get_object(Bucket=at.bucket, Key=key)["Body"].read()
        except ClientError as error:
            if code_of(error) == "NoSuchKey":
                return None
            raise
    try:
        result = msgspec.json.decode(data, type=Result)
    except ValueError as error:
        raise CommandError(f"s3://{at.bucket}/{key} is not the result of an import: {error}") from error
    if (result.batch_id, result.attempt) != (job.batch_id, job.attempt):
        raise CommandError(f"s3://{at.bucket}/{key} is the result of another import")
    return result
