from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.peers.server import FastScp


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastScp]:
    """One receiver for all tests of a module, as it is started without options, each module with a store of its own."""
    with FastScp(tmp_path_factory.mktemp("received")) as server:
        yield server
        assert server.stop() == 0, server.log_text()
