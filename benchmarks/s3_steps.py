"""`python -m benchmarks.s3_steps`: what each tuning step of an S3 engine gains, by measuring the engine without it.

Enters: an engine's name. Leaves: rate and CPU of each variant over those of the engine as it is, in the same round.
Never: a figure of a variant that lost an object.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import botocore.auth
from botocore.config import Config
from botocore.handlers import add_expect_header
from obstore.store import S3Store
from s3transfer.manager import TransferConfig

from benchmarks import payloads, s3
from benchmarks.report import row, spread
from benchmarks.targets import Spread
from benchmarks.works import wait_arrived
from fastscp.stores.s3 import Engine, ObjectAttributes, PutResult, S3Options, botocore_engine, client, instance_attributes, obstore_engine
from fastscp.stores.s3.botocore_engine import BotocoreEngine
from fastscp.stores.s3.obstore_engine import ObstoreEngine

AS_IT_IS = "as it is"
SEGMENT_SIZES_BYTES = (1 << 16, 1 << 17, 1 << 18, 1 << 20)
"""Those that the receiver holds a CT in."""
OPTIONS = S3Options(s3.BUCKET, connection_count=100)
ATTRIBUTES = instance_attributes("ANY-SCP", "LOAD", datetime(2026, 1, 1, tzinfo=UTC), "association")
Step = Callable[[], Engine]


def segments_of(data: bytes) -> list[memoryview]:
    """The data as the receiver would hold it."""
    segments, at = [], 0
    for size_bytes in SEGMENT_SIZES_BYTES:
        segments.append(memoryview(data)[at : at + size_bytes])
        at += size_bytes
    return [segment for segment in segments if segment.nbytes]


class _Joining:
    """Copies the segments into one before they are sent."""

    def put(self, key: str, segments: list[memoryview], **rest: Any) -> PutResult:
        return super().put(key, [b"".join(segments)], **rest)  # type: ignore[misc,no-any-return]


class ObstoreJoined(_Joining, ObstoreEngine):
    """obstore, of one segment."""


class BotocoreJoined(_Joining, BotocoreEngine):
    """botocore, of one segment."""


class WithoutOwnChecksum(ObstoreEngine):
    """Only obstore hashes."""

    def put(self, key: str, segments: Any, *, attributes: ObjectAttributes, deadline_s: float, if_none_match: bool = False) -> PutResult:
        views = [memoryview(segment) for segment in segments]
        try:
            return self._put_once(key, views, "", attributes, if_none_match)
        finally:
            self._release(views)


class InOtherThreads(BotocoreEngine):
    """The manager hands each request on to threads of its own, as it does by default."""

    def __init__(self, options: S3Options) -> None:
        super().__init__(options)
        threshold, most = botocore_engine.LARGEST_PUT_BYTES, options.connection_count
        config = TransferConfig(multipart_threshold=threshold, max_request_concurrency=most, max_submission_concurrency=most)
        self._manager = botocore_engine._Manager(self._client, config)
        # The answer comes in another thread than the one that asked for it.
        self._answers: Any = SimpleNamespace(put_object={"ETag": '"0"'})


class WithoutManager(BotocoreEngine):
    """The client's own put_object."""

    def __init__(self, options: S3Options) -> None:
        super().__init__(options)
        self._manager: Any = SimpleNamespace(upload=self._upload, shutdown=lambda: None)

    def _upload(self, body: Any, bucket: str, key: str, arguments: Any) -> SimpleNamespace:
        self._client.put_object(Bucket=bucket, Key=key, Body=body, **arguments)
        return SimpleNamespace(result=lambda: None)


def obstore_with(**changed: object) -> Step:
    """obstore with another configuration of its store; None takes an item away."""

    def open_store(config: dict[str, Any], **rest: Any) -> Any:
        return S3Store(config={name: value for name, value in (config | changed).items() if value is not None}, **rest)  # type: ignore[arg-type]

    def open_engine() -> Engine:
        with mock.patch.object(obstore_engine, "S3Store", open_store):
            return ObstoreEngine(OPTIONS)

    return open_engine


def botocore_with(**changed: Any) -> Step:
    """botocore with another configuration of its client."""

    def make_config(**given: Any) -> Config:
        return Config(**(given | {name: value for name, value in changed.items() if (name == "s3") == ("s3" in given)}))

    def open_engine() -> Engine:
        with mock.patch.object(client, "Config", make_config):
            return BotocoreEngine(OPTIONS)

    return open_engine


def that_waits() -> Engine:
    """botocore that asks with Expect: 100-continue before it sends."""
    engine = BotocoreEngine(OPTIONS)
    engine._client.meta.events.register("before-call.s3", add_expect_header)
    return engine


def that_hashes_itself() -> Engine:
    """botocore that computes the checksum and sends it behind the body, in chunks."""
    engine = BotocoreEngine(OPTIONS)

    def change(params: dict[str, Any], **_: object) -> None:
        del params["ChecksumCRC64NVME"]
        params["ChecksumAlgorithm"] = "CRC64NVME"

    engine._client.meta.events.register("before-parameter-build.s3.PutObject", change)
    return engine


def with_short_user_agent() -> Engine:
    """botocore that does not make its User-Agent anew for each request."""
    engine = BotocoreEngine(OPTIONS)
    creator = engine._client._user_agent_creator  # type: ignore[attr-defined]
    engine._client.meta.events.unregister("request-created.s3", creator.rebuild_and_replace_user_agent_handler)
    return engine


def that_signs_in_python() -> Engine:
    """botocore with its own signer instead of the CRT's."""
    engine = BotocoreEngine(OPTIONS)

    def sign(request: Any, **_: object) -> None:
        signer = botocore.auth.S3SigV4Auth(engine._connection.credentials.get_frozen_credentials(), "s3", engine._connection.region)
        signer.add_auth(request)

    engine._client.meta.events.unregister("request-created.s3", engine._client._request_signer.handler)  # type: ignore[attr-defined]
    engine._client.meta.events.register("request-created.s3", sign)
    return engine


STEPS: dict[str, dict[str, Step]] = {
    "obstore": {
        AS_IT_IS: lambda: ObstoreEngine(OPTIONS),
        "segments joined into one": lambda: ObstoreJoined(OPTIONS),
        "payload signed (SHA-256)": obstore_with(unsigned_payload=False),
        "10 connections kept": lambda: ObstoreEngine(replace(OPTIONS, connection_count=10)),
        "no connection kept": lambda: ObstoreEngine(replace(OPTIONS, connection_count=0)),
        "without fastscp's own CRC-64": lambda: WithoutOwnChecksum(OPTIONS),
        "without obstore's CRC-64": obstore_with(checksum_algorithm=None),
        "as it is, again": lambda: ObstoreEngine(OPTIONS),
    },
    "s3transfer": {
        AS_IT_IS: lambda: BotocoreEngine(OPTIONS),
        "segments joined into one": lambda: BotocoreJoined(OPTIONS),
        "payload signed (SHA-256)": botocore_with(s3={"payload_signing_enabled": True}),
        "Expect: 100-continue": that_waits,
        "checksum computed by botocore, in a trailer": that_hashes_itself,
        "10 connections kept": lambda: BotocoreEngine(replace(OPTIONS, connection_count=10)),
        "requests in the manager's threads": lambda: InOtherThreads(OPTIONS),
        "put_object without the manager": lambda: WithoutManager(OPTIONS),
        "parameters not validated": botocore_with(parameter_validation=False),
        "User-Agent made once": with_short_user_agent,
        "signed in Python": that_signs_in_python,
        "as it is, again": lambda: BotocoreEngine(OPTIONS),
    },
}


@dataclass
class Figures:
    """One value per round."""

    rates_per_s: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)


def put_all(engine: Engine, segments: list[memoryview], thread_count: int, puts_each: int, prefix: str) -> tuple[float, float]:
    """From so many threads at once. Returns (objects per second, CPU of this process in ms per object)."""
    failures: list[Exception] = []

    def work(thread: int) -> None:
        try:
            for number in range(puts_each):
                engine.put(f"{prefix}/{thread}-{number}.dcm", segments, attributes=ATTRIBUTES, deadline_s=60.0)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(thread_count)]
    begin_s, cpu_before_s = time.monotonic(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    count = thread_count * puts_each
    return count / (time.monotonic() - begin_s), (time.process_time() - cpu_before_s) / count * 1e3


def measure(steps: dict[str, Step], rounds: int, thread_count: int, puts_each: int, delay_ms: int = s3.DELAY_MS) -> dict[str, Figures]:
    """All variants, one after the other in each round, after one round to warm up. Raises EngineError, or LoadFailed for a lost object."""
    segments = segments_of(payloads.ct().data_set)
    figures = {name: Figures() for name in steps}
    with (
        tempfile.TemporaryDirectory() as directory,
        s3.running_sink(Path(directory), delay_ms) as sink,
        mock.patch.dict(os.environ, sink.environment),
    ):
        engines = {name: step() for name, step in steps.items()}
        for round_number in range(rounds + 1):
            names = list(engines)
            offset = round_number % len(names)
            for index, name in enumerate(names[offset:] + names[:offset]):
                found = put_all(engines[name], segments, thread_count, puts_each, f"{round_number}/{name}".replace(" ", "-"))
                wait_arrived(sink, (round_number * len(names) + index + 1) * thread_count * puts_each)
                if round_number:
                    figures[name].rates_per_s.append(found[0])
                    figures[name].cpu_ms.append(found[1])
        for engine in engines.values():
            engine.close()
    return figures


def table(figures: dict[str, Figures]) -> str:
    """Ratios to the engine as it is, of the same round, as Markdown."""
    base = figures[AS_IT_IS]
    lines = [row(["variant", "per second", "CPU, ms", "rate x", "CPU x"]), "|---|---|---|---|---|"]
    for name, found in figures.items():
        rates = [a / b for a, b in zip(found.rates_per_s, base.rates_per_s, strict=True)]
        cpu = [a / b for a, b in zip(found.cpu_ms, base.cpu_ms, strict=True)]
        lines.append(row([name, *(spread(Spread.of(values)) for values in (found.rates_per_s, found.cpu_ms, rates, cpu))]))
    return "\n".join(lines)


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.s3_steps", description="Measure S3 engines without each of their tuning steps."
    )
    parser.add_argument("engine", choices=STEPS)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=32, help="how many put at once (%(default)s)")
    parser.add_argument("--puts", type=int, default=12, help="of each thread in each round (%(default)s)")
    arguments = parser.parse_args()
    print(table(measure(STEPS[arguments.engine], arguments.rounds, arguments.threads, arguments.puts)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
