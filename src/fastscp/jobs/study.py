"""Is this study complete and imported?

Enters: a Study Instance UID. Leaves: a verdict over all its batches, those that are still being received included.
Never: IMPORTED where something that was acknowledged is not.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import msgspec
from botocore.exceptions import ClientError

from fastscp.batches import Keys
from fastscp.batches.marker import Marker, decode_marker
from fastscp.errors import ConfigError
from fastscp.jobs.aws import Aws, code_of, errors
from fastscp.jobs.results import Place, place
from fastscp.jobs.rows import Batch, needs_retry
from fastscp.jobs.sent_again import SentAgain
from fastscp.jobs.tables import Tables
from fastscp.settings import StoreTarget

Verdict = Literal["IMPORTED", "PENDING", "FAILED", "UNKNOWN"]

_READERS = 16


class StudyAnswer(msgspec.Struct, frozen=True):
    """What is known of a study.

    Attributes:
        verdict: IMPORTED: every instance of every batch is, or came again and is; FAILED: the import of one ended without all its
            instances, and they did not come again; PENDING: otherwise, some are still to be imported; UNKNOWN: there is no batch.
        batches: in the order in which they closed.
        open_batch_ids: batches that are being received, or whose manifest the workflow has not taken up.
        sent_again_batch_ids: batches that were not imported in full, and whose instances a later batch brought.
        reason: the verdict in words.
    """

    study_instance_uid: str
    verdict: Verdict
    reason: str
    batches: tuple[Batch, ...]
    open_batch_ids: tuple[str, ...]
    sent_again_batch_ids: tuple[str, ...]

    def total(self, count: str) -> int:
        """Sum of a count over all batches."""
        return _total(self.batches, count)


def _total(batches: Iterable[Batch], count: str) -> int:
    return sum(getattr(batch, count) or 0 for batch in batches)


def _number(count: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("ch") else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"


def judge(
    study_instance_uid: str, batches: Sequence[Batch], open_batch_ids: Iterable[str] = (), sent_again: Iterable[str] = ()
) -> StudyAnswer:
    """The verdict on a study that has these batches."""
    open_ids, again_ids = tuple(sorted(open_batch_ids)), tuple(sorted(sent_again))

    def answer(verdict: Verdict, reason: str) -> StudyAnswer:
        return StudyAnswer(study_instance_uid, verdict, reason, tuple(batches), open_ids, again_ids)

    pending = [batch for batch in batches if batch.state not in {"DONE", "FAILED"}]
    troubled = [batch for batch in batches if needs_retry(batch) and batch.batch_id not in again_ids]
    waiting = []
    if open_ids:
        waiting.append(f"{_number(len(open_ids), 'batch')} not closed or not taken up yet")
    if pending:
        known = sum(batch.instance_count or 0 for batch in pending)
        waiting.append(f"{_number(len(pending), 'batch')} with {_number(known, 'instance')} to be imported")
    if troubled:
        reasons = [f"{_number(len(troubled), 'batch')} not imported in full"]
        reasons += [
            f"{_number(total, 'instance')} {word}"
            for count, word in (("failed_count", "failed"), ("missing_count", "missing"))
            if (total := _total(troubled, count))
        ]
        return answer("FAILED", "; ".join(reasons + waiting))
    if waiting:
        return answer("PENDING", "; ".join(waiting))
    if not batches:
        return answer("UNKNOWN", "nothing of this study has been received")
    notes = [f"{_number(_total(batches, 'instance_count'), 'instance')} in {_number(len(batches), 'batch')}"]
    if again_ids:
        notes.append(f"{_number(len(again_ids), 'batch')} not imported in full, of which everything came again")
    notes += [
        f"{total} {words}"
        for count, words in (("warning_count", "with warnings"), ("non_primary_count", "not primary, which DICOMweb does not show"))
        if (total := _total(batches, count))
    ]
    return answer("IMPORTED", "; ".join(notes))


def ask_study(aws: Aws, tables: Tables, store: StoreTarget | None, study_instance_uid: str) -> StudyAnswer:
    """Looks up everything that is known of a study.

    Args:
        store: of the receiver; where None, it is taken from the study's last job.

    Raises:
        ConfigError: nobody knows where the store is.
    """
    at = _store(tables, store, study_instance_uid)
    # The markers first: one goes only after its batch has a row.
    marked = _marked_batches(aws, tables, at, study_instance_uid)
    batches = {batch.batch_id: batch for batch in tables.of_study(study_instance_uid)}
    # An index may be behind its table, and does not have a batch whose manifest was refused.
    batches |= tables.batches_by_id(marked)
    ordered = sorted(batches.values(), key=lambda batch: (batch.closed_at or "", batch.batch_id))
    sent_again = SentAgain(aws, tables, at).batch_ids(ordered)
    return judge(study_instance_uid, ordered, [batch_id for batch_id in marked if batch_id not in batches], sent_again)


def _store(tables: Tables, store: StoreTarget | None, study_instance_uid: str) -> Place:
    if store is not None:
        if store.kind != "s3":
            raise ConfigError("--store", f"{str(store)!r} is not s3://bucket/prefix: imports start from S3 only")
        return Place(store.bucket, f"{store.path}/" if store.path else "")
    batches = tables.of_study(study_instance_uid)
    jobs = tables.jobs_by_id(batch.job_id for batch in batches if batch.job_id)
    for job in sorted(jobs.values(), key=lambda job: job.submitted_at or "", reverse=True):
        at = place(job.input_s3_uri, f"instances/{job.batch_id}/")
        if at is not None:
            return at
    raise ConfigError("--store", "not given, and the study has no job to tell it: s3://bucket/prefix of the receiver")


def _marked_batches(aws: Aws, tables: Tables, at: Place, study_instance_uid: str) -> list[str]:
    """Batches of the study that have a marker, and no row that says so."""
    keys = Keys(at.prefix)
    where, absent = f"s3://{at.bucket}/{keys.open}", ConfigError("--store", f"there is no bucket {at.bucket!r}")
    listed: dict[str, str] = {}
    with errors(where, absent):
        for page in aws.s3.get_paginator("list_objects_v2").paginate(Bucket=at.bucket, Prefix=keys.open):
            for item in page.get("Contents", []):
                batch_id = keys.batch_of_marker(item["Key"])
                if batch_id is not None:
                    listed[batch_id] = item["Key"]
    told = {batch_id for batch_id, batch in tables.batches_by_id(listed).items() if batch.study_instance_uid}

    def read(key: str) -> Marker | None:
        with errors(where, absent):
            try:
                return decode_marker(keys, key, aws.s3.get_object(Bucket=at.bucket, Key=key)["Body"].read())
            except ClientError as error:
                if code_of(error) == "NoSuchKey":
                    return None
                raise
            except ValueError:
                # No receiver wrote it, so it says nothing of an instance.
                return None

    with ThreadPoolExecutor(_READERS) as readers:
        markers = readers.map(read, [key for batch_id, key in listed.items() if batch_id not in told])
        return sorted(marker.batch_id for marker in markers if marker and marker.study_instance_uid == study_instance_uid)
