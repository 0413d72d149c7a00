"""Tables, buckets and a state machine in moto, inside this process, and the rows that the workflow would have written."""

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from fastscp import cli, jobs
from fastscp.batches import Keys
from fastscp.batches.manifest import Entry, Manifest, encode_manifest
from fastscp.batches.marker import Marker, encode_marker
from fastscp.batches.times import utc
from fastscp.settings import JobsSettings

REGION = "eu-west-1"
STUDY = "1.2.840.1"
KEYS = Keys("p")


def batch_id(number: int) -> str:
    return f"{number:016x}-019abcdef012"


def at(second: int) -> str:
    return f"2020-01-15T{8 + second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.000Z"


def index(name: str, partition: str, sort: str) -> dict[str, Any]:
    keys = [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]
    return {"IndexName": name, "KeySchema": keys, "Projection": {"ProjectionType": "ALL"}}


class Workflow:
    """What the workflow keeps, as the tests want it."""

    def __init__(self) -> None:
        self.dynamodb = boto3.resource("dynamodb", REGION)
        self.s3 = boto3.client("s3", REGION)
        self.stepfunctions = boto3.client("stepfunctions", REGION)
        self.batches = self._table(
            "DicomImportBatchTable", "batchId", [index("byState", "state", "updatedAt"), index("byStudy", "studyInstanceUID", "closedAt")]
        )
        self.jobs = self._table("DicomImportJobTable", "jobId", [index("byBatch", "batchId", "submittedAt")])
        for bucket in ("images", "results"):
            self.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        machine = self.stepfunctions.create_state_machine(
            name="import",
            definition=json.dumps({"StartAt": "End", "States": {"End": {"Type": "Succeed"}}}),
            roleArn="arn:aws:iam::123456789012:role/states",
        )
        self.machine: str = machine["stateMachineArn"]

    def _table(self, name: str, key: str, indexes: list[dict[str, Any]]) -> Any:
        names = {key, *(one["AttributeName"] for found in indexes for one in found["KeySchema"])}
        return self.dynamodb.create_table(
            TableName=name,
            KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in sorted(names)],
            GlobalSecondaryIndexes=indexes,
            BillingMode="PAY_PER_REQUEST",
        )

    def batch(self, number: int, state: str = "DONE", **changes: Any) -> str:
        """Writes a row of a batch, and returns its id."""
        name = batch_id(number)
        row = {
            "batchId": name,
            "state": state,
            "attempt": 1,
            "source": "receiver",
            "studyInstanceUID": STUDY,
            "studyDate": "20200115",
            "callingAeTitles": ["MODALITY"],
            "calledAeTitles": ["FASTSCP"],
            "associationIds": ["association-1"],
            "instanceCount": 3,
            "totalBytes": 60,
            "closedBy": "worker",
            "closeReason": "quiet",
            "openedAt": at(number),
            "closedAt": at(number + 20),
            "receivedAt": at(number + 21),
            "updatedAt": at(number + 30),
            "manifestKey": KEYS.manifest(name),
        }
        if state in {"DONE", "IMPORTING", "FAILED"}:
            arn = self.machine.replace(":stateMachine:", ":execution:")
            row |= {"jobId": f"job{number}", "executionArn": f"{arn}:{name}-1", "startedAt": at(number + 22)}
        if state == "DONE":
            row |= {"importedCount": 3, "warningCount": 0, "failedCount": 0, "missingCount": 0, "unexpectedCount": 0, "nonPrimaryCount": 0}
        if state in {"DONE", "FAILED"}:
            row |= {"endedAt": at(number + 30)}
        row |= changes
        self.batches.put_item(Item={key: value for key, value in row.items() if value is not None})
        return name

    def job(self, number: int, status: str = "COMPLETED", attempt: int = 1, **changes: Any) -> str:
        """Writes a row of a job of that batch, and returns its id."""
        name = batch_id(number)
        row = {
            "jobId": f"job{number}" if attempt == 1 else f"job{number}again{attempt}",
            "jobStatus": status,
            "batchId": name,
            "attempt": attempt,
            "submittedAt": at(number + 22 + attempt),
            "inputS3Uri": f"s3://images/{KEYS.instances(name)}",
            "outputS3Uri": f"s3://results/r/output/{name}/{attempt}/",
            "datastoreId": "d" * 32,
            "studyInstanceUID": STUDY,
        }
        row |= changes
        self.jobs.put_item(Item=row)
        return str(row["jobId"])

    def result(self, number: int, of_attempt: int = 1, **changes: Any) -> None:
        """Writes the result object of that attempt."""
        name = batch_id(number)
        result = {
            "version": 1,
            "batchId": name,
            "attempt": of_attempt,
            "jobId": f"job{number}",
            "jobStatus": "COMPLETED",
            "message": "",
            "counts": {"imported": 1, "warned": 0, "failed": 1, "missing": 1, "unexpected": 0, "nonPrimary": 0},
            "imageSets": [],
            "failed": [],
            "warned": [],
            "missing": [],
            "unexpected": [],
            "nonPrimary": [],
        }
        self.s3.put_object(Bucket="results", Key=f"r/results/{name}/{of_attempt}.json", Body=json.dumps(result | changes))

    def manifest(self, number: int, study: str, instances: list[int]) -> None:
        """Writes the manifest of a batch with these instances."""
        name = batch_id(number)
        uids = [f"{study}.1.{instance}" for instance in instances]
        entries = [Entry(sop_instance_uid=uid, key=KEYS.instance(name, study, f"{study}.1", uid), size=10, crc64nvme=None) for uid in uids]
        manifest = Manifest(
            batch_id=name,
            owner="worker",
            closed_by="worker",
            close_reason="quiet",
            opened_at=utc(1_800_000_000),
            closed_at=utc(1_800_000_020),
            study_instance_uid=study,
            study_date=None,
            series_instance_uids=(f"{study}.1",),
            calling_ae_titles=("MODALITY",),
            called_ae_titles=("FASTSCP",),
            association_ids=("association-1",),
            instance_count=len(entries),
            total_bytes=10 * len(entries),
            instances=tuple(entries),
        )
        self.s3.put_object(Bucket="images", Key=KEYS.manifest(name), Body=encode_manifest(manifest))

    def marker(self, number: int, study: str = STUDY) -> None:
        """Writes the marker of an open batch."""
        marker = Marker(
            batch_id=batch_id(number),
            owner="worker",
            opened_at=utc(1_800_000_000),
            expires_at=utc(1_800_000_120),
            lease_seconds=120,
            put_deadline_seconds=60,
            study_instance_uid=study,
            study_date=None,
            calling_ae_titles=("MODALITY",),
            called_ae_titles=("FASTSCP",),
            association_ids=("association-1",),
        )
        self.s3.put_object(Bucket="images", Key=KEYS.marker(batch_id(number)), Body=encode_marker(marker))


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in list(os.environ):
        if variable.startswith(("FASTSCP_", "AWS_")):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)


@pytest.fixture(scope="session")
def session() -> boto3.Session:
    """Reading the services' models takes longer than most tests."""
    return boto3.Session(region_name=REGION)


@pytest.fixture
def workflow(environment: None, session: boto3.Session, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workflow]:
    monkeypatch.setattr(boto3, "Session", lambda region_name=None: session)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", session)
    with mock_aws():
        # Rows that belong to the workflow itself are there always, and are never shown.
        made = Workflow()
        made.batches.put_item(Item={"batchId": "#starts", "nextStartAt": 1_800_000_000_000})
        made.batches.put_item(Item={"batchId": f"#study/{STUDY}", "owner": "x-1", "expiresAt": at(0)})
        yield made


@pytest.fixture
def aws(workflow: Workflow) -> jobs.Aws:
    return jobs.Aws(JobsSettings())


@pytest.fixture
def tables(aws: jobs.Aws) -> jobs.Tables:
    return jobs.Tables(aws, JobsSettings())


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `fastscp jobs` in this process: exit code, stdout, stderr."""

    def run_command(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(["jobs", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_command
