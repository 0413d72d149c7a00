"""The state RecordFailure: what ended an execution gets onto the row.

Enters: the error of a state. Leaves: FAILED with a message, or a message where the sweeper will go on. Never: FAILED for what may pass.
"""

import json
from typing import Any

from importflow import turns
from importflow.errors import LONGEST_MESSAGE
from importflow.observe import MetricUnit, about, logger, metrics
from importflow.rows import LIVE, fail, read, step
from importflow.workflow import Workflow

# Errors of ours that pass, and those that AWS Lambda and Step Functions have for functions that did not come to their end.
# https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
_PASSING = frozenset(
    {"RetryableError", "ThrottledError", "QuotaError", "ConflictError", "States.Timeout", "States.HeartbeatTimeout", "Sandbox.Timedout"}
)
_PASSING_PREFIX = "Lambda."


def record(workflow: Workflow, batch_id: str, attempt: int, error: Any) -> None:
    """Write an error on the row of an attempt that has not ended.

    Args:
        error: with `Error` and `Cause`, as the Catch of a state puts it.
    """
    name, words = _read(error)
    row = read(workflow, batch_id, attempt)
    if row is None:
        return
    if row["state"] not in LIVE:
        # The attempt had ended, and only what came after that failed.
        turns.release(workflow, row)
        return
    # Of an error that is not ours nobody knows what it quotes; it is in the log of its function, with its traceback.
    message = words if name == "PermanentError" else f"{name}: {words}" if name in _PASSING else f"unexpected {name}"
    if name in _PASSING or name.startswith(_PASSING_PREFIX):
        step(workflow, row, LIVE, {"message": f"interrupted, and will be resumed: {message}"[:LONGEST_MESSAGE]})
        logger.warning("import interrupted", extra=about(row) | {"errorClass": name, "reason": message})
        return
    failed = fail(workflow, row, message[:LONGEST_MESSAGE])
    turns.release(workflow, row)
    if failed is None:
        return
    logger.error("import failed", extra=about(row) | {"errorClass": name, "reason": message})
    with metrics() as measured:
        measured.add_metric("BatchesFailed", MetricUnit.Count, 1)


def _read(error: Any) -> tuple[str, str]:
    """Class and words of an error. The cause of a function's error is JSON."""
    if not isinstance(error, dict):
        return "UnknownError", ""
    name, cause = str(error.get("Error", "UnknownError")), str(error.get("Cause", ""))
    try:
        words = json.loads(cause)["errorMessage"]
    except (ValueError, KeyError, TypeError):
        words = cause
    return name, str(words)
