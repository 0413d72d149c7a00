"""A deployment that runs: what the templates resolve to, made in moto, with the functions behind queue, state machine and schedule.

Which bucket sends which events where, which function takes them, what a function has in its environment, what a table is called and
who is called by the state machine: all of it is read from the resolved templates and from nowhere else.
"""

import importlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple
from unittest.mock import patch

import boto3
from moto import mock_aws

from fastscp.batches import Keys
from fastscp.local import wiring
from fastscp.local.environment import Context
from fastscp.local.templates import Resolved
from importflow import workflow as workflow_module
from importflow.settings import load
from importflow.workflow import Clients, Workflow
from tests.lambdas.machine import Machine
from tests.lambdas.services import Clock, Imaging, States
from tests.templates.deployments import REGION, of_type

MOST_MESSAGES = 50


@cache
def session() -> Any:
    """One for all: it keeps the descriptions of the services, which take long to read."""
    return boto3.session.Session("AKIAIOSFODNN7EXAMPLE", "secret", region_name=REGION)


class Called(NamedTuple):
    """A call of AWS.

    Attributes:
        by: path of the role.
    """

    by: str
    service: str
    operation: str
    arguments: dict[str, Any]


class Deployment:
    def __init__(self, resolved: Resolved) -> None:
        self.resolved = resolved
        self.clock = Clock()
        self.calls: list[Called] = []
        self._role = ""
        self.s3, self.dynamodb, self._sqs = (self._client(service) for service in ("s3", "dynamodb", "sqs"))
        self.imaging, self.states = Imaging(self.clock, self._client("s3", "Workflow/DataAccessRole")), States()
        self._clients = Clients(*(self._client(s) for s in ("s3", "dynamodb", "stepfunctions", "medical-imaging", "medical-imaging")))
        self._clients.states.meta.events.register("before-call.stepfunctions", self.states.call)
        for client in (self._clients.imaging, self._clients.starts):
            client.meta.events.register("before-call.medical-imaging", self.imaging.call)
        self._create()
        substitutions = resolved.resources["Workflow/ImportStateMachine"].properties["DefinitionSubstitutions"]
        calls = {f"${{{name}}}": lambda event, arn=arn: self.invoke(arn, event) for name, arn in substitutions.items()}
        self._machine = Machine(calls, self.clock)

    def _client(self, service: str, role: str | None = None) -> Any:
        client: Any = session().client(service)

        def record(params: dict[str, Any], model: Any, **_: Any) -> None:
            if by := role or self._role:
                self.calls.append(Called(by, service, model.name, params))

        client.meta.events.register(f"provide-client-params.{service}.*", record)
        return client

    def _create(self) -> None:
        wiring.create_queues(self.resolved, self._sqs)
        wiring.create_tables(self.resolved, self.dynamodb)
        wiring.create_buckets(self.resolved, self.s3)
        for _, bucket in of_type(self.resolved, "AWS::S3::Bucket"):
            self.s3.put_bucket_versioning(Bucket=bucket.ref, VersioningConfiguration=bucket.properties["VersioningConfiguration"])

    def invoke(self, arn: str, event: Any) -> Any:
        """What Lambda does: the handler that the function names, with the environment that it has, under its role."""
        path, function = next(
            (path, function) for path, function in of_type(self.resolved, "AWS::Lambda::Function") if function.ref == arn.rpartition(":")[2]
        )
        properties = function.properties
        environment = {name: str(value) for name, value in properties["Environment"]["Variables"].items()}
        module, _, name = properties["Handler"].rpartition(".")
        handler = getattr(importlib.import_module(module), name)
        workflow_module._made[:] = [Workflow(load(environment), self._clients, self.clock.now, self.clock.sleep)]
        before, self._role = self._role, path.removesuffix("Function") + "Role"
        try:
            # Powertools reads there what its metrics are called.
            with patch.dict(os.environ, environment):
                answer = handler(json.loads(json.dumps(event)), Context(path, arn, "request", float(properties["Timeout"])))
            return json.loads(json.dumps(answer))
        finally:
            self._role = before
            workflow_module._made.clear()

    def deliver(self) -> int:
        """Hand the messages of every queue to the function behind it, as event source mappings do. Returns how many were taken."""
        taken = 0
        for _, mapping in of_type(self.resolved, "AWS::Lambda::EventSourceMapping"):
            name = mapping.properties["EventSourceArn"].rpartition(":")[2]
            url = self._sqs.get_queue_url(QueueName=name)["QueueUrl"]
            while messages := self._sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
                records = [self._record(message, mapping.properties["EventSourceArn"]) for message in messages]
                answer = self.invoke(mapping.properties["FunctionName"], {"Records": records})
                failed = {one["itemIdentifier"] for one in answer["batchItemFailures"]}
                for message in messages:
                    if message["MessageId"] not in failed:
                        self._sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                        taken += 1
                assert taken < MOST_MESSAGES
        return taken

    def _record(self, message: dict[str, Any], arn: str) -> dict[str, Any]:
        return {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": {},
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": arn,
            "awsRegion": REGION,
        }

    def run_executions(self) -> None:
        """Run what has been started, if it was started on the state machine of the templates."""
        machine = self.resolved.resources["Workflow/ImportStateMachine"].ref
        started = [call.arguments["stateMachineArn"] for call in self.calls if call.operation == "StartExecution"]
        assert set(started) <= {machine}, f"executions of {set(started)}"
        while names := self.states.waiting():
            execution = self.states.executions[names[0]]
            execution["status"] = self._machine.run(json.loads(execution["input"]))

    def tick(self) -> None:
        """What the schedule calls."""
        for _, schedule in of_type(self.resolved, "AWS::Scheduler::Schedule"):
            self.invoke(schedule.properties["Target"]["Arn"], json.loads(schedule.properties["Target"]["Input"]))

    @property
    def bucket(self) -> str:
        """Bucket and prefix that the receiver stores in, from its environment."""
        return self._store[0]

    @property
    def keys(self) -> Keys:
        return Keys(self._store[1])

    @property
    def _store(self) -> tuple[str, str]:
        container = self.resolved.resources["Receiver/TaskDefinition"].properties["ContainerDefinitions"][0]
        store = next(one["Value"] for one in container["Environment"] if one["Name"] == "FASTSCP_STORE")
        bucket, _, prefix = store.removeprefix("s3://").partition("/")
        return bucket, prefix

    def put(self, key: str, data: bytes) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=data)

    def objects(self, bucket: str, prefix: str = "") -> list[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", ())]

    def rows(self, table: str) -> list[dict[str, Any]]:
        """All rows of a table, but for control rows, with strings and numbers only."""
        items = self.dynamodb.scan(TableName=self.resolved.resources[f"Storage/{table}"].ref)["Items"]
        plain = [{name: next(iter(value.values())) for name, value in item.items()} for item in items]
        return [row for row in plain if not str(row.get("batchId", "")).startswith("#")]


@contextmanager
def running(resolved: Resolved) -> Iterator[Deployment]:
    with mock_aws():
        logging.getLogger("botocore").setLevel(logging.WARNING)
        yield Deployment(resolved)
