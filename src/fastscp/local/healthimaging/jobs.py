"""Import jobs: taken in, carried out one step at a time, remembered.

Enters: requests to start, and the time. Leaves: jobs with their states, image sets, output files. Never: two jobs for one clientToken
that is remembered, a job that ends before its output is written.
"""

import heapq
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from fastscp.local.healthimaging.clock import Clock
from fastscp.local.healthimaging.errors import ServiceError
from fastscp.local.healthimaging.image_sets import ImageSets
from fastscp.local.healthimaging.instance import Imported, NotImportable, read_instance
from fastscp.local.healthimaging.limits import Limits
from fastscp.local.healthimaging.output import Outcome, output_files, output_folder
from fastscp.local.objects import Stored

ENDED = ("COMPLETED", "FAILED")


class Objects(Protocol):
    """What the service does with S3."""

    def has_bucket(self, bucket: str) -> bool: ...
    def listing(self, bucket: str, prefix: str) -> Iterator[Stored]: ...
    def read(self, bucket: str, key: str) -> bytes: ...
    def write(self, bucket: str, key: str, content: bytes) -> None: ...


@dataclass
class Job:
    """One import job. Times are seconds since the epoch, by the emulator's clock."""

    job_id: str
    datastore_id: str
    request: dict[str, Any]
    submitted_at_s: float
    status: str = "SUBMITTED"
    ended_at_s: float | None = None
    message: str = ""

    @property
    def name(self) -> str:
        return str(self.request.get("jobName", self.job_id))


def bucket_and_prefix(uri: str) -> tuple[str, str]:
    """Of an S3 URI that the model's pattern has accepted."""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    return bucket, prefix


class Jobs:
    """The jobs of all data stores, and the thread that carries them out. Thread-safe.

    Args:
        image_sets: of a data store.
        new_ids: where ids come from.
    """

    def __init__(
        self,
        objects: Objects,
        clock: Clock,
        limits: Limits,
        image_sets: Callable[[str], ImageSets],
        new_ids: Iterator[str],
        lock: threading.RLock,
    ) -> None:
        self._objects = objects
        self._clock = clock
        self._limits = limits
        self._image_sets = image_sets
        self._new_ids = new_ids
        self._lock = lock
        self._changed = threading.Condition(lock)
        self._jobs: dict[str, Job] = {}
        self._tokens: dict[tuple[str, str], Job] = {}
        self._due: list[tuple[float, int, Job]] = []
        self._number = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="healthimaging-jobs", daemon=True)

    def start_thread(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End after the step under way. Jobs that have not ended stay as they are."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def start(self, request: dict[str, Any]) -> Job:
        """StartDICOMImportJob. Raises ServiceError."""
        datastore_id, token = request["datastoreId"], request["clientToken"]
        with self._changed:
            now_s = self._clock.now_s()
            known = self._tokens.get((datastore_id, token))
            if known is not None and now_s < known.submitted_at_s + self._limits.token_memory_s:
                if known.request != request:
                    raise ServiceError("ConflictException", f"clientToken {token} was used with other parameters")
                return known
            running = sum(1 for job in self._jobs.values() if job.datastore_id == datastore_id and job.status not in ENDED)
            if running >= self._limits.concurrent_jobs:
                raise ServiceError("ServiceQuotaExceededException", f"{running} import jobs are running in data store {datastore_id}")
            self._check_input(request)
            job = Job(next(self._new_ids), datastore_id, request, now_s)
            self._jobs[job.job_id] = job
            self._tokens[datastore_id, token] = job
            self._schedule(job, self._limits.submitted_s)
            return job

    def _check_input(self, request: dict[str, Any]) -> None:
        bucket, prefix = bucket_and_prefix(request["inputS3Uri"])
        for needed in (bucket, bucket_and_prefix(request["outputS3Uri"])[0]):
            if not self._objects.has_bucket(needed):
                raise ServiceError("AccessDeniedException", f"{request['dataAccessRoleArn']} cannot access bucket {needed}")
        listing = list(self._objects.listing(bucket, prefix))
        if len(listing) > self._limits.job_files:
            raise ServiceError("ServiceQuotaExceededException", f"{len(listing)} files are more than {self._limits.job_files}")
        total_bytes = sum(stored.size_bytes for stored in listing)
        if total_bytes > self._limits.job_bytes:
            raise ServiceError("ServiceQuotaExceededException", f"{total_bytes} bytes are more than {self._limits.job_bytes}")

    def get(self, datastore_id: str, job_id: str) -> Job:
        """GetDICOMImportJob. Raises ServiceError."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is None or job.datastore_id != datastore_id:
                raise ServiceError("ResourceNotFoundException", f"there is no import job {job_id}")
            return job

    def newest_first(self, datastore_id: str, status: str | None = None) -> list[Job]:
        """ListDICOMImportJobs, the newest first."""
        with self._lock:
            jobs = [job for job in self._jobs.values() if job.datastore_id == datastore_id and status in (None, job.status)]
        return sorted(jobs, key=lambda job: job.submitted_at_s, reverse=True)

    def every(self) -> list[Job]:
        """All jobs, in the order of their start."""
        with self._lock:
            return list(self._jobs.values())

    def restore(self, jobs: Iterable[Job]) -> None:
        """Take over jobs; those that have not ended are carried out from their beginning."""
        with self._changed:
            for job in jobs:
                self._jobs[job.job_id] = job
                if job.status not in ENDED:
                    job.status = "SUBMITTED"
                    self._schedule(job, self._limits.submitted_s)

    def _schedule(self, job: Job, delay_s: float) -> None:
        self._number += 1
        heapq.heappush(self._due, (self._clock.now_s() + delay_s, self._number, job))
        self._changed.notify_all()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            if job.status == "SUBMITTED":
                bucket, prefix = bucket_and_prefix(job.request["inputS3Uri"])
                files = sum(1 for _ in self._objects.listing(bucket, prefix))
                with self._changed:
                    job.status = "IN_PROGRESS"
                    self._schedule(job, self._limits.in_progress_s + files * self._limits.file_s)
            else:
                self._carry_out(job)

    def _next(self) -> Job | None:
        with self._changed:
            while not self._stopping:
                now_s = self._clock.now_s()
                if self._due and self._due[0][0] <= now_s:
                    return heapq.heappop(self._due)[2]
                self._changed.wait(self._clock.real_s(self._due[0][0] - now_s) if self._due else None)
        return None

    def _carry_out(self, job: Job) -> None:
        input_uri, output_uri = job.request["inputS3Uri"], job.request["outputS3Uri"]
        bucket, prefix = bucket_and_prefix(input_uri)
        read = [(stored.key, self._read(bucket, stored)) for stored in self._objects.listing(bucket, prefix)]
        if not read:
            self._end(job, "FAILED", f"no files under {input_uri}")
            return
        with self._lock:
            instances = [one for _, one in read if isinstance(one, Imported)]
            placed = iter(self._image_sets(job.datastore_id).place(instances, self._new_ids, self._clock.now_s()))
            outcomes = []
            for key, one in read:
                if isinstance(one, Imported):
                    image_set = next(placed)
                    outcomes.append(Outcome(key, image_set, image_set.version, one.warnings))
                else:
                    outcomes.append(Outcome(key, failure=one))
        out_bucket, out_prefix = bucket_and_prefix(output_folder(output_uri, job.datastore_id, job.job_id))
        files = output_files(outcomes, job_id=job.job_id, datastore_id=job.datastore_id, input_uri=input_uri, output_uri=output_uri)
        try:
            for name, content in files:
                self._objects.write(out_bucket, out_prefix + name, content)
        except KeyError:
            self._end(job, "FAILED", f"cannot write to {output_uri}")
            return
        self._end(job, "COMPLETED", "")

    def _read(self, bucket: str, stored: Stored) -> Imported | str:
        if stored.size_bytes > self._limits.file_bytes:
            return f"the file has more than {self._limits.file_bytes} bytes"
        try:
            return read_instance(self._objects.read(bucket, stored.key))
        except NotImportable as reason:
            return str(reason)
        except KeyError:
            return "the object is gone"

    def _end(self, job: Job, status: str, message: str) -> None:
        with self._lock:
            job.status, job.message, job.ended_at_s = status, message, self._clock.now_s()
