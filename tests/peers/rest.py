"""What a receiver holds while nobody sends, and whether it has come back to that.

Enters: a running receiver. Leaves: its resources at rest, or a failed test that names what is left over. Never: patience without end.
"""

from __future__ import annotations

from tests.peers.datasets import make
from tests.peers.raw_scu import RawScu
from tests.peers.server import FastScp, Resources, wait_until


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
