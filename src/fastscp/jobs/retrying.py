"""Another attempt to import a batch, because a person asks for it.

Enters: the id of a batch or of one of its jobs. Leaves: the row raised to the next attempt, and its execution started.
Never: two attempts where two people ask at once, an attempt beside one that has not ended, a new one for what is imported.
"""

import json
import re
from datetime import UTC, datetime
from typing import NamedTuple

from botocore.exceptions import ClientError

from fastscp.errors import CommandError, ConfigError
from fastscp.jobs.aws import Aws, code_of, errors
from fastscp.jobs.rows import Batch, needs_retry, utc
from fastscp.jobs.tables import Tables

_EXECUTION_ARN = re.compile(r"(arn:[^:]+:states:[^:]+:[^:]+):execution:([^:]+):[^:]+")


class Retried(NamedTuple):
    """What was started."""

    batch_id: str
    attempt: int
    execution_arn: str


def _state_machine(batch: Batch, given: str) -> str:
    found = _EXECUTION_ARN.fullmatch(batch.execution_arn or "")
    if given:
        return given
    if found:
        return f"{found[1]}:stateMachine:{found[2]}"
    raise ConfigError("--state-machine", f"not given, and batch {batch.batch_id} had no execution to tell it")


def _refuse(batch: Batch) -> None:
    if batch.state == "FAILED":
        raise CommandError(f"batch {batch.batch_id} has no manifest that could be imported: {batch.message}")
    if batch.state == "DONE":
        raise CommandError(f"batch {batch.batch_id} is imported: nothing failed, nothing is missing")
    raise CommandError(f"batch {batch.batch_id} is {batch.state}: attempt {batch.attempt} has not ended")


def retry(aws: Aws, tables: Tables, state_machine: str, batch: Batch) -> Retried:
    """Raises the batch's attempt and starts its execution.

    Args:
        state_machine: ARN; where "", that of the batch's last execution.
        batch: as it was read a moment ago. Where it has changed since, nothing is written.

    Raises:
        CommandError: there is nothing to try again, somebody else was faster, or the execution could not be started.
        ConfigError: nobody knows the state machine.
    """
    # Of a manifest that was refused, nothing is on the row.
    if not needs_retry(batch) or batch.instance_count is None:
        _refuse(batch)
    machine = _state_machine(batch, state_machine)
    attempt = batch.attempt + 1
    arn = f"{machine.replace(':stateMachine:', ':execution:')}:{batch.batch_id}-{attempt}"
    with errors(f"table {tables.batches.name}"):
        try:
            tables.batches.update_item(
                Key={"batchId": batch.batch_id},
                # The execution that claims the row removes what else it says of the last attempt.
                UpdateExpression="SET #state = :received, attempt = :attempt, updatedAt = :now, executionArn = :arn",
                ConditionExpression="#state = :state AND attempt = :last",
                ExpressionAttributeNames={"#state": "state"},
                ExpressionAttributeValues={
                    ":received": "RECEIVED",
                    ":attempt": attempt,
                    ":arn": arn,
                    ":now": utc(datetime.now(UTC)),
                    ":state": batch.state,
                    ":last": batch.attempt,
                },
            )
        except ClientError as error:
            if code_of(error) == "ConditionalCheckFailedException":
                raise CommandError(f"batch {batch.batch_id} has changed meanwhile: somebody else is trying it again") from error
            raise
    _start(aws, machine, batch.batch_id, attempt)
    return Retried(batch.batch_id, attempt, arn)


def _start(aws: Aws, machine: str, batch_id: str, attempt: int) -> None:
    try:
        with errors("the execution could not be started"):
            try:
                aws.stepfunctions.start_execution(
                    stateMachineArn=machine, name=f"{batch_id}-{attempt}", input=json.dumps({"batchId": batch_id, "attempt": attempt})
                )
            except ClientError as error:
                # The sweeper may have found the row first.
                if code_of(error) != "ExecutionAlreadyExists":
                    raise
    except (CommandError, ConfigError) as error:
        raise CommandError(
            f"batch {batch_id}: attempt {attempt} is on its row, and the sweeper starts it within minutes; {error}"
        ) from error
