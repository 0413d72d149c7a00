"""A file that anything at all put under `inbox/` becomes a batch of its own.

Enters: key and version of the file. Leaves: the id of a batch with a manifest. Never: more than the file's head, two batches of a version.
"""

import hashlib

from importflow.documents import Entry, Marker, encode_manifest
from importflow.errors import PermanentError, RetryableError
from importflow.objects import Head
from importflow.rows import OWNER_OF_INBOX
from importflow.workflow import Workflow
from trigger_import.part10 import Instance, TooShortError, read_instance

HEADS_BYTES = (64 << 10, 1 << 20, 16 << 20)
"""How much of a file is read: the next, where (0020,000E) is not in the one before."""

LARGEST_JOB_BYTES = 10_000_000_000
"""Most that one import job takes. https://docs.aws.amazon.com/general/latest/gr/healthimaging.html"""


def adopt(workflow: Workflow, key: str, version: str | None) -> str | None:
    """Make a batch of a file. Returns its id, None where the file is not there any more.

    The id follows from bucket, key and version; where the bucket has no versions, from ETag and time of the file that is there now.
    Raises PermanentError for what is no instance that can be imported.
    """
    bucket = workflow.dicom
    for length_bytes in HEADS_BYTES:
        head = bucket.head(key, length_bytes, version)
        if head is None:
            return None
        _check_object(head)
        whole = len(head.data) == head.size_bytes
        try:
            instance = read_instance(head.data, whole=whole)
            break
        except TooShortError:
            continue
        except ValueError as error:
            raise PermanentError(f"a file of the inbox was refused: {error}") from None
    else:
        raise PermanentError(f"a file of the inbox was refused: no Series Instance UID (0020,000E) in its first {HEADS_BYTES[-1]} bytes")
    batch_id = batch_id_of(bucket.name, key, head)
    _write(workflow, key, head, instance, batch_id)
    return batch_id


def batch_id_of(bucket: str, key: str, head: Head) -> str:
    """Id of the batch of one version of a file."""
    version = head.version or f"{head.etag} {head.modified_s}"
    digest = hashlib.sha256(b"\0".join(text.encode("utf-8", "surrogatepass") for text in (bucket, key, version))).hexdigest()
    return f"{digest[:16]}-{int(head.modified_s * 1000) & 0xFFFF_FFFF_FFFF:012x}"


def _check_object(head: Head) -> None:
    if head.size_bytes > LARGEST_JOB_BYTES:
        raise PermanentError(f"a file of the inbox was refused: it has more than {LARGEST_JOB_BYTES} bytes")
    if "gzip" in head.content_encoding.lower():
        raise PermanentError("a file of the inbox was refused: HealthImaging does not import objects with Content-Encoding gzip")


def _write(workflow: Workflow, key: str, head: Head, instance: Instance, batch_id: str) -> None:
    keys, bucket = workflow.keys, workflow.dicom
    to = keys.instance(batch_id, instance.study_instance_uid, instance.series_instance_uid, instance.sop_instance_uid)
    if not bucket.copy(key, to, head.size_bytes, version=head.version, etag=head.etag):
        raise RetryableError("a file of the inbox was replaced while it was read")
    marker = Marker(
        batch_id=batch_id,
        owner=OWNER_OF_INBOX,
        opened_at_s=head.modified_s,
        expires_at_s=head.modified_s,
        lease_s=0,
        put_deadline_s=0,
        study_instance_uid=instance.study_instance_uid,
        study_date=instance.study_date,
        calling_ae_titles=[],
        called_ae_titles=[],
        association_ids=[],
    )
    entry = Entry(instance.sop_instance_uid, to, head.size_bytes)
    manifest = encode_manifest(keys, marker, [entry], closed_by="worker", close_reason="count", closed_at_s=head.modified_s)
    # If there is one already, an earlier call for this version wrote the same bytes.
    bucket.put_if_absent(keys.manifest(batch_id), manifest)
