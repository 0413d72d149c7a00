"""The row of a batch: how it comes to be, and every step that it can take.

Enters: a manifest, or a row as it was read. Leaves: the row as it then is, None where it has moved on.
Never: a step backwards within an attempt, or one for another attempt.
"""

from typing import Any

from importflow.documents import Manifest
from importflow.errors import PermanentError
from importflow.executions import arn_of, name_of
from importflow.keys import attempt_name
from importflow.table import Item
from importflow.times import iso_utc
from importflow.workflow import Workflow

OWNER_OF_INBOX = "inbox"
"""The owner in the manifest of a file that came from elsewhere."""

LIVE = ("RECEIVED", "WAITING", "STARTING", "IMPORTING")
ENDED = ("DONE", "FAILED")

MOST_LISTED = 100
"""AE titles and association ids on a row: each instance may have an association of its own, and every write pays for the whole row."""

HEARTBEAT_S = 120.0
"""Least between two writes that only say that somebody is about a row."""

# What an attempt leaves on the row, and the next one must not find.
_OF_ONE_ATTEMPT = (
    "jobId",
    "slotAt",
    "startRequestedAt",
    "startedAt",
    "endedAt",
    "message",
    "resultKey",
    "importedCount",
    "warningCount",
    "failedCount",
    "missingCount",
    "unexpectedCount",
    "nonPrimaryCount",
)


def new_row(workflow: Workflow, manifest: Manifest) -> Item:
    """The row of a batch that was not known before."""
    now = iso_utc(workflow.now())
    single = manifest.instances[0].sop_instance_uid if len(manifest.instances) == 1 else None
    series = manifest.series_instance_uids[0] if len(manifest.series_instance_uids) == 1 else None
    row = {
        "batchId": manifest.batch_id,
        "state": "RECEIVED",
        "attempt": 1,
        "executionArn": arn_of(workflow, attempt_name(manifest.batch_id, 1)),
        "instanceCount": len(manifest.instances),
        "totalBytes": manifest.total_bytes,
        "studyInstanceUID": manifest.study_instance_uid,
        "studyDate": manifest.study_date,
        "seriesInstanceUID": series,
        "sopInstanceUID": single,
        "callingAeTitles": manifest.calling_ae_titles[:MOST_LISTED],
        "calledAeTitles": manifest.called_ae_titles[:MOST_LISTED],
        "associationIds": manifest.association_ids[:MOST_LISTED],
        "source": "inbox" if manifest.owner == OWNER_OF_INBOX else "receiver",
        "closedBy": manifest.closed_by,
        "closeReason": manifest.close_reason,
        "manifestKey": workflow.keys.manifest(manifest.batch_id),
        "openedAt": iso_utc(manifest.opened_at_s),
        "closedAt": iso_utc(manifest.closed_at_s),
        "receivedAt": now,
        "updatedAt": now,
    }
    return {name: value for name, value in row.items() if value is not None}


def refused_row(workflow: Workflow, batch_id: str, message: str) -> Item:
    """The row of a batch whose manifest is none."""
    now = iso_utc(workflow.now())
    return {
        "batchId": batch_id,
        "state": "FAILED",
        "attempt": 1,
        "manifestKey": workflow.keys.manifest(batch_id),
        "receivedAt": now,
        "endedAt": now,
        "updatedAt": now,
        "message": message,
    }


def read(workflow: Workflow, batch_id: str, attempt: int) -> Item | None:
    """The row, None where it is at another attempt by now. Raises PermanentError where there is none."""
    row = workflow.batches.get(batch_id)
    if row is None:
        raise PermanentError(f"there is no batch {batch_id}")
    return row if row["attempt"] == attempt else None


def step(
    workflow: Workflow,
    row: Item,
    states: tuple[str, ...],
    changes: dict[str, Any],
    *,
    remove: tuple[str, ...] = (),
    condition: str = "",
    compared: dict[str, Any] | None = None,
) -> Item | None:
    """Change a row that is at the same attempt and in one of these states. Returns it as it then is, None where it has moved on.

    Args:
        changes: new values by attribute; None leaves an attribute as it is.
        remove: attributes to remove.
        condition: a further one, over attributes, and over values of `changes` and `compared`.
    """
    values = {name: value for name, value in changes.items() if value is not None} | {"updatedAt": iso_utc(workflow.now())}
    expression = "SET " + ", ".join(f"#{name} = :{name}" for name in values)
    if remove:
        expression += " REMOVE " + ", ".join(f"#{name}" for name in remove)
    places = {f"from{index}": state for index, state in enumerate(states)}
    own = f"#attempt = :sameAttempt AND #state IN ({', '.join(f':{place}' for place in places)})"
    whole = f"{own} AND ({condition})" if condition else own
    return workflow.batches.update(row["batchId"], expression, whole, values | places | {"sameAttempt": row["attempt"]} | (compared or {}))


def claim(workflow: Workflow, row: Item) -> Item | None:
    """RECEIVED to WAITING: this attempt has an execution now, and nothing of the attempt before it."""
    changes = {"state": "WAITING", "executionArn": arn_of(workflow, name_of(row))}
    return step(workflow, row, ("RECEIVED",), changes, remove=_OF_ONE_ATTEMPT)


def heartbeat(workflow: Workflow, row: Item) -> None:
    """Say that an execution is about this row, where nothing has been written for a while."""
    if row["updatedAt"] <= iso_utc(workflow.now() - HEARTBEAT_S):
        step(workflow, row, (row["state"],), {})


def fail(workflow: Workflow, row: Item, message: str) -> Item | None:
    """To FAILED, from any state in which the attempt has not ended."""
    return step(workflow, row, LIVE, {"state": "FAILED", "message": message, "endedAt": iso_utc(workflow.now())})
