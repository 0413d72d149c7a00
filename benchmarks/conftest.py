"""What the stage benchmarks share.

Enters: nothing. Leaves: a reader that has its association, and a directory on tmpfs. Never: a benchmark on a build that is not the release.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks import payloads
from benchmarks.payloads import Payload
from fastscp._ext.memory import BufferPool
from fastscp._ext.pdu import STORE, MessageReader

MAX_PDU_BYTES = 131072
TMPFS = Path("/dev/shm")


@pytest.fixture(params=["small", "ct"])
def payload(request: pytest.FixtureRequest) -> Payload:
    """Both sizes, one after the other."""
    return payloads.small() if request.param == "small" else payloads.ct()


@pytest.fixture
def reader() -> MessageReader:
    """Established, with one context for explicit VR little endian."""
    reader = MessageReader(
        BufferPool(256 << 20),
        max_pdu_bytes=MAX_PDU_BYTES,
        max_instance_bytes=4 << 30,
        spill_threshold_bytes=16 << 20,
        implementation_class_uid="1.2.826.0.1.3680043.8.498.1",
        implementation_version_name="BENCHMARK",
    )
    reader.establish({payloads.CONTEXT_ID: "1.2.840.10008.1.2.1"}, frozenset({payloads.CONTEXT_ID}), "LOAD")
    return reader


@pytest.fixture
def feed_instance(reader: MessageReader) -> Callable[[bytes], object]:
    """Feeds one whole message and takes the instance."""

    def feed(message: bytes) -> object:
        event, consumed_bytes = reader.feed(message)
        assert (event, consumed_bytes) == (STORE, len(message))
        return reader.take_instance()

    return feed


@pytest.fixture
def fast_directory() -> Iterator[Path]:
    """On tmpfs where there is one, so that the store is measured and not a disk."""
    directory = Path(tempfile.mkdtemp(prefix="fastscp-bench-", dir=TMPFS if TMPFS.is_dir() else None))
    yield directory
    shutil.rmtree(directory)
