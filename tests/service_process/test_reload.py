"""SIGHUP: a configuration file that has changed, with associations that go on.

Enters: another file. Leaves: other limits for who comes next. Never: an association that is dropped, half a configuration.
"""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.association.test_proxy import LOCAL, header
from tests.peers import encoding as enc
from tests.peers.datasets import make
from tests.peers.encoding import Context
from tests.peers.raw_scu import RawScu, Rejected
from tests.peers.server import FastScp, wait_until
from tests.service_process.test_workers import workers

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"


def store(scu: RawScu) -> None:
    made = make()
    assert scu.store(made.sop_class, made.sop_instance, made.data_set).status == 0


def reload(server: FastScp, file: Path, text: str, *, event: str = "reloaded") -> dict[str, object]:
    """Write the file and have it read."""
    count = len(server.events(event)) + 1
    file.write_text(text)
    server.send_signal(signal.SIGHUP)
    return server.wait_event(event, count)


def rejection(server: FastScp, **request: bytes) -> tuple[int, int, int] | None:
    with RawScu(server.port) as scu:
        try:
            scu.associate(**request)
        except Rejected as rejected:
            return rejected.answer
        store(scu)
        scu.release()
        return None


def test_what_may_change_changes_for_who_comes_next(tmp_path: Path) -> None:
    file = tmp_path / "fastscp.toml"
    file.write_text("max_associations = 10\n")
    with FastScp(tmp_path / "received", "--config", str(file), "--workers", "2") as server, ExitStack() as stack:
        here = [stack.enter_context(RawScu(server.port)) for _ in range(3)]
        for scu in here:
            scu.associate(calling=b"OLD")
            store(scu)

        record = reload(server, file, 'max_associations = 4\nrequire_calling_aet = ["NEW"]\naet = "OTHER"\nrequire_called_aet = true\n')
        assert record["changed"] == ["aet", "require_called_aet", "require_calling_aet", "max_associations"]
        assert record["needs_restart"] == []
        for scu in here:
            store(scu)
        # Each worker in turn, since the one that has less to do gets the next.
        for _ in range(4):
            assert rejection(server, calling=b"OLD", called=b"OTHER") == (1, 1, 3)
            assert rejection(server, calling=b"NEW", called=b"FASTSCP") == (1, 1, 7)
            assert rejection(server, calling=b"NEW", called=b"OTHER") is None
        with RawScu(server.port) as fourth:
            fourth.associate(calling=b"NEW", called=b"OTHER")
            assert rejection(server, calling=b"NEW", called=b"OTHER") == (2, 3, 2)
            fourth.release()

        # Who is there stays, also where the limit is now below them.
        reload(server, file, "max_associations = 1\n")
        for scu in here:
            store(scu)
        assert rejection(server) == (2, 3, 2)
        stack.close()
        assert server.stop() == 0
        assert {record["outcome"] for record in server.events("association_ended")} <= {"released", "closed"}


def test_who_may_send_what_changes_for_who_comes_next(tmp_path: Path) -> None:
    """The rest of what may change; nobody who is there notices."""
    file = tmp_path / "fastscp.toml"
    file.write_text("")
    large = make(pixel_bytes=5000)
    with FastScp(tmp_path / "received", "--config", str(file), "--workers", "2") as server, ExitStack() as stack:
        here = [stack.enter_context(RawScu(server.port)) for _ in range(4)]
        for scu in here:
            scu.associate()

        def all_go_on() -> None:
            for scu in here:
                assert scu.store(large.sop_class, large.sop_instance, large.data_set).status == 0

        assert reload(server, file, 'peers = ["192.0.2.0/24"]\n')["changed"] == ["peers"]
        all_go_on()
        assert [rejection(server) for _ in range(4)] == [(1, 1, 1)] * 4
        server.wait_event("association_rejected", 4)
        assert {record["reason"] for record in server.events("association_rejected")} == {"peer_address"}

        assert reload(server, file, 'max_instance_size = "1KiB"\n')["changed"] == ["peers", "max_instance_size"]
        all_go_on()
        for _ in range(4):
            with RawScu(server.port) as scu:
                scu.associate()
                assert scu.store(large.sop_class, large.sop_instance, large.data_set).status == 0xA700
                store(scu)
                scu.release()

        def results() -> dict[int, int]:
            with RawScu(server.port) as scu:
                accepted = scu.associate([Context(1, enc.CT_IMAGE), Context(3, MR_IMAGE)])
                scu.release()
                return accepted.results

        # The same proposal as before: an answer that a worker remembers was given by other settings.
        assert [results() for _ in range(4)] == [{1: 0, 3: 0}] * 4
        assert reload(server, file, f'sop_classes = ["{MR_IMAGE}"]\n')["changed"] == ["sop_classes", "max_instance_size"]
        all_go_on()
        assert [results() for _ in range(4)] == [{1: 3, 3: 0}] * 4

        assert reload(server, file, "")["changed"] == ["sop_classes"]
        all_go_on()
        assert rejection(server) is None
        stack.close()
        assert server.stop() == 0


def test_what_cannot_change_is_said_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "fastscp.toml"
    file.write_text("")
    with FastScp(tmp_path / "received", "--config", str(file)) as server:
        record = reload(server, file, 'max_pdu = 16384\nlog_level = "debug"\n')
        assert (record["changed"], record["needs_restart"], record["level"]) == (["log_level"], ["max_pdu"], "warning")
        with RawScu(server.port) as scu:
            assert scu.associate().max_pdu_bytes == 131072
            scu.release()
        RawScu(server.port).close()
        server.wait_event("connection_without_a_byte")
        assert server.stop() == 0


def test_the_level_of_the_log_changes_in_every_worker(tmp_path: Path) -> None:
    file = tmp_path / "fastscp.toml"
    file.write_text("")
    options = ["--config", str(file), "--workers", "2", "--proxy-protocol", "127.0.0.1"]

    def checks() -> float:
        return server.metrics()['fastscp_connections_total{result="empty"}']

    def check() -> None:
        before = checks()
        with RawScu(server.port) as scu:
            scu.send(LOCAL)
        wait_until(lambda: checks() == before + 1, "it is counted")

    def told() -> list[dict[str, object]]:
        return server.events("connection_without_a_byte")

    def both_have_told() -> bool:
        """The next connection goes to the worker that has less to do."""
        with RawScu(server.port) as scu:
            scu.send(header())
            scu.associate()
            check()
            scu.release()
        check()
        return {record["worker"] for record in told()} == {1, 2}

    with FastScp(tmp_path / "received", *options) as server:
        check()
        assert reload(server, file, 'log_level = "debug"\n')["changed"] == ["log_level"]
        wait_until(both_have_told, "both workers go by it")
        wait_until(lambda: len(told()) == checks() - 1, "each check since then has its record")
        assert {record["level"] for record in told()} == {"debug"}
        told_count = len(told())
        assert reload(server, file, "")["changed"] == ["log_level"]
        check()
        assert server.stop() == 0
        assert len(told()) == told_count


@pytest.mark.parametrize("text", ["max_associations = 0\n", "no_such_option = 1\n", "not TOML", "drain_timeout = 1000\n"])
def test_a_file_that_is_wrong_changes_nothing(tmp_path: Path, text: str) -> None:
    file = tmp_path / "fastscp.toml"
    file.write_text("max_associations = 1\n")
    with FastScp(tmp_path / "received", "--config", str(file), "--workers", "1") as server, RawScu(server.port) as scu:
        scu.associate()
        record = reload(server, file, text, event="not_reloaded")
        assert record["option"]
        store(scu)
        assert rejection(server) == (2, 3, 2)
        scu.release()
        assert server.stop() == 0


@pytest.mark.requires_linux
def test_a_worker_that_is_replaced_goes_by_what_was_read_last(tmp_path: Path) -> None:
    file = tmp_path / "fastscp.toml"
    file.write_text("")
    with FastScp(tmp_path / "received", "--config", str(file), "--workers", "1") as server:
        reload(server, file, 'require_calling_aet = ["NEW"]\n')
        os.kill(workers(server)[0], signal.SIGKILL)
        server.wait_event("worker_died")
        assert rejection(server, calling=b"OLD") == (1, 1, 3)
        assert rejection(server, calling=b"NEW") is None
        assert server.stop() == 0
