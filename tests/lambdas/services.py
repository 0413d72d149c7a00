"""AWS for the functions: S3 and DynamoDB by moto in this process, HealthImaging and Step Functions by models of what is documented."""

import functools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlencode

import boto3
from botocore.config import Config
from botocore.exceptions import ReadTimeoutError

Answer = tuple[SimpleNamespace, dict[str, Any]]

REGION = "us-east-1"
DATASTORE_ID = "0123456789abcdef0123456789abcdef"
STATE_MACHINE_ARN = f"arn:aws:states:{REGION}:123456789012:stateMachine:import"
JOB_S = 30.0


class Clock:
    """A clock that goes on by being waited on."""

    def __init__(self) -> None:
        self.now_s = time.time()
        self._lock = threading.Lock()

    def now(self) -> float:
        return self.now_s

    def sleep(self, for_s: float) -> None:
        with self._lock:
            self.now_s += for_s


def answer(body: dict[str, Any]) -> Answer:
    return SimpleNamespace(status_code=200), body | {"ResponseMetadata": {"HTTPStatusCode": 200}}


def refusal(code: str, status: int) -> Answer:
    body = {"Error": {"Code": code, "Message": "as injected"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return SimpleNamespace(status_code=status), body


@dataclass
class Imaging:
    """HealthImaging's import jobs: tokens that are forgotten, throttle, quota, and outputs as documented.

    Attributes:
        outcome: of one key: None where it is imported, or the words of its failure.
        statuses: how jobs end, by name, where they do not end COMPLETED.
        order: of the list of jobs, which is not documented.
    """

    clock: Clock
    s3: Any = None
    token_memory_s: float = 600.0
    rate_per_s: float = 0.0
    most_jobs: int = 100
    job_s: float = JOB_S
    outcome: Callable[[str], str | None] = lambda _key: None
    order: Callable[[dict[str, Any]], Any] = lambda job: -job["submitted_s"]
    statuses: dict[str, str] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    _tokens: dict[str, tuple[str, float]] = field(default_factory=dict)
    _allowance: float = 2.0
    _allowed_at_s: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def call(self, model: Any, params: dict[str, Any], **_: Any) -> Answer:
        with self._lock:
            self.calls.append(model.name)
            parts = params["url_path"].strip("/").split("/")
            if model.name == "StartDICOMImportJob":
                return self._start(json.loads(params["body"]) | {"datastoreId": parts[-1]})
            if model.name == "GetDICOMImportJob":
                return self._get(parts[-1])
            return self._list(parse_qs(urlencode(params["query_string"])))

    def running(self) -> list[dict[str, Any]]:
        return [job for job in self.jobs.values() if self.clock.now() < job["ends_s"]]

    def _start(self, request: dict[str, Any]) -> Answer:
        now = self.clock.now()
        token = self._tokens.get(request["clientToken"])
        if token and now < token[1] + self.token_memory_s:
            return answer(self._summary(self.jobs[token[0]]))
        if self.rate_per_s:
            self._allowance = min(2.0, self._allowance + (now - self._allowed_at_s) * self.rate_per_s)
            self._allowed_at_s = now
            if self._allowance < 1:
                return refusal("ThrottlingException", 429)
            self._allowance -= 1
        if len(self.running()) >= self.most_jobs:
            return refusal("ServiceQuotaExceededException", 402)
        job_id = f"{len(self.jobs):032x}"
        self.jobs[job_id] = request | {"jobId": job_id, "submitted_s": now, "ends_s": now + self.job_s, "written": False}
        self._tokens[request["clientToken"]] = (job_id, now)
        return answer(self._summary(self.jobs[job_id]))

    def _status(self, job: dict[str, Any]) -> str:
        now = self.clock.now()
        if now < job["submitted_s"] + self.job_s / 4:
            return "SUBMITTED"
        if now < job["ends_s"]:
            return "IN_PROGRESS"
        return self.statuses.get(job["jobName"], "COMPLETED")

    def _summary(self, job: dict[str, Any]) -> dict[str, Any]:
        status = self._status(job)
        names = ("jobId", "jobName", "datastoreId", "dataAccessRoleArn")
        ended = {"endedAt": datetime.fromtimestamp(job["ends_s"], UTC)} if status in ("COMPLETED", "FAILED") else {}
        said = {"message": "the job failed as a whole"} if status == "FAILED" else {}
        return (
            {n: job[n] for n in names}
            | {"jobStatus": status, "submittedAt": datetime.fromtimestamp(job["submitted_s"], UTC)}
            | ended
            | said
        )

    def _get(self, job_id: str) -> Answer:
        if job_id not in self.jobs:
            return refusal("ResourceNotFoundException", 404)
        job = self.jobs[job_id]
        summary = self._summary(job)
        if summary["jobStatus"] == "COMPLETED" and not job["written"]:
            job["written"] = True
            self._write(job)
        return answer({"jobProperties": summary | {n: job[n] for n in ("inputS3Uri", "outputS3Uri")}})

    def _list(self, query: dict[str, list[str]]) -> Answer:
        jobs = sorted(self.jobs.values(), key=self.order)
        begin, most = int(query.get("nextToken", ["0"])[0]), int(query.get("maxResults", ["50"])[0])
        page = {"jobSummaries": [self._summary(job) for job in jobs[begin : begin + most]]}
        return answer(page | ({"nextToken": str(begin + most)} if begin + most < len(jobs) else {}))

    def _write(self, job: dict[str, Any]) -> None:
        bucket, _, prefix = job["inputS3Uri"].removeprefix("s3://").partition("/")
        to_bucket, _, to = job["outputS3Uri"].removeprefix("s3://").partition("/")
        folder = f"{to}{job['datastoreId']}-DicomImport-{job['jobId']}/"
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [found["Key"] for page in pages for found in page.get("Contents", ())]
        image_set = f"{job['jobId'][:31]}f"
        success = [
            f'{{"inputFile":"{key}","importResponse":{{"imageSetId":"{image_set}","isPrimary":True}}}}'
            for key in keys
            if self.outcome(key) is None
        ]
        failure = [
            json.dumps({"inputFile": key, "exception": {"exceptionType": "ValidationException", "message": words}})
            for key in keys
            if (words := self.outcome(key)) is not None
        ]
        for name, lines in (("SUCCESS/success", success), ("FAILURE/failure", failure)):
            if lines:
                self.s3.put_object(Bucket=to_bucket, Key=f"{folder}{name}.ndjson", Body="\n".join(lines).encode())
        sets = [{"imageSetId": image_set, "imageSetVersion": 1, "isPrimary": True, "numberOfMatchedSOPInstances": len(success)}]
        summary = {"jobSummary": {"jobId": job["jobId"], "imageSetsSummary": sets if success else []}}
        self.s3.put_object(Bucket=to_bucket, Key=f"{folder}job-output-manifest.json", Body=json.dumps(summary).encode())


@dataclass
class States:
    """The executions of one state machine: names that are there once, and what has become of each."""

    executions: dict[str, dict[str, Any]] = field(default_factory=dict)
    starts: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def call(self, model: Any, params: dict[str, Any], **_: Any) -> Answer:
        request = json.loads(params["body"])
        with self._lock:
            if model.name == "DescribeExecution":
                name = request["executionArn"].rpartition(":")[2]
                if name not in self.executions:
                    return refusal("ExecutionDoesNotExist", 400)
                return answer({"executionArn": request["executionArn"], "status": self.executions[name]["status"]})
            name = request["name"]
            self.starts[name] += 1
            known = self.executions.get(name)
            if known and (known["status"] != "RUNNING" or known["input"] != request["input"]):
                return refusal("ExecutionAlreadyExists", 400)
            self.executions.setdefault(name, {"input": request["input"], "status": "RUNNING"})
            arn = f"{STATE_MACHINE_ARN.replace('stateMachine', 'execution')}:{name}"
            return answer({"executionArn": arn, "startDate": datetime.now(UTC)})

    def waiting(self) -> list[str]:
        return [name for name, execution in self.executions.items() if execution["status"] == "RUNNING"]


@dataclass
class Faults:
    """Makes the n-th call of AWS fail, or its answer get lost.

    Attributes:
        at: which call, from 1; 0 for none.
        kind: `lost` and `twice` let the call happen; the others are errors that the service gives instead.
    """

    at: int = 0
    kind: str = ""
    until: int = 0
    count: int = 0
    names: list[str] = field(default_factory=list)
    active: bool = False

    ERRORS: ClassVar = {
        "throttled": ("ThrottlingException", 429),
        "quota": ("ServiceQuotaExceededException", 402),
        "conflict": ("ConflictException", 409),
        "broken": ("InternalServerException", 500),
        "replaced": ("PreconditionFailed", 412),
        "denied": ("AccessDeniedException", 403),
    }

    def begin(self, at: int, kind: str, until: int = 0) -> None:
        self.at, self.kind, self.until, self.count, self.names, self.active = at, kind, until, 0, [], True

    def end(self) -> list[str]:
        self.active = False
        return self.names

    def _hit(self) -> bool:
        return self.active and self.at <= self.count <= max(self.at, self.until) and self.at > 0

    def before(self, model: Any, **_: Any) -> Answer | None:
        if not self.active:
            return None
        self.count += 1
        self.names.append(model.name)
        return refusal(*self.ERRORS[self.kind]) if self._hit() and self.kind in self.ERRORS else None

    def after(self, model: Any, **_: Any) -> None:
        if self._hit() and self.kind == "lost":
            raise ReadTimeoutError(endpoint_url=model.name)


def create_tables(client: Any) -> None:
    def table(name: str, key: str, indexes: list[tuple[str, str, str]]) -> None:
        attributes = {key, *(a for _, hash_key, range_key in indexes for a in (hash_key, range_key))}
        client.create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": attribute, "AttributeType": "S"} for attribute in sorted(attributes)],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": index,
                    "KeySchema": [{"AttributeName": h, "KeyType": "HASH"}, {"AttributeName": r, "KeyType": "RANGE"}],
                    "Projection": {"ProjectionType": "ALL"},
                }
                for index, h, r in indexes
            ],
        )

    table("batches", "batchId", [("byState", "state", "updatedAt"), ("byStudy", "studyInstanceUID", "closedAt")])
    table("jobs", "jobId", [("byBatch", "batchId", "submittedAt")])


@dataclass
class Services:
    """Clients of AWS, made once because that takes long, and what stands behind them in the world of the moment."""

    imaging_model: Imaging | None = None
    states_model: States | None = None
    faults: Faults | None = None

    def __post_init__(self) -> None:
        self.s3, self.dynamodb, self.states = self._client("s3"), self._client("dynamodb"), self._client("stepfunctions")
        self.imaging, self.starts = self._client("medical-imaging"), self._client("medical-imaging")
        self.own_s3 = self._client("s3")
        self.states.meta.events.register("before-call.sfn", lambda **call: self.states_model.call(**call))
        for client in (self.imaging, self.starts):
            client.meta.events.register("before-call.medical-imaging", lambda **call: self.imaging_model.call(**call))
        # DynamoDB changes an item as one step, moto in several.
        lock = threading.Lock()
        events = self.dynamodb.meta.events
        events.register_first("before-call.dynamodb", lambda **_: lock.acquire() and None)
        for end in ("after-call", "after-call-error"):
            events.register_first(f"{end}.dynamodb", lambda **_: lock.release())
        for client in (self.s3, self.dynamodb, self.states, self.imaging, self.starts):
            service = client.meta.service_model.service_id.hyphenize()
            # Before the models, which answer, and moto.
            client.meta.events.register_first(f"before-call.{service}", lambda **call: self.faults.before(**call))
            client.meta.events.register_last(f"after-call.{service}", lambda **call: self.faults.after(**call))

    def _client(self, service: str) -> Any:
        session = boto3.session.Session(region_name=REGION, aws_access_key_id="AKIAIOSFODNN7EXAMPLE", aws_secret_access_key="secret")
        return session.client(service, config=Config(max_pool_connections=60))


@functools.cache
def services() -> Services:
    return Services()
