"""S3 is asked where nobody else would notice that it is gone, or that it is back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from fastscp.errors import ConfigError
from fastscp.receive import s3_probe
from fastscp.receive.s3_probe import S3Probe
from fastscp.stores import StoreHealth
from fastscp.stores.s3 import Engine, EngineError
from tests.peers.server import wait_until


class Asked:
    """An engine that only can be asked."""

    def __init__(self) -> None:
        self.count = 0
        self.error: Exception | None = None
        self.prefix = ""
        self._lock = threading.Lock()

    def check(self, prefix: str, *, deadline_s: float) -> None:
        with self._lock:
            self.count, self.prefix = self.count + 1, prefix
        if self.error is not None:
            raise self.error


class Told:
    """The last that the health was told."""

    def __init__(self) -> None:
        self.why = "nothing yet"
        self.health = StoreHealth(self._report)

    def _report(self, ready: bool, why: str) -> None:
        assert ready == (not why)
        self.why = why


@contextmanager
def probing(engine: Asked, told: Told) -> Iterator[None]:
    probe = S3Probe(cast(Engine, engine), "site", told.health, turn_s=0.001)
    probe.start()
    try:
        yield
    finally:
        probe.stop()
        probe.join(30)
        assert not probe.is_alive()


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (EngineError("EndpointConnectionError", retryable=True), "S3 cannot be reached: EndpointConnectionError"),
        (ConfigError("--store", "cannot write to bucket images: AccessDenied"), "S3 refuses access: AccessDenied"),
    ],
)
def test_an_idle_receiver_notices_that_s3_is_gone_and_back(error: Exception, why: str) -> None:
    engine, told = Asked(), Told()
    with probing(engine, told):
        wait_until(lambda: engine.count > 0, "it is asked although nothing is wrong")
        assert (told.why, engine.prefix) == ("", "site")
        engine.error = error
        wait_until(lambda: told.why == why, "it is gone")
        engine.error = None
        wait_until(lambda: told.why == "", "it is back")


def test_after_a_failure_it_is_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_probe, "IDLE_TURNS", 10**9)
    engine, told = Asked(), Told()
    with probing(engine, told):
        told.health.failed("S3 does not take instances: SlowDown")
        wait_until(lambda: told.why == "", "it is back")
        assert engine.count == 1


def test_a_busy_receiver_asks_nothing() -> None:
    class AlwaysBusy(StoreHealth):
        def has_succeeded(self) -> bool:
            turns.release()
            return True

    turns = threading.Semaphore(0)
    engine = Asked()
    probe = S3Probe(cast(Any, engine), "site", AlwaysBusy(lambda ready, why: None), turn_s=0.001)
    probe.start()
    for _ in range(5 * s3_probe.IDLE_TURNS):
        assert turns.acquire(timeout=30)
    probe.stop()
    probe.join(30)
    assert engine.count == 0
