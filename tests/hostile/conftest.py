from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.peers.rest import assert_back_to, warmed_up
from tests.peers.server import FastScp, Resources, serve_options


@pytest.fixture(scope="package")
def _receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FastScp, Resources]]:
    with FastScp(tmp_path_factory.mktemp("hostile") / "received") as server:
        yield server, warmed_up(server)
        assert server.stop() == 0, server.log_text()


@pytest.fixture
def receiver(_receiver: tuple[FastScp, Resources]) -> Iterator[FastScp]:
    """A receiver without options, which each test has to leave as it was."""
    server, base = _receiver
    records = len(server.records)
    yield server
    assert_back_to(server, base, since_record=records)


@pytest.fixture(scope="package")
def _impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FastScp, Resources]]:
    options = serve_options(associate_timeout=1, idle_timeout=2, progress_timeout=2)
    with FastScp(tmp_path_factory.mktemp("impatient") / "received", *options) as server:
        yield server, warmed_up(server)
        assert server.stop() == 0, server.log_text()


@pytest.fixture
def impatient(_impatient: tuple[FastScp, Resources]) -> Iterator[FastScp]:
    """A receiver with the shortest deadlines that a busy machine keeps."""
    server, base = _impatient
    records = len(server.records)
    yield server
    assert_back_to(server, base, since_record=records)
