"""`python -m tests.soak --minutes 30`: the receiver with churn, faults, and workers that end, and whether anything grows.

Enters: how long, and how many associations. Leaves: a table of samples, slopes over the last half, what is left at the end.
Never: exit code 0 where something grew, was left over, or was acknowledged and is missing.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from fastscp.batches import Keys
from fastscp.batches.manifest import decode_manifest
from tests.peers.server import FastScp, process_tree, serve_options, wait_until
from tests.service_process.test_workers import workers
from tests.soak.senders import Senders
from tests.soak.slopes import last_half
from tests.stores_s3.s3_server import S3Server

PREFIX = "soak"
KEYS = Keys(PREFIX)
SAMPLE_S = 5.0
FAULTS = ["slow-down", "reset", "cut", "reset-after-commit", "denied"]
# Allowed growth over the last half: a share of the mean, and at least so much.
ALLOWED = {
    "rss_mb": (0.05, 8.0),
    "oldest_rss_mb": (0.05, 6.0),
    "threads": (0.05, 6.0),
    "descriptors": (0.05, 10.0),
    "slots": (0.1, 10.0),
    "uploads": (0.2, 5.0),
    "open_batches": (0.2, 15.0),
}


@dataclass
class Samples:
    """One list for each quantity."""

    times: list[float] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in ALLOWED})


def rss_mb(pids: list[int]) -> float:
    """Resident memory of processes; what they share is counted for each."""
    total = 0
    for pid in pids:
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except OSError:
            continue
    return total * os.sysconf("SC_PAGE_SIZE") / 1e6


def sample(server: FastScp, s3: S3Server) -> dict[str, float]:
    """What the receiver holds now."""
    resources = server.resources()
    metrics = server.metrics()
    return {
        "rss_mb": rss_mb(process_tree(server.pid)),
        "oldest_rss_mb": rss_mb(workers(server)[:1]),
        "threads": resources.threads,
        "descriptors": resources.descriptors,
        "slots": metrics["fastscp_associations_active"],
        "uploads": len(s3.uploads),
        "open_batches": metrics["fastscp_open_batches"],
    }


def import_batches(s3: S3Server, named: set[str]) -> None:
    """What the import does with a batch whose manifest is there: its objects, marker and manifest are not needed any more."""
    with s3.lock:
        for key in [key for key in s3.objects if key.startswith(KEYS.batches)]:
            manifest = decode_manifest(KEYS, key, s3.objects[key].body)
            named.update(entry.sop_instance_uid for entry in manifest.instances)
            for gone in [each for each in s3.objects if manifest.batch_id in each]:
                del s3.objects[gone]


def disturb(server: FastScp, s3: S3Server, source: random.Random, turn: int) -> None:
    """Every 10 s a handful of faults of S3; every minute a worker is told to end, every three minutes one is killed.

    Never the first worker: what grows slowly shows only in one that lives as long as the run.
    """
    if turn % 2 == 0:
        for operation in ("PutObject", "UploadPart", "CompleteMultipartUpload"):
            s3.faults[operation].extend(source.choices(FAULTS, k=source.randint(0, 5)))
    running = workers(server)[1:]
    if turn % 36 == 35:
        os.kill(source.choice(running), signal.SIGKILL)
    elif turn % 12 == 11:
        os.kill(source.choice(running), signal.SIGTERM)


def observe(server: FastScp, s3: S3Server, named: set[str], until: float, seed: int) -> Samples:
    """Sample and disturb until the time is over."""
    source = random.Random(seed)
    samples, start, turn = Samples(), time.monotonic(), 0
    while time.monotonic() < until:
        time.sleep(SAMPLE_S)
        import_batches(s3, named)
        now = sample(server, s3)
        samples.times.append(time.monotonic() - start)
        for name, value in now.items():
            samples.values[name].append(value)
        if turn % 12 == 0:
            print(f"{samples.times[-1]:7.0f} s  " + "  ".join(f"{name} {value:.0f}" for name, value in now.items()), flush=True)
        disturb(server, s3, source, turn)
        turn += 1
    return samples


def growing(samples: Samples) -> list[str]:
    """A line for each quantity that grows."""
    found = []
    for name, (share, least) in ALLOWED.items():
        slope = last_half(samples.times, samples.values[name])
        allowed = max(share * slope.mean, least)
        verdict = "GROWS" if slope.is_growth(allowed) else "flat"
        line = f"{name:13} mean {slope.mean:8.1f}  growth {slope.growth:+8.2f} +- {slope.error:.2f}  allowed {allowed:.1f}  {verdict}"
        print(line)
        if verdict == "GROWS":
            found.append(line)
    return found


def left_over(server: FastScp, s3: S3Server, acknowledged: set[str], named: set[str]) -> list[str]:
    """What should not be there when nobody sends, and what should and is not."""
    problems = []
    for pending in s3.faults.values():
        pending.clear()
    try:
        wait_until(lambda: server.metric("fastscp_associations_active") == 0, "no association is left", 60)
        wait_until(lambda: server.metric("fastscp_memory_in_use_bytes") == 0, "no memory is held", 60)
        wait_until(lambda: server.metric("fastscp_open_batches") == 0, "no batch is open", 60)
    except AssertionError as error:
        problems.append(str(error))
    if server.stop() != 0:
        problems.append("the receiver did not end well")
    import_batches(s3, named)
    # Batches of workers that were killed: under their markers, for the sweeper.
    marked = {key.removeprefix(KEYS.open).removesuffix(".json") for key in s3.objects if key.startswith(KEYS.open)}
    kept = {key.rsplit("/", 1)[1].removesuffix(".dcm") for key in s3.objects if any(batch_id in key for batch_id in marked)}
    missing = acknowledged - named - kept
    print(f"acknowledged {len(acknowledged)}, in manifests {len(acknowledged & named)}, under markers {len(acknowledged & kept - named)}")
    if missing:
        problems.append(f"{len(missing)} acknowledged instances are in no manifest and under no marker")
    errors = [record for record in server.records if record.get("level") == "error" and record["event"] not in ("worker_died",)]
    if errors:
        problems.append(f"{len(errors)} errors in the log, the first: {errors[0]}")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--associations", type=int, default=100)
    parser.add_argument("--workers", type=int, choices=range(2, 9), default=2)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    options = serve_options(
        workers=arguments.workers, progress_timeout=5, put_timeout=10, drain_timeout=20, quiet_period=5, spill_threshold=6 << 20
    )
    named: set[str] = set()
    with S3Server() as s3:
        environment = {
            "AWS_ENDPOINT_URL_S3": s3.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        with FastScp(f"s3://bucket/{PREFIX}", *options, environment=environment) as server:
            senders = Senders(server.port, arguments.associations, arguments.seed)
            senders.start()
            samples = observe(server, s3, named, time.monotonic() + 60 * arguments.minutes, arguments.seed)
            stopping = threading.Thread(target=senders.stop)
            stopping.start()
            stopping.join(120)
            problems = growing(samples) + left_over(server, s3, senders.acknowledged, named)
            print("senders:", dict(senders.outcomes.most_common()))
            print("workers:", {event: len(server.events(event)) for event in ("worker_died", "worker_drained")})
    for problem in problems:
        print("PROBLEM:", problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
