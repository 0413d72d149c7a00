"""Whatever is wrong is one line on stderr and an exit code."""

from decimal import Decimal
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from fastscp.jobs import aws as clients
from tests.jobs.conftest import STUDY, Run, Workflow, at, batch_id

COMMANDS = {
    "list": ["--limit", "5"],
    "study": ["--study", STUDY, "--store", "s3://images/p"],
    "show": ["show", batch_id(1)],
    "retry": ["retry", batch_id(1)],
}


def one_line(result: tuple[int, str, str], code: int) -> str:
    assert (result[0], result[1]) == (code, "")
    assert result[2].startswith("fastscp: ")
    assert result[2].count("\n") == 1
    assert result[2].rstrip("\n").isprintable()
    return result[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_no_region(run: Run, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    assert one_line(run(*COMMANDS[command]), 2) == "fastscp: --aws-region: the AWS region is not set\n"


def test_no_credentials(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    assert one_line(run(), 2) == "fastscp: AWS: Unable to locate credentials\n"


def test_no_such_profile(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nope")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    assert "profile (nope)" in one_line(run(), 2)


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_DYNAMODB"])
def test_nobody_answers(run: Run, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setattr(clients, "_CONFIG", Config(connect_timeout=1, retries={"total_max_attempts": 1}))
    # A port that nothing is bound to, and that only the superuser could.
    monkeypatch.setenv(variable, "http://127.0.0.1:1")
    assert "127.0.0.1:1" in one_line(run(), 1)


def test_an_endpoint_that_is_none(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "nonsense")
    assert "nonsense" in one_line(run(), 2)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", ["--batch-table", "--job-table"])
def test_no_such_table(workflow: Workflow, run: Run, command: str, option: str) -> None:
    if command != "retry":
        workflow.batch(1, jobId="job1")
    # Where there is no such batch, the name is looked for among the jobs.
    line = one_line(run(*COMMANDS[command], option, "nope"), 2)
    assert line == f"fastscp: {option}: there is no table 'nope'\n"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("code", ["AccessDeniedException", "ProvisionedThroughputExceededException", "ValidationException"])
def test_what_the_service_refuses(workflow: Workflow, run: Run, monkeypatch: pytest.MonkeyPatch, command: str, code: str) -> None:
    def refuse(self: Any, operation: str, parameters: Any) -> Any:
        raise ClientError({"Error": {"Code": code, "Message": "no\n\x1b[2J\u202e"}}, operation)

    monkeypatch.setattr("botocore.client.BaseClient._make_api_call", refuse)
    line = one_line(run(*COMMANDS[command]), 1)
    assert f": {code}: no \\x1b[2J\\u202e" in line


@pytest.mark.parametrize("command", COMMANDS)
def test_a_row_that_the_workflow_has_not_written(workflow: Workflow, run: Run, command: str) -> None:
    workflow.batch(1, "FAILED", attempt="one")
    line = one_line(run(*COMMANDS[command]), 1)
    assert line.startswith(f"fastscp: the row of '{batch_id(1)}' is not one of the import workflow's: ")


@pytest.mark.parametrize(
    "changes",
    [{"state": "ELSEWHERE"}, {"updatedAt": "yesterday"}, {"instanceCount": "3"}, {"callingAeTitles": "MODALITY"}, {"attempt": 1.5}],
)
def test_attributes_of_another_kind(workflow: Workflow, run: Run, changes: dict[str, Any]) -> None:
    item = {"batchId": batch_id(1), "state": "DONE", "attempt": 1, "updatedAt": at(0)} | changes
    workflow.batches.put_item(Item={key: Decimal(str(value)) if isinstance(value, float) else value for key, value in item.items()})
    assert "is not one of the import workflow's" in one_line(run("show", batch_id(1)), 1)


def test_a_job_without_a_batch(workflow: Workflow, run: Run) -> None:
    workflow.job(1)
    assert one_line(run("show", "job1"), 1) == "fastscp: job 'job1' belongs to no batch that is known\n"


@pytest.mark.parametrize(
    "arguments", [["--status", "nope"], ["--limit", "-1"], ["--limit", "x"], ["show"], ["retry"], ["show", "a", "b"], ["nope"], ["--nope"]]
)
def test_a_wrong_command_line(run: Run, arguments: list[str]) -> None:
    one_line(run(*arguments), 2)
