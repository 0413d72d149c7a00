"""HealthImaging's import jobs on a virtual clock: throttle, quotas, and jobs that take their time.

Enters: the calls of the functions. Leaves: answers, or the errors of the service. Never: a start that its quotas do not permit.

https://docs.aws.amazon.com/healthimaging/latest/devguide/throttling-limits.html
https://docs.aws.amazon.com/healthimaging/latest/devguide/endpoints-quotas.html
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

STARTS_PER_S, START_BURST = 1.0, 2
GETS_PER_S, GET_BURST = 25.0, 50
CONCURRENT_JOBS = 100
FILES_PER_JOB = 5_000
BYTES_PER_JOB = 10_000_000_000


class Throttle:
    """So many requests a second, and so many at once."""

    def __init__(self, rate_per_s: float, burst: int) -> None:
        self._rate_per_s, self._burst = rate_per_s, burst
        self._tokens, self._at_s = float(burst), 0.0

    def passes(self, now_s: float) -> bool:
        """Whether a request may pass now."""
        self._tokens = min(self._burst, self._tokens + (now_s - self._at_s) * self._rate_per_s)
        self._at_s = now_s
        # The clock's last digits must not cost a request its turn.
        if self._tokens < 1 - 1e-6:
            return False
        self._tokens -= 1
        return True


@dataclass
class ImportJob:
    """A job, and when it is over."""

    job_id: str
    name: str
    output_uri: str
    submitted_s: float
    ended_s: float


class HealthImaging:
    """The client of the service, as far as the functions call it.

    Args:
        now: seconds on the virtual clock.
        epoch_s: seconds since the epoch at its beginning.
        size_of: files and bytes under an input URI.
        duration_of: seconds that the job of this name takes for so many files.
    """

    def __init__(
        self,
        now: Callable[[], float],
        epoch_s: float,
        size_of: Callable[[str], tuple[int, int]],
        duration_of: Callable[[str, int], float],
    ) -> None:
        self._now, self._epoch_s, self._size_of, self._duration_of = now, epoch_s, size_of, duration_of
        self._starts, self._gets = Throttle(STARTS_PER_S, START_BURST), Throttle(GETS_PER_S, GET_BURST)
        self.jobs: dict[str, ImportJob] = {}
        self._by_token: dict[str, ImportJob] = {}
        self._running: list[float] = []
        self.refusals: dict[str, int] = {}
        self.most_at_once = 0

    def _refuse(self, action: str, code: str, status: int) -> ClientError:
        self.refusals[f"{action} {status}"] = self.refusals.get(f"{action} {status}", 0) + 1
        return ClientError({"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": status}}, action)  # type: ignore[typeddict-item]

    def start_dicom_import_job(self, **request: Any) -> dict[str, Any]:
        """StartDICOMImportJob."""
        now = self._now()
        if not self._starts.passes(now):
            raise self._refuse("StartDICOMImportJob", "ThrottlingException", 429)
        name = request["clientToken"]
        job = self._by_token.get(name)
        if job is None:
            while self._running and self._running[0] <= now:
                heapq.heappop(self._running)
            files, size_bytes = self._size_of(request["inputS3Uri"])
            if len(self._running) >= CONCURRENT_JOBS or files > FILES_PER_JOB or size_bytes > BYTES_PER_JOB:
                raise self._refuse("StartDICOMImportJob", "ServiceQuotaExceededException", 402)
            job = ImportJob(f"{len(self.jobs):032x}", name, request["outputS3Uri"], now, now + self._duration_of(name, files))
            self.jobs[job.job_id] = self._by_token[name] = job
            heapq.heappush(self._running, job.ended_s)
            self.most_at_once = max(self.most_at_once, len(self._running))
        return {"jobId": job.job_id, "jobStatus": "SUBMITTED", "submittedAt": self._time(job.submitted_s)}

    def get_dicom_import_job(self, *, datastoreId: str, jobId: str) -> dict[str, Any]:
        """GetDICOMImportJob."""
        if not self._gets.passes(self._now()):
            raise self._refuse("GetDICOMImportJob", "ThrottlingException", 429)
        job = self.jobs[jobId]
        properties = {
            "jobId": job.job_id,
            "jobName": job.name,
            "datastoreId": datastoreId,
            "outputS3Uri": job.output_uri,
            "submittedAt": self._time(job.submitted_s),
        }
        if job.ended_s <= self._now():
            properties |= {"jobStatus": "COMPLETED", "endedAt": self._time(job.ended_s)}
        else:
            properties |= {"jobStatus": "IN_PROGRESS"}
        return {"jobProperties": properties}

    def _time(self, at_s: float) -> datetime:
        return datetime.fromtimestamp(self._epoch_s + at_s, UTC)
