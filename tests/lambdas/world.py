"""A store, its tables and the functions, with a receiver that puts batches there."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote_plus

from moto import mock_aws

from check_status.check import check
from fastscp.batches import Keys
from fastscp.batches.manifest import Entry, Manifest, encode_manifest
from fastscp.batches.times import utc
from importflow.settings import load
from importflow.workflow import Clients, Workflow
from start_import_job.start import start_job
from sweep_batches.handler import sweep
from tests.lambdas.machine import Machine
from tests.lambdas.services import DATASTORE_ID, STATE_MACHINE_ARN, Clock, Faults, Imaging, States, create_tables, services
from trigger_import.handler import dispatch

ENVIRONMENT = {
    "DICOM_BUCKET": "dicom",
    "DICOM_PREFIX": "hospital",
    "RESULTS_BUCKET": "results",
    "RESULTS_PREFIX": "imports",
    "BATCH_TABLE": "batches",
    "JOB_TABLE": "jobs",
    "DATASTORE_ID": DATASTORE_ID,
    "DATA_ACCESS_ROLE_ARN": "arn:aws:iam::123456789012:role/import",
    "STATE_MACHINE_ARN": STATE_MACHINE_ARN,
}
KEYS = Keys("hospital")
BATCH_ID = "00112233445566aa-019abcdef012"
STUDY = "1.2"


def batch_id(number: int) -> str:
    return f"{number:016x}-019abcdef012"


class World:
    def __init__(self, **environment: str) -> None:
        self.clock = Clock()
        aws = services()
        self.s3, self.dynamodb = aws.s3, aws.dynamodb
        self.imaging = aws.imaging_model = Imaging(self.clock, aws.own_s3)
        self.states = aws.states_model = States()
        self.faults = aws.faults = Faults()
        for bucket in ("dicom", "results"):
            self.s3.create_bucket(Bucket=bucket)
        create_tables(self.dynamodb)
        clients = Clients(aws.s3, aws.dynamodb, aws.states, aws.imaging, aws.starts)
        self.workflow = Workflow(load(ENVIRONMENT | environment), clients, self.clock.now, self.clock.sleep)
        functions = {
            "${TriggerImportFunctionArn}": lambda event: dispatch(self.workflow, event),
            "${StartImportJobFunctionArn}": lambda event: start_job(self.workflow, event["batchId"], event["attempt"]),
            "${CheckStatusFunctionArn}": lambda event: check(self.workflow, event["batchId"], event["attempt"]),
        }
        self.machine = Machine(functions, self.clock)

    def receive(self, number: int = 0, *, instances: int = 2, study: str = STUDY, closed_s: float = 0.0, marker: bool = True) -> str:
        """Objects, marker and manifest of a batch, as a receiver writes them. Returns its id."""
        name = batch_id(number) if number else BATCH_ID
        entries = tuple(
            Entry(sop_instance_uid=f"1.2.1.{n}", key=KEYS.instance(name, study, "1.2.1", f"1.2.1.{n}"), size=4, crc64nvme="AAAAAAAAAAA=")
            for n in range(1, instances + 1)
        )
        entries = tuple(sorted(entries, key=lambda entry: entry.key))
        for entry in entries:
            self.put(entry.key, b"DICM")
        closed = utc(closed_s or self.clock.now())
        manifest = Manifest(
            batch_id=name,
            owner="worker",
            closed_by="worker",
            close_reason="quiet",
            opened_at=closed,
            closed_at=closed,
            study_instance_uid=study,
            study_date="20260101",
            series_instance_uids=("1.2.1",),
            calling_ae_titles=("MODALITY",),
            called_ae_titles=("FASTSCP",),
            association_ids=("association-1",),
            instance_count=len(entries),
            total_bytes=4 * len(entries),
            instances=entries,
        )
        if marker:
            self.put(KEYS.marker(name), b"{}")
        self.put(KEYS.manifest(name), encode_manifest(manifest))
        return name

    def put(self, key: str, data: bytes, bucket: str = "dicom") -> None:
        with self.without_faults():
            self.s3.put_object(Bucket=bucket, Key=key, Body=data)

    def keys(self, prefix: str = "", bucket: str = "dicom") -> list[str]:
        with self.without_faults():
            pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            return [found["Key"] for page in pages for found in page.get("Contents", ())]

    def json(self, key: str, bucket: str = "results") -> Any:
        with self.without_faults():
            return json.loads(self.s3.get_object(Bucket=bucket, Key=key)["Body"].read())

    def row(self, name: str = BATCH_ID) -> dict[str, Any]:
        with self.without_faults():
            return self.workflow.batches.get(name) or {}

    def job_row(self, job_id: str) -> dict[str, Any]:
        with self.without_faults():
            return self.workflow.jobs.get(job_id) or {}

    def held(self, study: str = STUDY) -> list[str]:
        """The lock of the study and the places that are taken."""
        with self.without_faults():
            lock = self.workflow.batches.get(f"#study/{study}")
            places = self.workflow.batches.get("#jobs") or {}
        return ([f"lock of {lock['owner']}"] if lock else []) + sorted(places.get("names", ()))

    def forget(self, name: str) -> None:
        """Remove a batch's row and its study's lock: moto takes longer, the more there is."""
        study = self.row(name)["studyInstanceUID"]
        for key in (name, f"#study/{study}"):
            self.dynamodb.delete_item(TableName="batches", Key={"batchId": {"S": key}})

    def event(self, *keys: str, bucket: str = "dicom") -> dict[str, Any]:
        """One SQS message for each key, as S3 writes it."""
        return {"Records": [message(str(n), s3_event(key, bucket)) for n, key in enumerate(keys)]}

    def trigger(self, *keys: str) -> list[str]:
        """Deliver events. Returns the messages that failed."""
        answer = dispatch(self.workflow, self.event(*keys))
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    def run_executions(self) -> None:
        """Run every execution that has been started, one after the other."""
        while names := self.states.waiting():
            execution = self.states.executions[names[0]]
            execution["status"] = self.machine.run(json.loads(execution["input"]))

    def import_batch(self, name: str) -> None:
        assert self.trigger(KEYS.manifest(name)) == []
        self.run_executions()

    def sweep(self) -> dict[str, Any]:
        return sweep(self.workflow, lambda: True)

    @contextmanager
    def without_faults(self) -> Iterator[None]:
        was, self.faults.active = self.faults.active, False
        try:
            yield
        finally:
            self.faults.active = was


def s3_event(key: str, bucket: str = "dicom", version: str | None = None) -> dict[str, Any]:
    named = {"key": quote_plus(key, safe="/"), "size": 1, "eTag": "0", "sequencer": "0"} | ({"versionId": version} if version else {})
    return {
        "Records": [
            {
                "eventVersion": "2.6",
                "eventSource": "aws:s3",
                "eventName": "ObjectCreated:Put",
                "s3": {"bucket": {"name": bucket}, "object": named},
            }
        ]
    }


def message(identifier: str, body: Any) -> dict[str, Any]:
    return {
        "messageId": identifier,
        "receiptHandle": "handle",
        "body": body if isinstance(body, str) else json.dumps(body),
        "attributes": {},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:imports",
        "awsRegion": "us-east-1",
    }


@contextmanager
def a_world(**environment: str) -> Iterator[World]:
    with mock_aws():
        logging.getLogger("botocore").setLevel(logging.WARNING)
        yield World(**environment)


__all__ = ["BATCH_ID", "KEYS", "STUDY", "World", "a_world", "batch_id", "message", "s3_event"]
