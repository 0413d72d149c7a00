"""The executions of the state machine, found by their names.

Enters: an attempt, and which of its executions. Leaves: whether it runs. Never: two executions of one name.
"""

import json
from typing import Literal

from importflow.errors import calling
from importflow.keys import attempt_name
from importflow.table import Item
from importflow.workflow import Workflow

Standing = Literal["absent", "running", "ended"]


def name_of(row: Item) -> str:
    """Name of the newest execution of a row's attempt: that of the attempt for the first, with a number from 2 for those of the sweeper."""
    first = attempt_name(row["batchId"], row["attempt"])
    name = str(row.get("executionArn", "")).rpartition(":")[2]
    # What the row says may be of an earlier attempt.
    return name if name.startswith(f"{first}-") else first


def next_name(row: Item) -> str:
    """Name of the execution that comes after the newest."""
    first, name = attempt_name(row["batchId"], row["attempt"]), name_of(row)
    return f"{first}-{2 if name == first else int(name.rpartition('-')[2]) + 1}"


def arn_of(workflow: Workflow, name: str) -> str:
    """ARN of an execution."""
    return f"{workflow.settings.state_machine_arn.replace(':stateMachine:', ':execution:')}:{name}"


def start(workflow: Workflow, row: Item) -> None:
    """Start the newest execution of a row's attempt. One of that name that runs, or has ended, is as good."""
    client = workflow.clients.states
    with calling("StartExecution"):
        try:
            client.start_execution(
                stateMachineArn=workflow.settings.state_machine_arn,
                name=name_of(row),
                input=json.dumps({"batchId": row["batchId"], "attempt": row["attempt"]}),
            )
        except client.exceptions.ExecutionAlreadyExists:
            pass


def standing(workflow: Workflow, row: Item) -> Standing:
    """What has become of the newest execution of a row's attempt."""
    client = workflow.clients.states
    with calling("DescribeExecution"):
        try:
            status = client.describe_execution(executionArn=arn_of(workflow, name_of(row)))["status"]
        except client.exceptions.ExecutionDoesNotExist:
            return "absent"
    return "running" if status in {"RUNNING", "PENDING_REDRIVE"} else "ended"
