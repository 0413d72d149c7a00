"""The state TriggerImport: an execution takes its batch, and waits for its turn.

Enters: a batch and its attempt. Leaves: what to do next, and the seconds before. Never: a start slot without the study's lock and a place.
"""

import math

from importflow import turns
from importflow.documents import LARGEST_DOCUMENT_BYTES, decode_manifest
from importflow.errors import PermanentError, RetryableError
from importflow.observe import about, logger
from importflow.rows import ENDED, claim, heartbeat, read, step
from importflow.steps import END, Next
from importflow.table import Item
from importflow.times import iso_utc, seconds
from importflow.workflow import Workflow

STALE_SLOT_S = 10.0
"""A start slot that has passed for this long is not used any more."""

SEEN = "seenSlot"


def take_turn(workflow: Workflow, batch_id: str, attempt: int) -> Next:
    """Bring an attempt as near to its start as it may come now. It may be called again at any time.

    Raises:
        PermanentError: there is no such batch, or what it consists of is gone.
    """
    row = read(workflow, batch_id, attempt)
    if row is not None and row["state"] == "RECEIVED":
        _check_contents(workflow, row)
        # Another may have claimed it, or our own write whose answer was lost.
        row = claim(workflow, row) or read(workflow, batch_id, attempt)
    if row is None:
        logger.info("another attempt has taken over", extra={"batchId": batch_id, "attempt": attempt})
        return END
    if row["state"] in ENDED:
        turns.release(workflow, row)
        return END
    if row["state"] == "IMPORTING":
        return {"next": "CHECK", "seconds": 0}
    if not _has_turn(workflow, row):
        heartbeat(workflow, row)
        return {"next": "WAIT", "seconds": workflow.poll_s(workflow.now() - seconds(row["receivedAt"]))}
    return _to_slot(workflow, row)


def _check_contents(workflow: Workflow, row: Item) -> None:
    batch_id = row["batchId"]
    key = workflow.keys.manifest(batch_id)
    data = workflow.dicom.get(key, LARGEST_DOCUMENT_BYTES)
    if data is None:
        raise PermanentError("the manifest is not there any more")
    try:
        manifest = decode_manifest(workflow.keys, key, data)
    except ValueError as error:
        raise PermanentError(f"the manifest was refused: {error}") from None
    if (len(manifest.instances), manifest.study_instance_uid) != (row["instanceCount"], row["studyInstanceUID"]):
        raise PermanentError("the manifest is not the one that the row was made from")
    if next(workflow.dicom.list(workflow.keys.instances(batch_id)), None) is None:
        raise PermanentError("the instances are not there any more")


def _has_turn(workflow: Workflow, row: Item) -> bool:
    """Whether the attempt has the study's lock and a place now. What it had before it has again, unless it lost it meanwhile."""
    if row["state"] == "WAITING" and turns.has_older(workflow, row):
        return False
    return turns.lock_study(workflow, row) and turns.take_place(workflow, row)


def _to_slot(workflow: Workflow, row: Item) -> Next:
    now = workflow.now()
    seen = row.get("slotAt")
    slot_s = seconds(seen) if seen else 0.0
    if slot_s < now - STALE_SLOT_S:
        slot_s = turns.take_slot(workflow)
        changes = {"state": "STARTING", "slotAt": iso_utc(slot_s)}
        condition = "attribute_not_exists(#slotAt)" + (f" OR #slotAt = :{SEEN}" if seen else "")
        if step(workflow, row, ("WAITING", "STARTING"), changes, condition=condition, compared={SEEN: seen}) is None:
            # Our own write whose answer was lost, or another call for the same attempt: what is next follows from the row as it is now.
            raise RetryableError("the row changed while a start slot was taken")
        logger.info("start slot taken", extra=about(row) | {"slotInSeconds": round(slot_s - now, 3)})
    # What is left of a second, start_import_job waits for.
    return {"next": "START", "seconds": max(0, math.floor(slot_s - now))}
