"""Fixtures of the benchmark tools' own tests.

Enters: nothing. Leaves: peers on loopback. Never: outlives its test.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pynetdicom import AE, evt

from benchmarks import payloads, s3
from benchmarks.load import PreparedLoad
from tests.benchmarks.peers import Floor, Recorder, run_floor


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("requires_openssl") and not s3.available():
        if os.environ.get("CI") == "true":
            pytest.fail("OpenSSL is incomplete: no program or no headers", pytrace=False)
        pytest.skip("no OpenSSL with its headers")


@pytest.fixture
def floor() -> Iterator[Floor]:
    with run_floor(None) as running:
        yield running


@pytest.fixture
def record() -> Iterator[Callable[..., Recorder]]:
    """Starts a recording receiver: `record(sop_class_uid, max_pdu_bytes)`."""
    with ExitStack() as stack:

        def start(sop_class_uid: str, max_pdu_bytes: int = 131072) -> Recorder:
            recorder = Recorder()
            entity = AE()
            entity.add_supported_context(sop_class_uid)
            entity.maximum_pdu_size = max_pdu_bytes
            handlers = [(evt.EVT_C_STORE, recorder.store), (evt.EVT_RELEASED, recorder.release)]
            server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
            stack.callback(server.shutdown)
            recorder.port = server.socket.getsockname()[1]
            return recorder

        yield start


@pytest.fixture
def prepared(tmp_path: Path) -> PreparedLoad:
    return PreparedLoad(payloads.small(), tmp_path)
