"""The receiver without sockets: native reader, intake and S3 store in this process, with limits that only a test may set.

Enters: data sets. Leaves: statuses, and what the store makes of them. Never: an engine that it closes; that is its owner's.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from fastscp._ext import pdu
from fastscp._ext.memory import BufferPool
from fastscp._ext.pdu import MessageReader
from fastscp._ext.tally import Sender
from fastscp.batches import Limits
from fastscp.observe.metrics import Metrics
from fastscp.receive import Intake
from fastscp.receive.s3_store import S3Store
from fastscp.stores import Origin, StoreHealth
from fastscp.stores.s3 import Engine
from tests.peers import encoding as enc
from tests.peers.datasets import Made

MIB = 1 << 20
SPILL_BYTES = 6 * MIB
CONTEXTS = {1: enc.EXPLICIT_LE}
LIMITS = Limits(lease_s=30.0, renew_s=10.0, retry_s=0.1, put_deadline_s=7.0, tick_s=0.05)


class SharedEngine:
    """An engine whose connections outlive the store that uses it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def close(self) -> None:
        """Leave it open."""


class Association:
    """Sends instances one after the other, in the caller's thread."""

    def __init__(self, store: S3Store, name: str = "association-1") -> None:
        self._reader = MessageReader(
            BufferPool(64 * MIB),
            max_pdu_bytes=131072,
            max_instance_bytes=64 * MIB,
            spill_threshold_bytes=SPILL_BYTES,
            implementation_class_uid="1.2.3",
            implementation_version_name="TEST",
        )
        self._reader.establish(CONTEXTS, frozenset(CONTEXTS), "SENDER")
        self._intake = Intake(store.for_association(Origin(name, "SENDER", "FASTSCP")), Metrics("test"), Sender(), frozenset(), name)

    def send(self, made: Made) -> int:
        """One C-STORE. Returns the status."""
        answers = []
        command = enc.store_command(made.sop_class, made.sop_instance)
        for data in enc.message_pdus(1, command, made.data_set, data_pdv_bytes=120_000):
            while data:
                event, consumed = self._reader.feed(data)
                data = data[consumed:]
                if event == pdu.STORE:
                    answers.append(self._intake.store(self._reader.take_instance()))
                elif event == pdu.SPILL and not self._intake.spill(cast(Any, self._reader.instance)):
                    self._reader.discard()
        (answer,) = answers
        return answer.status

    def close(self) -> None:
        """The association ends, whatever was under way."""
        self._intake.abandon()
        self._reader.close()


@contextmanager
def running(engine: Engine, prefix: str, limits: Limits = LIMITS) -> Iterator[S3Store]:
    """A store that is drained at the end, unless the block has closed it. The engine stays open."""
    store = ClosedOnce(cast(Engine, SharedEngine(engine)), prefix, limits, StoreHealth(lambda ready, why: None), replace=True)
    try:
        yield store
    finally:
        store.close()


class ClosedOnce(S3Store):
    """A store that may be closed twice."""

    closed = False

    def close(self) -> None:
        """Close it, the first time."""
        if not self.closed:
            self.closed = True
            super().close()


def send_all(store: S3Store, instances: Iterable[Made]) -> list[int]:
    """Each instance in one association. Returns the statuses."""
    association = Association(store)
    try:
        return [association.send(made) for made in instances]
    finally:
        association.close()
