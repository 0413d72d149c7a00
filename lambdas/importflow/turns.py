"""Whose turn it is: one job for a study at a time, so many jobs at once, so many starts a second.

Enters: a batch's row. Leaves: whether it has the study's lock and a place, and when it may start.
Never: a lock or a place taken from an attempt that may have a job under way.
"""

from importflow.errors import ThrottledError
from importflow.keys import attempt_name
from importflow.rows import ENDED, LIVE
from importflow.table import Item
from importflow.times import iso_utc
from importflow.workflow import Workflow

LOCK_S = 3600.0
"""How long a study's lock outlives the last word of its owner. check_status renews it."""

_STARTS = "#starts"
_JOBS = "#jobs"


def _study_key(row: Item) -> str:
    return f"#study/{row['studyInstanceUID']}"


def _name(row: Item) -> str:
    return attempt_name(row["batchId"], row["attempt"])


def _owner_ended(workflow: Workflow, name: str) -> bool:
    batch_id, _, attempt = name.rpartition("-")
    row = workflow.batches.get(batch_id)
    return row is None or row["state"] in ENDED or str(row["attempt"]) != attempt


def has_older(workflow: Workflow, row: Item) -> bool:
    """Whether a batch of the same study that closed before this one waits for its import, as far as the index knows by now."""
    found = workflow.batches.query(
        "byStudy",
        "#studyInstanceUID = :study AND #closedAt <= :closed",
        {"study": row["studyInstanceUID"], "closed": row["closedAt"]},
        ("batchId", "state", "closedAt"),
    )
    own = (row["closedAt"], row["batchId"])
    return any(other["state"] in LIVE and (other["closedAt"], other["batchId"]) < own for other in found)


def lock_study(workflow: Workflow, row: Item) -> bool:
    """Take or renew the lock of the batch's study. Returns whether this attempt has it."""
    now, key, name = workflow.now(), _study_key(row), _name(row)
    values = {"owner": name, "expiresAt": iso_utc(now + LOCK_S), "now": iso_utc(now)}
    change = "SET #owner = :owner, #expiresAt = :expiresAt"
    if workflow.batches.update(key, change, "attribute_not_exists(#batchId) OR #owner = :owner OR #expiresAt < :now", values):
        return True
    held = workflow.batches.get(key)
    if held is None or not _owner_ended(workflow, held["owner"]):
        return False
    return workflow.batches.update(key, change, "#owner = :ended", values | {"ended": held["owner"]}) is not None


def renew_lock(workflow: Workflow, row: Item) -> None:
    """Keep the lock, where this attempt still has it and half of its time has passed."""
    now = workflow.now()
    workflow.batches.update(
        _study_key(row),
        "SET #expiresAt = :expiresAt",
        "#owner = :owner AND #expiresAt < :half",
        {"owner": _name(row), "expiresAt": iso_utc(now + LOCK_S), "half": iso_utc(now + LOCK_S / 2)},
    )


def take_place(workflow: Workflow, row: Item) -> bool:
    """Take one of the places for jobs at once. Returns whether this attempt has one."""
    name = _name(row)
    held = (workflow.batches.get(_JOBS) or {}).get("names", set())
    # Those who wait ask often, and a write that fails costs as much as one that does not.
    if name in held:
        return True
    if len(held) >= workflow.settings.concurrent_jobs:
        return False
    values = {"name": {name}, "most": workflow.settings.concurrent_jobs}
    condition = "attribute_not_exists(#names) OR size(#names) < :most"
    return workflow.batches.update(_JOBS, "ADD #names :name", condition, values) is not None


def take_slot(workflow: Workflow) -> float:
    """Take the next start slot. Returns its time in seconds since the epoch: now, or later."""
    return _advance(workflow, workflow.now(), round(1000 / workflow.settings.starts_per_second)) / 1000


def hold_starts(workflow: Workflow, for_s: float) -> None:
    """Give out no start slot before this many seconds have passed."""
    until_ms = round((workflow.now() + for_s) * 1000)
    workflow.batches.update(
        _STARTS, "SET #nextStartAt = :until", "attribute_not_exists(#nextStartAt) OR #nextStartAt < :until", {"until": until_ms}
    )


def _advance(workflow: Workflow, now_s: float, interval_ms: int) -> int:
    now_ms = round(now_s * 1000)
    values = {"interval": interval_ms, "now": now_ms, "next": now_ms + interval_ms}
    # Each write fits one of two cases; between the two another may have changed which.
    for _ in range(10):
        queued = workflow.batches.update(_STARTS, "SET #nextStartAt = #nextStartAt + :interval", "#nextStartAt >= :now", values)
        if queued:
            return int(queued["nextStartAt"]) - interval_ms
        if workflow.batches.update(
            _STARTS, "SET #nextStartAt = :next", "attribute_not_exists(#nextStartAt) OR #nextStartAt < :now", values
        ):
            return now_ms
    raise ThrottledError("no start slot could be taken")


def release(workflow: Workflow, row: Item) -> None:
    """Give back what this attempt holds. It may be called again."""
    name = _name(row)
    workflow.batches.update(_JOBS, "DELETE #names :name", "contains(#names, :one)", {"name": {name}, "one": name})
    if "studyInstanceUID" in row:
        workflow.batches.delete(_study_key(row), "#owner = :owner", {"owner": name})


def release_ended_places(workflow: Workflow) -> list[str]:
    """Give back the places of attempts that have ended. Returns their names."""
    held = (workflow.batches.get(_JOBS) or {}).get("names", set())
    ended = sorted(name for name in held if _owner_ended(workflow, name))
    for name in ended:
        workflow.batches.update(_JOBS, "DELETE #names :name", "contains(#names, :one)", {"name": {name}, "one": name})
    return ended
