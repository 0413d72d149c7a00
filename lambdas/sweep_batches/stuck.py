"""Rows that nobody is about any more get another execution.

Enters: rows that have not changed for a while. Leaves: an execution for each whose own has ended or never was.
Never: a second execution beside one that runs; another attempt.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from importflow import executions
from importflow.errors import ImportFlowError
from importflow.observe import about, logger
from importflow.rows import LIVE, step
from importflow.table import Item
from importflow.times import iso_utc, seconds
from importflow.workflow import Workflow

SUBMITTED_LONG_S = 3600.0
"""A job that has been under way for this long is told of."""

_ATTRIBUTES = ("batchId", "state", "updatedAt", "openedAt", "startedAt")


@dataclass
class Rows:
    """What the rows that have not ended show."""

    live: int = 0
    resumed: int = 0
    failed: int = 0
    long_running: int = 0
    opened_at_s: list[float] = field(default_factory=list)


def sweep_rows(workflow: Workflow, has_time: Callable[[], bool]) -> Rows:
    """Look at every row that has not ended. What fails is told and counted, and left for the next sweep.

    Args:
        has_time: whether there is time for one more.
    """
    rows = Rows()
    now_s = workflow.now()
    unchanged_since = iso_utc(now_s - workflow.settings.stuck_after_s)
    for state in LIVE:
        for known in workflow.batches.query("byState", "#state = :state", {"state": state}, _ATTRIBUTES):
            rows.live += 1
            rows.opened_at_s.append(seconds(known["openedAt"]))
            if "startedAt" in known and state == "IMPORTING" and seconds(known["startedAt"]) <= now_s - SUBMITTED_LONG_S:
                rows.long_running += 1
            if known["updatedAt"] <= unchanged_since and has_time():
                _look_at(workflow, known["batchId"], rows)
    return rows


def _look_at(workflow: Workflow, batch_id: str, rows: Rows) -> None:
    try:
        # The index may lag behind.
        row = workflow.batches.get(batch_id)
        if row is not None and row["state"] in LIVE and _resume(workflow, row):
            rows.resumed += 1
    except ImportFlowError as error:
        rows.failed += 1
        logger.error("batch left for the next sweep", extra={"batchId": batch_id, "errorClass": type(error).__name__, "reason": str(error)})


def _resume(workflow: Workflow, row: Item) -> bool:
    """Start an execution for a row that has none. It goes on where the last one stopped, with the same attempt."""
    standing = executions.standing(workflow, row)
    if standing == "running":
        return False
    if standing == "ended":
        arn = executions.arn_of(workflow, executions.next_name(row))
        moved = step(
            workflow,
            row,
            (row["state"],),
            {"executionArn": arn},
            condition="attribute_not_exists(#executionArn) OR #executionArn = :seenArn",
            compared={"seenArn": row.get("executionArn", "")},
        )
        if moved is None:
            return False
        row = moved
    executions.start(workflow, row)
    logger.warning("import resumed", extra=about(row) | {"state": row["state"], "execution": executions.name_of(row)})
    return True
