"""Batches go through the workflow: its functions, its state machine, tables in memory, HealthImaging on a virtual clock.

Enters: batches and when they close. Leaves: when the job of each ended. Never: a result where an instance was not imported.
"""

import heapq
import json
import logging
import os
import random
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from benchmarks.capacity import machine, memory, service
from check_status.check import check
from importflow.accept import accept
from importflow.documents import Entry, Marker, encode_manifest
from importflow.objects import Listed
from importflow.observe import logger
from importflow.settings import Settings
from importflow.times import seconds as iso_seconds
from importflow.workflow import Clients, Workflow
from start_import_job.start import start_job
from trigger_import.handler import dispatch

EPOCH_S = 1_800_000_000.0
CALL_S = 0.2
"""Assumed for each call of a function."""
EVENT_S = 1.0
"""Assumed from the manifest's PUT to trigger_import: S3 says "typically seconds"."""
ACCEPTED_PER_S = 50.0
"""Assumed: manifests that trigger_import takes from the queue in a second."""

LISTED = 3
"""Instances that a batch's documents list at most: more would change no turn. HealthImaging is told the whole number."""

Duration = Callable[[str, int], float]
"""Seconds that the job of this name takes for so many files."""


class ClosedBatch(NamedTuple):
    """A batch, and when it closed, in seconds on the virtual clock."""

    study: int
    closed_s: float
    instance_count: int
    size_bytes: int


@dataclass
class Outcome:
    """What became of the batches.

    Attributes:
        ended_s: of each batch's job.
        refusals: errors of HealthImaging, by action and status.
        calls: of functions by executions.
    """

    ended_s: list[float]
    refusals: dict[str, int]
    most_at_once: int
    calls: int


def batch_id(number: int) -> str:
    """Id of a batch."""
    return f"{number:016x}-{int(EPOCH_S * 1000):012x}"


class _Bucket:
    """A bucket whose objects are made when they are read."""

    def __init__(self, objects: Callable[[str], bytes], listing: Callable[[str], Iterator[Listed]]) -> None:
        self._objects, self.list = objects, listing

    def get(self, key: str, largest_bytes: int) -> bytes | None:
        return self._objects(key)

    def lines(self, key: str) -> Iterator[bytes]:
        return iter(self._objects(key).splitlines())

    def put_json(self, key: str, document: Any) -> None:
        json.dumps(document)

    def delete(self, key: str) -> None:
        pass

    def copy(self, key: str, to: str, size_bytes: int) -> bool:
        return True


class _InMemory(Workflow):
    """The workflow of the functions, with tables and buckets in memory."""

    @cached_property
    def batches(self) -> memory.Table:  # type: ignore[override]
        return memory.Table("batchId", "studyInstanceUID")

    @cached_property
    def jobs(self) -> memory.Table:  # type: ignore[override]
        return memory.Table("jobId", "batchId")


_SETTINGS = Settings(
    dicom_bucket="dicom",
    dicom_prefix="",
    results_bucket="results",
    results_prefix="",
    batch_table="batches",
    job_table="jobs",
    datastore_id="d" * 32,
    data_access_role_arn="arn:aws:iam::123456789012:role/import",
    state_machine_arn="arn:aws:states:eu-west-1:123456789012:stateMachine:import",
    starts_per_second=service.STARTS_PER_S,
    concurrent_jobs=service.CONCURRENT_JOBS,
    poll_min_s=10,
    poll_max_s=60,
    stuck_after_s=300.0,
)


class _Executions:
    """Step Functions' client: remembers whom to start."""

    class exceptions:
        class ExecutionAlreadyExists(Exception):
            pass

    def __init__(self) -> None:
        self.started: list[dict[str, Any]] = []

    def start_execution(self, **request: Any) -> None:
        self.started.append(json.loads(request["input"]))


@dataclass
class _World:
    batches: list[ClosedBatch]
    duration: Duration
    jitter: random.Random
    now_s: float = 0.0
    calls: int = 0
    events: list[tuple[float, int, Generator[float, None, None]]] = field(default_factory=list)
    sequence: int = 0

    def __post_init__(self) -> None:
        self.number_of = {batch_id(number): number for number in range(len(self.batches))}
        self.imaging = service.HealthImaging(lambda: self.now_s, EPOCH_S, self._size_of, self.duration)
        self.executions = _Executions()
        nothing: Any = None
        clients = Clients(nothing, nothing, self.executions, self.imaging, self.imaging)  # type: ignore[arg-type]
        self.workflow = _InMemory(_SETTINGS, clients, lambda: EPOCH_S + self.now_s, self._sleep)
        dicom, results = _Bucket(self._dicom, self._list_dicom), _Bucket(self._results, self._list_results)
        self.workflow.__dict__ |= {"dicom": dicom, "results": results}
        self.definition = machine.load()
        self.functions = {
            "TriggerImportFunctionArn": self._called(lambda given: dispatch(self.workflow, given)),
            "StartImportJobFunctionArn": self._called(lambda given: start_job(self.workflow, given["batchId"], given["attempt"])),
            "CheckStatusFunctionArn": self._called(lambda given: check(self.workflow, given["batchId"], given["attempt"])),
        }

    def _called(self, function: machine.Function) -> machine.Function:
        def call(given: dict[str, Any]) -> Any:
            self.calls += 1
            return function(given)

        return call

    def _sleep(self, seconds: float) -> None:
        # A function that sleeps would hold the clock of all others; `_execution` has waited for the slot before.
        if seconds > 0.002:
            raise AssertionError(f"a function wants to sleep for {seconds} s")

    def _of_key(self, key: str) -> tuple[str, ClosedBatch]:
        name = key.split("/")[1].removesuffix(".json")
        return name, self.batches[self.number_of[name]]

    def _size_of(self, uri: str) -> tuple[int, int]:
        batch = self._of_key(uri.removeprefix("s3://dicom/"))[1]
        return batch.instance_count, batch.size_bytes

    def _entries(self, name: str, batch: ClosedBatch) -> Iterator[Entry]:
        study = f"1.2.{batch.study}"
        for number in range(min(batch.instance_count, LISTED)):
            uid = f"{study}.1.{number}"
            yield Entry(uid, f"instances/{name}/{study}/{study}.1/{uid}.dcm", batch.size_bytes // batch.instance_count)

    def _dicom(self, key: str) -> bytes:
        name, batch = self._of_key(key)
        marker = Marker(
            batch_id=name,
            owner="worker",
            opened_at_s=EPOCH_S,
            expires_at_s=EPOCH_S,
            lease_s=120.0,
            put_deadline_s=60.0,
            study_instance_uid=f"1.2.{batch.study}",
            study_date=None,
            calling_ae_titles=["MODALITY"],
            called_ae_titles=["FASTSCP"],
            association_ids=["association"],
        )
        entries = self._entries(name, batch)
        closed_at_s = EPOCH_S + batch.closed_s
        return encode_manifest(self.workflow.keys, marker, entries, closed_by="worker", close_reason="quiet", closed_at_s=closed_at_s)

    def _list_dicom(self, prefix: str) -> Iterator[Listed]:
        name, batch = self._of_key(prefix)
        return (Listed(entry.key, entry.size_bytes or 0, EPOCH_S) for entry in self._entries(name, batch))

    def _results(self, key: str) -> bytes:
        name, batch = self._of_key(key)
        if key.endswith("job-output-manifest.json"):
            return b'{"jobSummary":{}}'
        response = '"importResponse":{"imageSetId":"1","imageSetVersion":1,"isPrimary":true}'
        return "\n".join(f'{{"inputFile":"{entry.key}",{response}}}' for entry in self._entries(name, batch)).encode()

    def _list_results(self, prefix: str) -> Iterator[Listed]:
        yield Listed(f"{prefix}SUCCESS/success.ndjson", 1, EPOCH_S)

    def _execution(self, name: str, closed_s: float) -> Generator[float, None, None]:
        yield max(closed_s - self.now_s, 0.0) + EVENT_S
        accept(self.workflow, name)
        given = self.executions.started.pop()
        yield from machine.execute(self.definition, self.functions, given, CALL_S, self.jitter)

    def _until_slot(self, execution: Generator[float, None, None], name: str) -> Generator[float, None, None]:
        """What start_import_job sleeps, it is made to wait before it is called."""
        for seconds in execution:
            yield seconds
            row = self.workflow.batches.items.get(name)
            if row and row["state"] == "STARTING" and "slotAt" in row:
                left_s = iso_seconds(row["slotAt"]) - EPOCH_S - self.now_s
                if 0 < left_s <= 1:
                    yield left_s

    def run(self) -> None:
        accepted_s = 0.0
        for number, batch in sorted(enumerate(self.batches), key=lambda one: one[1].closed_s):
            accepted_s = max(accepted_s + 1 / ACCEPTED_PER_S, batch.closed_s)
            name = batch_id(number)
            self._push(accepted_s, self._until_slot(self._execution(name, batch.closed_s), name))
        while self.events:
            self.now_s, _, execution = heapq.heappop(self.events)
            seconds = next(execution, None)
            if seconds is not None:
                self._push(self.now_s + seconds, execution)

    def _push(self, at_s: float, execution: Generator[float, None, None]) -> None:
        self.sequence += 1
        heapq.heappush(self.events, (at_s, self.sequence, execution))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the functions' logs and metrics."""
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    names = {"POWERTOOLS_METRICS_NAMESPACE": "fastscp", "POWERTOOLS_SERVICE_NAME": "import"}
    with mock.patch.dict(os.environ, names), Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        try:
            yield
        finally:
            logger.setLevel(level)


def import_all(batches: Iterable[ClosedBatch], duration: Duration, seed: int) -> Outcome:
    """When each batch is imported.

    Raises:
        AssertionError: an instance was not imported.
    """
    world = _World(list(batches), duration, random.Random(seed))
    with _quiet():
        world.run()
    ended = {job.name.rpartition("-")[0]: job.ended_s for job in world.imaging.jobs.values()}
    rows = world.workflow.batches.items
    for number, batch in enumerate(world.batches):
        row = rows[batch_id(number)]
        if (row["state"], row.get("importedCount")) != ("DONE", min(batch.instance_count, LISTED)):
            raise AssertionError(f"batch {number}: {row['state']}, {row.get('importedCount')} imported")
    if len(world.imaging.jobs) != len(world.batches):
        raise AssertionError(f"{len(world.imaging.jobs)} jobs for {len(world.batches)} batches")
    return Outcome(
        [ended[batch_id(number)] for number in range(len(world.batches))],
        dict(world.imaging.refusals),
        world.imaging.most_at_once,
        world.calls,
    )
