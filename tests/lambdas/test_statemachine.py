"""The definition of the state machine: what statelint says, and what no linter sees. .ci/run has asl-validator look at it too."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from importflow import errors
from tests.lambdas.machine import DEFINITION
from tests.lambdas.world import BATCH_ID, World

MACHINE: dict[str, Any] = json.loads(DEFINITION.read_text())
STATES: dict[str, dict[str, Any]] = MACHINE["States"]
TASKS = {name: state for name, state in STATES.items() if state["Type"] == "Task"}
OURS = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, errors.ImportFlowError)}

# Most events of one execution. https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
MOST_EVENTS = 25_000
EVENTS_OF_A_POLL = 2 + 5 + 2
"""Wait entered and exited; task entered, scheduled, started, succeeded, exited; choice entered and exited."""
LONGEST_POLL_S = 60


def targets(state: dict[str, Any]) -> Iterator[str]:
    for rule in (state, *state.get("Choices", ()), *state.get("Catch", ())):
        yield from (rule[name] for name in ("Next", "Default") if name in rule)


def test_statelint_finds_nothing() -> None:
    program = Path(sys.executable).parent / "statelint"
    done = subprocess.run([program, DEFINITION], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "")


def test_statelint_finds_something_where_there_is_something(tmp_path: Path) -> None:
    spoilt = tmp_path / "spoilt.json"
    spoilt.write_text(DEFINITION.read_text().replace('"Next": "IsComplete"', '"Next": "Nowhere"'))
    done = subprocess.run([Path(sys.executable).parent / "statelint", spoilt], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip()


def test_every_state_is_reached_and_every_next_is_there() -> None:
    reached, new = set(), {MACHINE["StartAt"]}
    while new:
        reached |= new
        assert reached <= STATES.keys()
        new = {target for name in new for target in targets(STATES[name])} - reached
    assert reached == STATES.keys()


def test_the_main_path() -> None:
    path = ["TriggerImport", "StartImportJob", "WaitForCompletion", "CheckStatus", "IsComplete"]
    assert [name for name in STATES if name in path] == path
    assert STATES["StartImportJob"]["Next"] == "WaitForCompletion"
    assert STATES["WaitForCompletion"]["Next"] == "CheckStatus"
    assert STATES["CheckStatus"]["Next"] == "IsComplete"
    assert "WaitForCompletion" in targets(STATES["IsComplete"])


@pytest.mark.parametrize("name", TASKS)
def test_every_task_retries_and_catches_everything(name: str) -> None:
    task = TASKS[name]
    retried = {error for rule in task["Retry"] for error in rule["ErrorEquals"]}
    assert {"RetryableError", "Lambda.ServiceException", "Lambda.TooManyRequestsException", "States.Timeout"} <= retried
    assert "PermanentError" not in retried
    for rule in task["Retry"]:
        assert {"IntervalSeconds", "BackoffRate", "MaxAttempts", "MaxDelaySeconds", "JitterStrategy"} <= rule.keys()
    assert task["Catch"][-1]["ErrorEquals"] == ["States.ALL"]
    assert task["Catch"][-1]["Next"] == ("Failed" if name == "RecordFailure" else "RecordFailure")
    assert "TimeoutSeconds" in task


def test_every_choice_has_a_default() -> None:
    assert all("Default" in state for state in STATES.values() if state["Type"] == "Choice")


def test_errors_are_named_as_the_functions_raise_them() -> None:
    named = {e for task in TASKS.values() for rule in (*task["Retry"], *task["Catch"]) for e in rule["ErrorEquals"]}
    assert {error for error in named if "." not in error} <= OURS
    # A start that was refused begins at its turn again, with a slot of its own.
    after = {e: rule["Next"] for rule in STATES["StartImportJob"]["Catch"] for e in rule["ErrorEquals"]}
    assert after == {
        "ThrottledError": "TriggerImport",
        "QuotaError": "WaitForQuota",
        "ConflictError": "WaitForQuota",
        "States.ALL": "RecordFailure",
    }


def test_the_longest_execution_fits_into_its_history() -> None:
    assert MACHINE["TimeoutSeconds"] / LONGEST_POLL_S * EVENTS_OF_A_POLL < MOST_EVENTS


def test_only_what_every_interpreter_knows() -> None:
    text = DEFINITION.read_text()
    assert not [word for word in ("QueryLanguage", "{%", '"Assign"', '"Arguments"', '"Output"') if word in text]
    substituted = {"${TriggerImportFunctionArn}", "${StartImportJobFunctionArn}", "${CheckStatusFunctionArn}"}
    assert {task["Parameters"]["FunctionName"] for task in TASKS.values()} == substituted


def test_what_is_said_at_the_end_is_on_the_row(world: World) -> None:
    world.receive()
    world.imaging.statuses[f"{BATCH_ID}-1"] = "FAILED"
    world.import_batch(BATCH_ID)
    assert world.row()["state"] == "FAILED"
    assert world.row()["message"] == "the job failed as a whole"
