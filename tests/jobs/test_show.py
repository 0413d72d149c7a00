"""One batch or one job: its instances with the service's messages."""

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.client import BaseClient

from tests.jobs.conftest import STUDY, Run, Workflow, at, batch_id

GOLDEN = Path(__file__).parent / "golden"


def fill(workflow: Workflow) -> None:
    """A batch of which one instance is in each class, after an attempt that failed altogether."""
    key = f"p/instances/{batch_id(1)}/1.2.840.1/1.2.3"
    workflow.batch(1, attempt=2, jobId="job1again2", importedCount=1, warningCount=1, failedCount=1, missingCount=1, nonPrimaryCount=1)
    workflow.job(1, "FAILED", message="the role may not read the bucket", endedAt=at(30))
    workflow.job(1, "COMPLETED", attempt=2, endedAt=at(60))
    workflow.result(
        1,
        of_attempt=2,
        attempt=2,
        jobId="job1again2",
        counts={"imported": 1, "warned": 1, "failed": 1, "missing": 1, "unexpected": 1, "nonPrimary": 1},
        imageSets=[
            {"imageSetId": "a" * 32, "imageSetVersion": 2, "isPrimary": True, "instances": 1},
            {"imageSetId": "b" * 32, "imageSetVersion": 1, "isPrimary": False, "instances": 1},
        ],
        failed=[{"sopInstanceUID": "1.2.3.1", "key": f"{key}/1.2.3.1.dcm", "message": "ValidationException: no transfer syntax\n\x1b[2J"}],
        warned=[{"sopInstanceUID": "1.2.3.2", "key": f"{key}/1.2.3.2.dcm", "messages": ["INVALID_OFFSET_TABLE", "two"]}],
        missing=[{"sopInstanceUID": "1.2.3.3", "key": f"{key}/1.2.3.3.dcm"}],
        unexpected=[{"key": f"{key}/1.2.3.9.dcm"}],
        nonPrimary=[{"sopInstanceUID": "1.2.3.2", "imageSetId": "b" * 32}],
    )


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("name", [batch_id(1), "job1again2"])
def test_a_batch_and_its_last_job(workflow: Workflow, run: Run, name: str, form: str) -> None:
    fill(workflow)
    code, out, err = run("show", name, *(["--json"] if form == "json" else []))
    assert (code, err) == (0, "")
    assert out == (GOLDEN / f"show.{form}").read_text()


def test_a_job_that_failed_has_no_result(workflow: Workflow, run: Run) -> None:
    fill(workflow)
    code, out, _ = run("show", "job1")
    assert code == 0
    assert "job job1: attempt 1, FAILED, submitted 2020-01-15T08:00:24.000Z: the role may not read the bucket\n" in out
    assert out.endswith("no result of job job1\n")


def test_a_batch_without_a_job(workflow: Workflow, run: Run) -> None:
    workflow.batch(1, "FAILED", jobId=None, message="the manifest is not one")
    code, out, _ = run("show", batch_id(1))
    assert code == 0
    assert "message: the manifest is not one\n" in out
    assert out.endswith("no result\n")
    answer = json.loads(run("show", "--json", batch_id(1))[1])
    assert (answer["job"], answer["jobs"], answer["result"]) == (None, [], None)


def test_members_that_a_later_version_adds_are_no_trouble(workflow: Workflow, run: Run) -> None:
    workflow.batch(1, later=[1, {"a": "b"}])
    workflow.job(1, later="x")
    workflow.result(1, later=1, failed=[{"sopInstanceUID": "1.2", "key": "k", "message": "m", "later": 1}])
    assert run("show", batch_id(1))[0] == 0


@pytest.mark.parametrize("name", ["nope", "#starts", "#study/1.2.840.1", batch_id(9)])
def test_what_there_is_not(workflow: Workflow, run: Run, name: str) -> None:
    code, out, err = run("show", name)
    assert (code, out, err) == (1, "", f"fastscp: there is no batch and no job {name!r}\n")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batchId": batch_id(2)}, "is the result of another import"),
        ({"attempt": 2}, "is the result of another import"),
        ({"counts": None}, "is not the result of an import"),
        ({"failed": [{"key": "k"}]}, "is not the result of an import"),
    ],
)
def test_a_result_that_is_none(workflow: Workflow, run: Run, changes: dict[str, Any], words: str) -> None:
    workflow.batch(1)
    workflow.job(1)
    workflow.result(1, **changes)
    code, out, err = run("show", batch_id(1))
    assert (code, out) == (1, "")
    assert err.startswith(f"fastscp: s3://results/r/results/{batch_id(1)}/1.json {words}")
    assert err.count("\n") == 1


def test_a_job_that_does_not_say_where_its_result_is(workflow: Workflow, run: Run) -> None:
    workflow.batch(1)
    workflow.job(1, outputS3Uri=f"s3://results/elsewhere/{batch_id(1)}/1/")
    assert run("show", batch_id(1)) == (1, "", "fastscp: the row of job 'job1' does not say where its result is\n")


def test_options_stand_before_or_behind_the_command(workflow: Workflow, run: Run) -> None:
    workflow.batch(1, jobId=None)
    assert run("--job-table", "DicomImportJobTable", "show", batch_id(1))[0] == 0
    assert run("show", "--batch-table", "nope", batch_id(1))[2] == "fastscp: --batch-table: there is no table 'nope'\n"
    assert run("--batch-table", "nope", "show", batch_id(1))[2] == "fastscp: --batch-table: there is no table 'nope'\n"
    assert run("--batch-table", "nope", "show", "--batch-table", "DicomImportBatchTable", batch_id(1))[0] == 0
    code, _, err = run("--limit", "1", "show", batch_id(1))
    assert (code, err) == (2, "fastscp: options of the list go without show, or behind it (see fastscp jobs --help)\n")


def test_looking_writes_nothing_and_asks_for_what_is_documented(workflow: Workflow, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(workflow)
    workflow.marker(2)
    original = BaseClient._make_api_call
    asked: set[str] = set()

    def record(self: Any, operation: str, parameters: Any) -> Any:
        asked.add(f"{self.meta.service_model.service_name}:{operation}")
        return original(self, operation, parameters)

    monkeypatch.setattr(BaseClient, "_make_api_call", record)
    assert run("--json")[0] == 0
    assert run("--study", STUDY)[0] == 4
    assert run("show", batch_id(1))[0] == run("show", "job1")[0] == 0
    assert asked == {"dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query", "s3:ListObjectsV2", "s3:GetObject"}
    asked.clear()
    assert run("retry", batch_id(1))[0] == 0
    assert asked == {"dynamodb:GetItem", "dynamodb:UpdateItem", "stepfunctions:StartExecution"}
