"""What the log says of a batch at its end: which associations it is from, and never more of them than a record should hold.

Enters: instances of some associations, the time. Leaves: records. Never: a record that grows with the number of senders.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from structlog.testing import capture_logs

from fastscp.batches import Arrival, Batches, Keys, Limits, Listed
from fastscp.batches.membership import MOST_ASSOCIATIONS_NAMED

LIMITS = Limits()


class Memory:
    """An object store that always works, until it does not."""

    def put(self, key: str, data: bytes) -> None: ...

    def put_if_absent(self, key: str, data: bytes) -> bool:
        return True

    def delete(self, key: str) -> None: ...

    def list(self, prefix: str) -> Iterable[Listed]:
        return ()

    def get(self, key: str) -> bytes | None:
        return None


class Worker:
    """The batches of one worker, whose other threads run when they are told to."""

    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0
        self.jobs: deque[Callable[[], None]] = deque()
        self.batches = Batches(
            Memory(),
            Keys(""),
            LIMITS,
            owner="worker-1",
            replace=True,
            clock=lambda: self.now_s,
            entropy=lambda count: bytes(count),
            submit=self.jobs.append,
            wait_s=1.0,
        )

    def work(self) -> None:
        while self.jobs:
            self.jobs.popleft()()

    def store(self, number: int, association_id: str) -> None:
        ticket = self.batches.join(Arrival("1.1", "1.2", f"1.3.{number}", "", "CT1", "FASTSCP", association_id), 10)
        self.work()
        ticket.committed(10, "AAAAAAAAAAA=")

    def pass_time(self, duration_s: float) -> None:
        self.now_s += duration_s
        self.batches.tick(self.now_s)
        self.work()


def the_end(event: str, association_ids: list[str], duration_s: float) -> dict[str, Any]:
    """The record of the end of a batch with one instance of each of these associations."""
    worker = Worker()
    with capture_logs() as records:
        for number, association_id in enumerate(association_ids, 1):
            worker.store(number, association_id)
        worker.pass_time(duration_s)
    (record,) = [record for record in records if record["event"] == event]
    (opened,) = [record for record in records if record["event"] == "batch_opened"]
    assert record["batch"] == opened["batch"]
    assert record["instances"] == record["association_count"] == len(association_ids)
    return dict(record)


ENDS = [("batch_closed", LIMITS.quiet_s + 1), ("batch_lost", LIMITS.lease_s + 1)]


@pytest.mark.parametrize(("event", "duration_s"), ENDS)
def test_the_associations_are_named(event: str, duration_s: float) -> None:
    record = the_end(event, ["a-3", "a-1", "a-2"], duration_s)
    assert record["associations"] == ["a-1", "a-2", "a-3"]
    assert record.get("reason") == ("quiet" if event == "batch_closed" else None)


@pytest.mark.parametrize(("event", "duration_s"), ENDS)
def test_of_many_the_first_are(event: str, duration_s: float) -> None:
    names = [f"a-{number:03}" for number in range(200)]
    assert the_end(event, names, duration_s)["associations"] == names[:MOST_ASSOCIATIONS_NAMED]
