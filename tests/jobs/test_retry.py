"""Another attempt: who may ask for it, what is written, and two who ask at once."""

import json
import threading
from typing import Any

import pytest
from moto.dynamodb.models import DynamoDBBackend

from fastscp import jobs
from fastscp.errors import CommandError
from fastscp.settings import JobsSettings
from tests.jobs.conftest import Run, Workflow, at, batch_id


def executions(workflow: Workflow) -> dict[str, Any]:
    """Input by name."""
    found = workflow.stepfunctions.list_executions(stateMachineArn=workflow.machine)["executions"]
    return {one["name"]: json.loads(workflow.stepfunctions.describe_execution(executionArn=one["executionArn"])["input"]) for one in found}


def stored(workflow: Workflow, number: int) -> dict[str, Any]:
    item: dict[str, Any] = workflow.batches.get_item(Key={"batchId": batch_id(number)})["Item"]
    return item


@pytest.mark.parametrize("name", [batch_id(1), "job1"])
@pytest.mark.parametrize(
    ("state", "changes"),
    [("FAILED", {}), ("DONE", {"failedCount": 1}), ("DONE", {"missingCount": 1}), ("FAILED", {"attempt": 7})],
)
def test_the_attempt_is_raised_and_its_execution_started(
    workflow: Workflow, run: Run, name: str, state: str, changes: dict[str, Any]
) -> None:
    workflow.batch(1, state, **changes)
    workflow.job(1)
    before = stored(workflow, 1)
    attempt = int(before["attempt"]) + 1
    assert run("retry", name) == (0, f"batch {batch_id(1)}: attempt {attempt} started\n", "")
    after = stored(workflow, 1)
    assert executions(workflow) == {f"{batch_id(1)}-{attempt}": {"batchId": batch_id(1), "attempt": attempt}}
    assert (after.pop("state"), after.pop("attempt")) == ("RECEIVED", attempt)
    assert after.pop("updatedAt") > before["updatedAt"]
    assert after.pop("executionArn") == workflow.machine.replace(":stateMachine:", ":execution:") + f":{batch_id(1)}-{attempt}"
    # The rest is the next execution's to remove.
    assert after == {key: value for key, value in before.items() if key not in {"state", "attempt", "updatedAt", "executionArn"}}


def test_json(workflow: Workflow, run: Run) -> None:
    workflow.batch(1, "FAILED")
    code, out, _ = run("retry", "--json", batch_id(1))
    arn = workflow.machine.replace(":stateMachine:", ":execution:") + f":{batch_id(1)}-2"
    assert (code, json.loads(out)) == (0, {"type": "retry", "batchId": batch_id(1), "attempt": 2, "executionArn": arn})


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("RECEIVED", "is RECEIVED: attempt 1 has not ended"),
        ("WAITING", "is WAITING: attempt 1 has not ended"),
        ("STARTING", "is STARTING: attempt 1 has not ended"),
        ("IMPORTING", "is IMPORTING: attempt 1 has not ended"),
        ("DONE", "is imported: nothing failed, nothing is missing"),
    ],
)
def test_where_there_is_nothing_to_try_again(workflow: Workflow, run: Run, state: str, words: str) -> None:
    workflow.batch(1, state)
    before = stored(workflow, 1)
    assert run("retry", batch_id(1)) == (1, "", f"fastscp: batch {batch_id(1)} {words}\n")
    assert stored(workflow, 1) == before
    assert executions(workflow) == {}


def test_a_manifest_that_was_refused_is_no_better_the_next_time(workflow: Workflow, run: Run) -> None:
    row = {"batchId": batch_id(1), "state": "FAILED", "attempt": 1, "updatedAt": at(0), "message": "the manifest belongs to another key"}
    workflow.batches.put_item(Item=row)
    words = "has no manifest that could be imported: the manifest belongs to another key"
    assert run("retry", batch_id(1)) == (1, "", f"fastscp: batch {batch_id(1)} {words}\n")
    assert stored(workflow, 1) == row


@pytest.mark.parametrize("name", ["nope", "#starts"])
def test_what_there_is_not(workflow: Workflow, run: Run, name: str) -> None:
    assert run("retry", name) == (1, "", f"fastscp: there is no batch and no job {name!r}\n")


def test_of_many_who_ask_at_once_one_wins(workflow: Workflow, monkeypatch: pytest.MonkeyPatch) -> None:
    in_one_step, update_item = threading.Lock(), DynamoDBBackend.update_item

    def update(*arguments: Any, **named: Any) -> Any:
        # moto looks first and writes then, where DynamoDB does both in one step.
        with in_one_step:
            return update_item(*arguments, **named)

    monkeypatch.setattr(DynamoDBBackend, "update_item", update)
    workflow.batch(1, "FAILED")
    outcomes: list[str] = []
    barrier = threading.Barrier(8)
    # Clients are made one after the other: that is not what the threads are to race in.
    clients = [jobs.Aws(JobsSettings()) for _ in range(8)]

    def ask(aws: jobs.Aws) -> None:
        tables = jobs.Tables(aws, JobsSettings())
        batch = tables.batch(batch_id(1))
        assert batch is not None
        barrier.wait(timeout=60)
        try:
            outcomes.append(str(jobs.retry(aws, tables, "", batch).attempt))
        except CommandError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=ask, args=(aws,)) for aws in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    lost = f"batch {batch_id(1)} has changed meanwhile: somebody else is trying it again"
    assert sorted(outcomes) == sorted(["2", *[lost] * 7])
    assert list(executions(workflow)) == [f"{batch_id(1)}-2"]
    assert int(stored(workflow, 1)["attempt"]) == 2


def test_one_that_read_before_the_next_attempt_ended_too_loses(workflow: Workflow, aws: jobs.Aws, tables: jobs.Tables) -> None:
    workflow.batch(1, "FAILED")
    stale = tables.batch(batch_id(1))
    assert stale is not None
    workflow.batch(1, "FAILED", attempt=2)
    with pytest.raises(CommandError, match="has changed meanwhile"):
        jobs.retry(aws, tables, "", stale)
    assert executions(workflow) == {}


def test_the_sweeper_may_have_started_it_already(workflow: Workflow, run: Run) -> None:
    workflow.batch(1, "FAILED")
    workflow.stepfunctions.start_execution(stateMachineArn=workflow.machine, name=f"{batch_id(1)}-2", input='{"other": 1}')
    assert run("retry", batch_id(1))[0] == 0
    assert list(executions(workflow)) == [f"{batch_id(1)}-2"]


def test_the_state_machine(workflow: Workflow, run: Run) -> None:
    workflow.batch(1, "FAILED", executionArn=None)
    before = stored(workflow, 1)
    code, _, err = run("retry", batch_id(1))
    assert (code, err) == (2, f"fastscp: --state-machine: not given, and batch {batch_id(1)} had no execution to tell it\n")
    assert stored(workflow, 1) == before
    assert run("retry", batch_id(1), "--state-machine", workflow.machine)[0] == 0
    assert list(executions(workflow)) == [f"{batch_id(1)}-2"]


def test_an_execution_that_cannot_be_started_is_left_to_the_sweeper(workflow: Workflow, run: Run) -> None:
    workflow.batch(1, "FAILED", updatedAt=at(0))
    code, out, err = run("retry", batch_id(1), "--state-machine", workflow.machine + "x")
    assert (code, out) == (1, "")
    assert err.startswith(f"fastscp: batch {batch_id(1)}: attempt 2 is on its row, and the sweeper starts it within minutes; ")
    assert "StateMachineDoesNotExist" in err
    assert err.count("\n") == 1
    after = stored(workflow, 1)
    assert (after["state"], after["attempt"]) == ("RECEIVED", 2)
    assert after["executionArn"] == workflow.machine.replace(":stateMachine:", ":execution:") + f"x:{batch_id(1)}-2"
