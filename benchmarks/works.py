"""What is measured: each work is a load and the receivers that carry it.

Enters: a work and a running receiver. Leaves: one `Sample`. Never: a sample of a run in which anything was lost.
"""

import os
import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks import payloads, processes
from benchmarks.contenders import NODELAY, Running, stored_files
from benchmarks.load import Load, LoadFailed, PreparedLoad
from benchmarks.reservoir import Reservoir
from benchmarks.s3 import Arrived, Sink

WARM_UP_S = 0.2
IDLE_HOLD_S = 10.0
CLIENT_LIMIT_S = 300
ARRIVAL_PATIENCE_S = 20.0
"""How long no further object may arrive before those that are missing are given up."""
SLOW_IDLE_ASSOCIATIONS = {"pynetdicom-file": 50}
"""A receiver that polls gets fewer idle associations; the figures are per association and per core."""


@dataclass(frozen=True)
class Work:
    """`most` bounds the instances of one sample (all associations together), so that a store on tmpfs stays within memory.

    `rounds` bounds how often it is measured, for works that take long.
    """

    name: str
    title: str
    kind: Literal["stores", "sequential", "idle", "burst"]
    payload: Literal["ct", "small", "big"]
    contenders: tuple[str, ...]
    associations: int = 1
    contexts: int = 1
    most: int = 100_000
    rounds: int | None = None


@dataclass(frozen=True)
class Sample:
    """One measurement of one receiver.

    `cpu_ms` is receiver CPU per instance; `rss_growth_bytes` is its peak since it was ready less what it had then; `others_cores` is
    how many cores were busy with neither receiver nor sender nor sink. Where the receiver uploads, time and CPU count until the last
    object is there, `put_*` are latencies of the PUTs as the sink sees them (None where there were only parts), and `sink_cpu_ms` is
    what the sink used for each instance.
    """

    rate_per_s: float
    mb_per_s: float
    cpu_ms: float
    instances: int
    seconds: float
    peak_rss_bytes: int
    rss_growth_bytes: int
    others_cores: float
    latency_p50_us: float | None = None
    latency_p99_us: float | None = None
    load_cpu_ms: float | None = None
    cores_busy: float | None = None
    rss_each_bytes: float | None = None
    put_p50_us: float | None = None
    put_p99_us: float | None = None
    sink_cpu_ms: float | None = None

    @property
    def acknowledgement_ratio(self) -> float | None:
        """Median time until the answer over the median time of the PUT that it waited for."""
        return self.latency_p50_us / self.put_p50_us if self.latency_p50_us and self.put_p50_us else None


NULL = ("floor-null", "fastscp-null", "pynetdicom-null")
FILE = ("floor-file", "fastscp-file", "dcmtk", "orthanc", "pynetdicom-file")
FILE_8 = ("floor-file", "fastscp-file", "dcmtk-fork", "orthanc", "pynetdicom-file")
SEQUENTIAL = ("floor-file", "fastscp-file", "dcmtk", "pynetdicom-file")
BURST = ("fastscp-file", "dcmtk-pair", "dcmtk-pair-nodelay", "pynetdicom-file")
SLOW_IN_BURSTS = ("dcmtk-pair",)
S3 = ("fastscp-obstore", "fastscp-s3transfer", "fastscp-crt", "pynetdicom-boto3", "pynetdicom-boto3-early")


def _s3(
    payload: Literal["ct", "small", "big"], associations: int, contenders: tuple[str, ...], most: int, rounds: int | None = None
) -> Work:
    title = (
        f"{payload.upper() if payload == 'ct' else payload.capitalize()}, S3, {associations} association{'s' if associations > 1 else ''}"
    )
    name = f"{payload}-s3-{associations}"
    return Work(name, title, "stores", payload, contenders, associations=associations, most=most, rounds=rounds)


S3_WORKS = (
    *(_s3("ct", associations, S3, most=20_000) for associations in (1, 8, 32, 100)),
    *(_s3("small", associations, S3, most=100_000, rounds=2) for associations in (1, 8, 32, 100)),
    # What arrives in parts goes up the same way, whichever engine is chosen; pynetdicom keeps all of it in memory, several times.
    _s3("big", 1, ("fastscp-obstore", "pynetdicom-boto3", "pynetdicom-boto3-early"), most=1, rounds=2),
    *(_s3("big", associations, ("fastscp-obstore",), most=associations, rounds=1) for associations in (8, 32, 100)),
)
WORKS = {
    work.name: work
    for work in (
        Work("ct-null-1", "CT, null store, 1 association", "stores", "ct", NULL, most=60_000),
        Work("ct-null-8", "CT, null store, 8 associations", "stores", "ct", (*NULL, "pynetdicom-file"), associations=8, most=60_000),
        Work("ct-file-1", "CT, file store, 1 association", "stores", "ct", (*FILE, "dcmtk-nodelay"), most=4_000),
        Work("ct-file-8", "CT, file store, 8 associations", "stores", "ct", FILE_8, associations=8, most=6_000),
        Work("small-file-1", "Small, file store, 1 association", "stores", "small", (*FILE, "dcmtk-nodelay"), most=40_000),
        Work(
            "small-null-8", "Small, null store, 8 associations", "stores", "small", (*NULL, "pynetdicom-file"), associations=8, most=200_000
        ),
        Work("big-file-1", "Big, file store, 1 association", "stores", "big", FILE, most=6),
        Work("associations-1", "Associations one after the other, 1 context", "sequential", "small", SEQUENTIAL, most=6_000),
        Work(
            "associations-120",
            "Associations one after the other, 120 contexts",
            "sequential",
            "small",
            SEQUENTIAL,
            contexts=120,
            most=6_000,
        ),
        Work("idle-500", "500 idle associations", "idle", "small", ("floor-null", "fastscp-file", "pynetdicom-file"), associations=500),
        Work("storescu-1", "stock `storescu`, 1 client", "burst", "ct", BURST),
        Work("storescu-4", "stock `storescu`, 4 clients", "burst", "ct", BURST, associations=4),
        *S3_WORKS,
    )
}
GROUPS = {"s3": tuple(work.name for work in S3_WORKS), "wire": tuple(name for name in WORKS if "-s3-" not in name)}
"""Names for several works."""
BURST_FILES = 400
BURST_FILES_SLOW = 40
BURST_PARTS = 4


class Bench:
    """Measures works. Owns the prepared payloads below `directory`."""

    def __init__(self, directory: Path, target_s: float, reservoir: Reservoir) -> None:
        """
        Args:
            directory: an existing one on tmpfs.
            target_s: how long the load of one sample lasts, as far as `Work.most` allows.
            reservoir: on the same file system.
        """
        self._reservoir = reservoir
        self._directory = directory
        self._target_s = target_s
        self._loads: dict[tuple[str, int], PreparedLoad] = {}
        self._bursts: dict[int, list[Path]] = {}

    def _load(self, work: Work) -> PreparedLoad:
        key = (work.payload, work.contexts)
        if key not in self._loads:
            payload = {"ct": payloads.ct, "small": payloads.small, "big": payloads.big}[work.payload]()
            self._loads[key] = PreparedLoad(payload, self._directory, work.contexts)
        return self._loads[key]

    def _burst(self, files: int) -> list[Path]:
        if files not in self._bursts:
            parts = [self._directory / f"burst-{files}" / str(part) for part in range(BURST_PARTS)]
            payloads.write_files(payloads.ct(), parts, files // BURST_PARTS)
            self._bursts[files] = parts
        return self._bursts[files]

    def measure(self, work: Work, receiver: Running) -> Sample:
        """Warm `receiver` up and measure it. Raises LoadFailed."""
        processes.reset_peak_rss(receiver.pid)
        ready_rss_bytes = processes.usage(receiver.pid).rss_bytes
        if work.kind == "idle":
            return self._measure_idle(work, receiver, ready_rss_bytes)
        if work.kind == "burst":
            return self._measure_burst(work, receiver, ready_rss_bytes)
        return self._measure_load(work, receiver, ready_rss_bytes)

    def _open(self, work: Work, receiver: Running, total: int) -> Load:
        """The work's load with about `total` instances."""
        load, port = self._load(work), receiver.place.port
        if work.kind == "sequential":
            return load.open(port, associations=total, instances_each=1, sequential=True)
        associations = min(work.associations, total)
        return load.open(port, associations=associations, instances_each=total // associations)

    def _warm_up(self, work: Work, receiver: Running) -> tuple[float, int]:
        """Send until a run lasts long enough to tell the rate. Returns (instances per second, instances sent in all)."""
        # A Big on each association is a load in itself.
        total, sent = 1 if work.payload == "big" else work.associations, 0
        while True:
            with self._open(work, receiver, total) as run:
                result = run.run()
            sent += result.instances
            if result.seconds >= WARM_UP_S or total * 4 > work.most // 4:
                return result.instances / result.seconds, sent
            total *= 4

    def _measure_load(self, work: Work, receiver: Running, ready_rss_bytes: int) -> Sample:
        data_set_bytes = len(self._load(work).payload.data_set)
        with self._memory(receiver, work.most // 2 * data_set_bytes):
            rate_per_s, sent = self._warm_up(work, receiver)
        total = max(work.associations, min(work.most, int(rate_per_s * self._target_s)))
        sink_before = receiver.sink.arrived() if receiver.sink else None
        with self._memory(receiver, total * data_set_bytes), self._open(work, receiver, total) as run:
            busy_before_s, before = processes.machine_busy_s(), processes.usage(receiver.pid)
            result = run.run()
            ended_s, arrived = time.monotonic(), wait_arrived(receiver.sink, sent + result.instances) if receiver.sink else None
            busy_after_s, after = processes.machine_busy_s(), processes.usage(receiver.pid)
        cpu_s = after.cpu_s - before.cpu_s
        seconds, sink_cpu_s = result.seconds, 0.0
        if arrived and sink_before:
            seconds += max(0.0, arrived.last_instance_s - ended_s)
            sink_cpu_s = arrived.cpu_s - sink_before.cpu_s
            if arrived.instance_bytes < (sent + result.instances) * data_set_bytes:
                raise LoadFailed(f"{receiver.contender.name} uploaded less than it was sent")
        self._check_stored(receiver, sent + result.instances, data_set_bytes)
        return Sample(
            rate_per_s=result.instances / seconds,
            mb_per_s=result.data_set_bytes / seconds / 1e6,
            cpu_ms=cpu_s / result.instances * 1e3,
            instances=result.instances,
            seconds=seconds,
            peak_rss_bytes=after.peak_rss_bytes,
            rss_growth_bytes=after.peak_rss_bytes - ready_rss_bytes,
            others_cores=(busy_after_s - busy_before_s - cpu_s - result.load_cpu_s - sink_cpu_s) / seconds,
            latency_p50_us=result.latency_p50_us,
            latency_p99_us=result.latency_p99_us,
            load_cpu_ms=result.load_cpu_s / result.instances * 1e3,
            put_p50_us=(arrived.put_p50_us or None) if arrived else None,
            put_p99_us=(arrived.put_p99_us or None) if arrived else None,
            sink_cpu_ms=sink_cpu_s / result.instances * 1e3 if arrived else None,
        )

    def _measure_idle(self, work: Work, receiver: Running, ready_rss_bytes: int) -> Sample:
        count = min(work.associations, SLOW_IDLE_ASSOCIATIONS.get(receiver.contender.name, work.associations))
        with self._load(work).open(receiver.place.port, associations=count, instances_each=0) as run:
            run.run()
            busy_before_s, before, begin_s = processes.machine_busy_s(), processes.usage(receiver.pid), time.monotonic()
            time.sleep(IDLE_HOLD_S)
            busy_after_s, after, seconds = processes.machine_busy_s(), processes.usage(receiver.pid), time.monotonic() - begin_s
        cpu_s = after.cpu_s - before.cpu_s
        growth_bytes = after.rss_bytes - ready_rss_bytes
        return Sample(
            rate_per_s=0,
            mb_per_s=0,
            cpu_ms=0,
            instances=count,
            seconds=seconds,
            peak_rss_bytes=after.peak_rss_bytes,
            rss_growth_bytes=after.peak_rss_bytes - ready_rss_bytes,
            others_cores=(busy_after_s - busy_before_s - cpu_s) / seconds,
            cores_busy=cpu_s / seconds,
            rss_each_bytes=growth_bytes / count,
        )

    def _measure_burst(self, work: Work, receiver: Running, ready_rss_bytes: int) -> Sample:
        contender = receiver.contender
        parts = self._burst(BURST_FILES_SLOW if contender.name in SLOW_IN_BURSTS else BURST_FILES)
        clients = [parts[index :: work.associations] for index in range(work.associations)]
        environment = {**os.environ, **(NODELAY if contender.environment == NODELAY else {})}
        command = ["storescu", "--quiet", "-aec", "ANY-SCP", "127.0.0.1", str(receiver.place.port), "+sd"]
        _run_clients([[*command, *map(str, self._burst(BURST_PARTS))]], environment)
        with self._memory(receiver, BURST_FILES * len(payloads.ct().data_set)):
            busy_before_s, clients_before_s = processes.machine_busy_s(), _ended_children_cpu_s()
            before, begin_s = processes.usage(receiver.pid), time.monotonic()
            _run_clients([[*command, *map(str, part)] for part in clients], environment)
            after, seconds = processes.usage(receiver.pid), time.monotonic() - begin_s
        busy_s, clients_s = processes.machine_busy_s() - busy_before_s, _ended_children_cpu_s() - clients_before_s
        cpu_s = after.cpu_s - before.cpu_s
        data_set_bytes = len(payloads.ct().data_set)
        instances = sum(len(list(part.iterdir())) for part in parts)
        # The warm-up's instances have the same numbers as the first of the burst.
        self._check_stored(receiver, instances, data_set_bytes)
        return Sample(
            rate_per_s=instances / seconds,
            mb_per_s=instances * data_set_bytes / seconds / 1e6,
            cpu_ms=cpu_s / instances * 1e3,
            instances=instances,
            seconds=seconds,
            peak_rss_bytes=after.peak_rss_bytes,
            rss_growth_bytes=after.peak_rss_bytes - ready_rss_bytes,
            others_cores=(busy_s - cpu_s - clients_s) / seconds,
        )

    @contextmanager
    def _memory(self, receiver: Running, count_bytes: int) -> Iterator[None]:
        """Memory for so many bytes of files, while it is open."""
        if not receiver.contender.keeps_files:
            yield
            return
        self._reservoir.fill(count_bytes)
        with self._reservoir.feeding():
            yield

    @staticmethod
    def _check_stored(receiver: Running, sent: int, data_set_bytes: int) -> None:
        if not receiver.contender.keeps_files:
            return
        stored = stored_files(receiver, data_set_bytes)
        if stored != sent:
            raise LoadFailed(f"{receiver.contender.name} keeps {stored} of {sent} instances")


def wait_arrived(sink: Sink, instances: int) -> Arrived:
    """What the sink has once it has so many instances. Raises LoadFailed where it never will."""
    had, give_up_s = -1, 0.0
    while (arrived := sink.arrived()).instances != instances:
        now_s = time.monotonic()
        if arrived.instances > had:
            had, give_up_s = arrived.instances, now_s + ARRIVAL_PATIENCE_S
        if now_s > give_up_s or arrived.instances > instances:
            raise LoadFailed(f"{arrived.instances} of {instances} instances were uploaded")
        time.sleep(0.01)
    return arrived


def _ended_children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _run_clients(commands: list[list[str]], environment: dict[str, str]) -> None:
    clients = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for command in commands]
    for client in clients:
        try:
            output, _ = client.communicate(timeout=CLIENT_LIMIT_S)
        except subprocess.TimeoutExpired:
            client.kill()
            output, _ = client.communicate()
        if client.returncode:
            raise LoadFailed(f"storescu ended with {client.returncode}: {output.decode(errors='replace')[-500:]}")
