"""Stage: commit of an instance to the file store, on tmpfs. Time is per instance.

Enters: a complete instance. Leaves: a file under its final name. Never: a disk's own speed.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.conftest import MAX_PDU_BYTES
from benchmarks.payloads import UID_ROOT, Payload, store_pdus
from fastscp._ext.part10 import Instance
from fastscp.stores import InstanceName
from fastscp.stores.file import FileStore

COMMITS = 200


@pytest.mark.benchmark(group="file store commit")
@pytest.mark.parametrize("fsync", [True, False], ids=["fsync", "no-fsync"])
def test_commit(
    benchmark: BenchmarkFixture, feed_instance: Callable[[bytes], Instance], fast_directory: Path, payload: Payload, fsync: bool
) -> None:
    """Each instance is received beforehand, and has a name of its own."""
    message = store_pdus(payload, MAX_PDU_BYTES)
    store = FileStore(fast_directory, fsync=fsync, replace=True)
    numbers = iter(range(COMMITS))

    def receive() -> tuple[tuple[Instance, InstanceName], dict[str, object]]:
        return (feed_instance(message), InstanceName(f"{UID_ROOT}.11", f"{UID_ROOT}.22", f"{UID_ROOT}.{next(numbers)}")), {}

    def release(instance: Instance, name: InstanceName) -> None:
        instance.release()

    benchmark.pedantic(store.commit, setup=receive, teardown=release, rounds=COMMITS)
    store.close()
    assert len(list(fast_directory.rglob("*.dcm"))) == COMMITS
