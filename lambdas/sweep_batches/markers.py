"""The sweep rule of docs/batches.md, over the markers under `open/`.

Enters: markers as a listing shows them. Leaves: manifests of batches that were left, executions that were missing, markers deleted.
Never: a batch closed while its worker may still say Success for it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from importflow.accept import accept
from importflow.documents import LARGEST_DOCUMENT_BYTES, Entry, Marker, decode_marker, encode_manifest
from importflow.errors import ImportFlowError, PermanentError
from importflow.objects import Listed
from importflow.observe import logger
from importflow.rows import LIVE
from importflow.workflow import Workflow

CLOCK_SKEW_S = 30.0
"""Most by which any two of these clocks may differ: the workers', ours, that of S3."""


@dataclass
class Swept:
    """What one sweep found and did."""

    closed: int = 0
    started: int = 0
    deleted: int = 0
    failed: int = 0
    refused: int = 0
    opened_at_s: list[float] = field(default_factory=list)


def sweep_markers(workflow: Workflow, has_time: Callable[[], bool]) -> Swept:
    """Treat each marker by the rule. What fails is told and counted, and left for the next sweep.

    Args:
        has_time: whether there is time for one more.
    """
    swept = Swept()
    # Before the listing, by the rule.
    now_s = workflow.now()
    for listed in workflow.dicom.list(workflow.keys.open):
        if not has_time():
            break
        batch_id = workflow.keys.batch_of_marker(listed.key)
        if batch_id is None:
            swept.refused += 1
            logger.error("not the key of a marker")
            continue
        try:
            _treat(workflow, batch_id, listed, now_s, swept)
        except ImportFlowError as error:
            swept.failed += 1
            logger.error(
                "marker left for the next sweep", extra={"batchId": batch_id, "errorClass": type(error).__name__, "reason": str(error)}
            )
    return swept


def _treat(workflow: Workflow, batch_id: str, listed: Listed, now_s: float, swept: Swept) -> None:
    row = workflow.batches.get(batch_id)
    if row is not None:
        # Whose import has not been started is looked after by its row. The marker of a batch whose manifest was refused stays: nothing
        # else still says of which study its instances are.
        if "instanceCount" in row and (row["state"] not in LIVE or row["state"] == "IMPORTING"):
            workflow.dicom.delete(listed.key)
            swept.deleted += 1
        return
    if workflow.dicom.exists(workflow.keys.manifest(batch_id)):
        accept(workflow, batch_id)
        swept.started += 1
        return
    data = workflow.dicom.get(listed.key, LARGEST_DOCUMENT_BYTES)
    if data is None:
        return
    try:
        marker = decode_marker(workflow.keys, listed.key, data)
    except ValueError as error:
        swept.refused += 1
        raise PermanentError(f"the marker was refused: {error}") from None
    if now_s >= max(marker.expires_at_s, listed.modified_s + marker.lease_s) + marker.put_deadline_s + CLOCK_SKEW_S:
        _close(workflow, marker, listed, swept)
    else:
        swept.opened_at_s.append(marker.opened_at_s)


def _close(workflow: Workflow, marker: Marker, listed: Listed, swept: Swept) -> None:
    """The listing of the instances comes after the decision: nothing that was acknowledged can be missing from it."""
    keys, bucket = workflow.keys, workflow.dicom
    entries = []
    for instance in bucket.list(keys.instances(marker.batch_id)):
        uids = keys.uids(marker.batch_id, instance.key)
        if uids is not None and uids[0] == marker.study_instance_uid:
            entries.append(Entry(uids[2], instance.key, instance.size_bytes))
    if not entries:
        bucket.delete(listed.key)
        swept.deleted += 1
        return
    manifest = encode_manifest(keys, marker, entries, closed_by="sweeper", close_reason="lease", closed_at_s=workflow.now())
    bucket.put_if_absent(keys.manifest(marker.batch_id), manifest)
    swept.closed += 1
    logger.warning("batch closed for its worker", extra={"batchId": marker.batch_id, "owner": marker.owner, "instances": len(entries)})
    accept(workflow, marker.batch_id)
