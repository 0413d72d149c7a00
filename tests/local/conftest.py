"""The emulator of HealthImaging on a clock that stands still until a test moves it, and an AWS to put it in."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastscp.local.healthimaging import Clock, HealthImaging, Limits
from fastscp.local.objects import EmbeddedObjects
from fastscp.local.server import Server
from fastscp.local.wiring import client
from tests.local.support import INPUT_BUCKET, OUTPUT_BUCKET, ROLE, reset
from tests.peers.server import wait_until


class HandClock(Clock):
    """Time passes when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._now_s = 1_800_000_000.0

    def now_s(self) -> float:
        with self._lock:
            return self._now_s

    def real_s(self, emulated_s: float) -> float:
        # How often the thread of the jobs looks again.
        return 0.01

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._now_s += seconds


class Service:
    """The emulator behind HTTP, with a data store, and S3 beside it."""

    def __init__(self, server: Server, limits: Limits) -> None:
        self.clock = HandClock()
        self.emulator = HealthImaging(EmbeddedObjects(), limits=limits, clock=self.clock, seed=1)
        self.server = server
        self.server.healthimaging = self.emulator
        self.emulator.start()
        self.imaging = self.client("medical-imaging")
        self.s3 = self.client("s3")
        for bucket in (INPUT_BUCKET, OUTPUT_BUCKET):
            self.s3.create_bucket(Bucket=bucket)
        self.datastore_id = self.emulator.add_datastore("test")

    def client(self, service: str, **config: Any) -> Any:
        """A client that neither repeats nor checks anything."""
        return client(service, self.server.url, parameter_validation=False, retries={"total_max_attempts": 1}, **config)

    def start_job(self, token: str, prefix: str = "in/", **changes: Any) -> dict[str, Any]:
        request = {
            "datastoreId": self.datastore_id,
            "dataAccessRoleArn": ROLE,
            "clientToken": token,
            "jobName": token,
            "inputS3Uri": f"s3://{INPUT_BUCKET}/{prefix}",
            "outputS3Uri": f"s3://{OUTPUT_BUCKET}/out/",
            **changes,
        }
        answer: dict[str, Any] = self.imaging.start_dicom_import_job(
            **{name: value for name, value in request.items() if value is not None}
        )
        return answer

    def job(self, job_id: str) -> dict[str, Any]:
        properties: dict[str, Any] = self.imaging.get_dicom_import_job(datastoreId=self.datastore_id, jobId=job_id)["jobProperties"]
        return properties

    def run_job(self, token: str, prefix: str = "in/") -> dict[str, Any]:
        """Start a job and let time pass until it has ended."""
        job_id = self.start_job(token, prefix)["jobId"]

        def ended() -> bool:
            self.clock.advance(1)
            return self.emulator.jobs.get(self.datastore_id, job_id).status in ("COMPLETED", "FAILED")

        wait_until(ended, f"job {token} ends")
        return self.job(job_id)

    def put(self, key: str, content: bytes) -> None:
        self.s3.put_object(Bucket=INPUT_BUCKET, Key=key, Body=content)

    def close(self) -> None:
        self.emulator.stop()
        reset(self.server.url)


OpenService = Callable[..., Service]


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """Its HealthImaging is that of the test that runs."""
    server = Server(HealthImaging(EmbeddedObjects()))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def open_service(server: Server) -> Iterator[OpenService]:
    opened: list[Service] = []

    def open_one(**limits: Any) -> Service:
        opened.append(Service(server, Limits(**limits)))
        return opened[-1]

    yield open_one
    for service in opened:
        service.close()


@pytest.fixture
def service(open_service: OpenService) -> Service:
    return open_service()
