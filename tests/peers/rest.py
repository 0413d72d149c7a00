"""What a receiver holds while nobody sends, and whether it has come back to that.

Enters: a running receiver. Leaves: its resources at rest, or a failed test that names what is left over. Never: patience without end.
"""

from __future__ import annotations

from contextlib import ExitStack

from tests.peers.datasets import make
from tests.peers.raw_scu import RawScu
from tests.peers.server import FastScp, Resources, wait_until

WARM_ASSOCIATIONS = 24


def warmed_up(server: FastScp) -> Resources:
    """What the server holds at rest, after it has served some associations at one time.

    The receiver keeps the threads of ended associations for the next ones, so the base has as many as any test here needs.
    """
    with ExitStack() as stack:
        peers = [stack.enter_context(RawScu(server.port)) for _ in range(WARM_ASSOCIATIONS)]
        for scu in peers:
            scu.associate()
        for scu in peers:
            made = make()
            assert scu.store(made.sop_class, made.sop_instance, made.data_set).status == 0
            scu.release()
    wait_until(lambda: server.metric("fastscp_associations_active") == 0, "the first associations are over")
    return server.resources()


def assert_back_to(server: FastScp, base: Resources, *, since_record: int = 0, kept_threads: int = 0) -> None:
    """Nothing that a peer caused is left: no thread, descriptor, slot, memory, or file that is not an instance.

    Args:
        since_record: index of the first log record of the test; from there on none may be an error.
        kept_threads: threads beyond the base that may wait for the next association.
    """
    allowed = Resources(base.processes, base.threads + kept_threads, base.descriptors)

    def at_rest() -> bool:
        return (
            server.resources().within(allowed)
            and server.metric("fastscp_associations_active") == 0
            and server.metric("fastscp_memory_in_use_bytes") == 0
            and not server.stray_files()
        )

    try:
        wait_until(at_rest, "back to rest", timeout_s=10)
    except AssertionError:
        raise AssertionError(
            f"left over: {server.resources()} where {allowed} was the base, "
            f"{server.metric('fastscp_associations_active')} associations, "
            f"{server.metric('fastscp_memory_in_use_bytes')} bytes, {server.stray_files()}"
        ) from None
    assert server.process.poll() is None
    assert not [line for line in server.log_lines if not line.startswith("{")], "a log line is not a JSON record"
    errors = [record for record in server.records[since_record:] if record.get("level") in ("error", "critical")]
    assert not errors, errors
