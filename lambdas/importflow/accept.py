"""A closed batch gets its row and its execution.

Enters: the id of a batch that has a manifest. Leaves: a row, and an execution about it. Never: a second row, an execution before the row.
"""

from importflow import executions
from importflow.documents import LARGEST_DOCUMENT_BYTES, decode_manifest
from importflow.errors import PermanentError, RetryableError
from importflow.observe import about, logger
from importflow.rows import new_row, refused_row
from importflow.table import Item
from importflow.workflow import Workflow


def accept(workflow: Workflow, batch_id: str) -> Item:
    """Make sure that a batch has a row, and that the row has had an execution. Returns the row.

    Raises:
        PermanentError: the manifest is none, or is gone; the first is on the row too.
    """
    row = workflow.batches.get(batch_id) or _create(workflow, batch_id)
    if row["state"] == "FAILED" and "instanceCount" not in row:
        # Refused before: the event shall end in the dead-letter queue, however often it comes.
        raise PermanentError(row["message"])
    if row["state"] == "RECEIVED":
        executions.start(workflow, row)
    return row


def _create(workflow: Workflow, batch_id: str) -> Item:
    key = workflow.keys.manifest(batch_id)
    data = workflow.dicom.get(key, LARGEST_DOCUMENT_BYTES)
    if data is None:
        raise PermanentError(f"there is no manifest of batch {batch_id}")
    refusal = None
    try:
        row = new_row(workflow, decode_manifest(workflow.keys, key, data))
    except ValueError as error:
        refusal = PermanentError(f"the manifest of batch {batch_id} was refused: {error}")
        row = refused_row(workflow, batch_id, str(refusal))
    if workflow.batches.put_new(row):
        logger.info("batch received", extra=about(row) | {"instances": row.get("instanceCount"), "totalBytes": row.get("totalBytes")})
    if refusal:
        raise refusal
    found = workflow.batches.get(batch_id)
    if found is None:
        raise RetryableError(f"the row of batch {batch_id} was written and is not there")
    return found
