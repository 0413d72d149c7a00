"""Everything a function works with: settings, clients, clock, log, metrics.

Enters: the environment. Leaves: one object, made once for each process. Never: a service that is called while a module is imported.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from importflow.keys import Keys
from importflow.objects import Bucket
from importflow.settings import Settings, load
from importflow.table import Table

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_medical_imaging import HealthImagingClient
    from types_boto3_s3 import S3Client
    from types_boto3_stepfunctions import SFNClient

# A function is called again when it fails, so its clients do not have to be patient.
_USUAL = Config(connect_timeout=5, read_timeout=20, max_pool_connections=40, retries={"mode": "standard", "total_max_attempts": 3})
# StartDICOMImportJob is paced by us: a repetition inside the client would take somebody else's start slot.
_ONCE = Config(connect_timeout=5, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 1})


@dataclass(frozen=True)
class Clients:
    """The clients of the AWS SDK. `starts` is for StartDICOMImportJob alone."""

    s3: "S3Client"
    dynamodb: "DynamoDBClient"
    states: "SFNClient"
    imaging: "HealthImagingClient"
    starts: "HealthImagingClient"


@dataclass(frozen=True)
class Workflow:
    """What a function works with.

    Attributes:
        now: seconds since the epoch.
        sleep: waits for so many seconds.
    """

    settings: Settings
    clients: Clients
    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep

    @cached_property
    def keys(self) -> Keys:
        return Keys(self.settings.dicom_prefix)

    @cached_property
    def dicom(self) -> Bucket:
        return Bucket(self.clients.s3, self.settings.dicom_bucket)

    @cached_property
    def results(self) -> Bucket:
        return Bucket(self.clients.s3, self.settings.results_bucket)

    @cached_property
    def batches(self) -> Table:
        return Table(self.clients.dynamodb, self.settings.batch_table, "batchId")

    @cached_property
    def jobs(self) -> Table:
        return Table(self.clients.dynamodb, self.settings.job_table, "jobId")

    def poll_s(self, age_s: float) -> int:
        """Seconds to wait before looking again at something of this age: a sixth of it, within the bounds."""
        return int(min(max(self.settings.poll_min_s, age_s / 6), self.settings.poll_max_s))


def make_clients() -> Clients:
    """Clients from what boto3 reads (AWS_REGION, AWS_ENDPOINT_URL, credentials)."""
    session = boto3.session.Session()

    def client(service: Any, config: Config = _USUAL) -> Any:
        return session.client(service, config=config)

    return Clients(client("s3"), client("dynamodb"), client("stepfunctions"), client("medical-imaging"), client("medical-imaging", _ONCE))


_lock = threading.Lock()
_made: list[Workflow] = []


def current() -> Workflow:
    """The workflow of this process."""
    with _lock:
        if not _made:
            _made.append(Workflow(load(), make_clients()))
        return _made[0]
