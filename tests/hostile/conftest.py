from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.peers.datasets import make
from tests.peers.raw_scu import RawScu
from tests.peers.server import FastScp, Resources, serve_options, wait_until


def warmed_up(server: FastScp) -> Resources:
    """What the server holds at rest, after it has served one association."""
    with RawScu(server.port) as scu:
        scu.associate()
        made = make()
        assert scu.store(made.sop_class, made.sop_instance, made.data_set).status == 0
        scu.release()
    wait_until(lambda: server.metric("fastscp_associations_active") == 0, "the first association is over")
    return server.resources()


def assert_back_to(server: FastScp, base: Resources) -> None:
    """Nothing that a peer caused is left: no thread, descriptor, slot, memory, or file that is not an instance."""

    def at_rest() -> bool:
        return (
            server.resources().within(base)
            and server.metric("fastscp_associations_active") == 0
            and server.metric("fastscp_memory_in_use_bytes") == 0
            and not server.stray_files()
        )

    try:
        wait_until(at_rest, "back to rest")
    except AssertionError:
        raise AssertionError(
            f"left over: {server.resources()} where {base} was the base, "
            f"{server.metric('fastscp_associations_active')} associations, "
            f"{server.metric('fastscp_memory_in_use_bytes')} bytes, {server.stray_files()}"
        ) from None
    assert server.process.poll() is None
    assert not [line for line in server.log_lines if not line.startswith("{")], "a log line is not a JSON record"
    assert not [record for record in server.records if record.get("level") in ("error", "critical")]


@pytest.fixture(scope="package")
def _receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FastScp, Resources]]:
    with FastScp(tmp_path_factory.mktemp("hostile") / "received") as server:
        yield server, warmed_up(server)
        assert server.stop() == 0, server.log_text()


@pytest.fixture
def receiver(_receiver: tuple[FastScp, Resources]) -> Iterator[FastScp]:
    """A receiver without options, which each test has to leave as it was."""
    server, base = _receiver
    yield server
    assert_back_to(server, base)


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
    yield server
    assert_back_to(server, base)
