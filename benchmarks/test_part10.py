"""Stage: file meta and the head of the data set.

Enters: UIDs, or a data set. Leaves: preamble and meta, or what identifies the instance. Never: pixels.
"""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import payloads
from benchmarks.payloads import Payload
from fastscp._ext.file_meta import encode_file_meta
from fastscp._ext.head import scan_head


@pytest.mark.benchmark(group="file meta")
def test_encode_file_meta(benchmark: BenchmarkFixture) -> None:
    """Preamble, prefix and file meta information group."""
    meta = benchmark(
        encode_file_meta,
        payloads.small().sop_class_uid,
        payloads.INSTANCE_UID,
        "1.2.840.10008.1.2.1",
        "LOAD",
        "1.2.826.0.1.3680043.8.498.1",
        "BENCHMARK",
    )
    assert meta[128:132] == b"DICM"


@pytest.mark.benchmark(group="head scan")
def test_scan_head(benchmark: BenchmarkFixture, payload: Payload) -> None:
    """Up to the Series Instance UID; its time does not depend on the pixels."""
    head = benchmark(scan_head, payload.data_set, explicit_vr=True, little_endian=True)
    assert (head.state, head.sop_instance_uid) == ("complete", payloads.INSTANCE_UID)
