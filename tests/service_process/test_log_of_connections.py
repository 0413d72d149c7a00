"""What the log says of connections: one record of each association with its whole story, and nothing of a check.

Enters: associations that end in every way, and connections of load balancers' checks. Leaves: records and counts.
Never: a second record of an association, a record above debug of a check.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.association.test_proxy import LOCAL, header
from tests.peers import encoding as enc
from tests.peers.datasets import make
from tests.peers.encoding import Context
from tests.peers.raw_scu import Aborted, PeerClosed, RawScu, Rejected
from tests.peers.server import FastScp, serve_options, wait_until

CONTEXTS = [Context(1, enc.CT_IMAGE), Context(3, enc.VERIFICATION), Context(5, "1.2.840.10008.5.1.4.31")]
FOLLOWED = ("association_ended", "association_rejected", "no_association")


def begin(scu: RawScu) -> None:
    """An association with two instances that are stored and one that is not."""
    scu.associate(CONTEXTS, calling=b"CT 1", called=b"STORE")
    for made in (make(), make()):
        assert scu.store(made.sop_class, made.sop_instance, made.data_set).status == 0
    made = make()
    assert scu.store(made.sop_class, "1.2.3", made.data_set).status == 0xA900
    assert scu.echo(3).status == 0


def released(scu: RawScu) -> None:
    begin(scu)
    scu.release()


def aborted_by_peer(scu: RawScu) -> None:
    begin(scu)
    scu.send(enc.ABORT_PDU)
    scu.wait_closed()


def closed(scu: RawScu) -> None:
    begin(scu)
    scu.reset()


def aborted(scu: RawScu) -> None:
    begin(scu)
    scu.send(enc.pdu(enc.P_DATA, b"\0\0\0\1x"))
    with pytest.raises((Aborted, PeerClosed)):
        scu.read_response()


def timed_out(scu: RawScu) -> None:
    begin(scu)
    scu.wait_closed()


ENDS = {"released": released, "aborted_by_peer": aborted_by_peer, "closed": closed, "aborted": aborted, "timed_out": timed_out}


def told_of(server: FastScp, port: int) -> list[dict[str, Any]]:
    """The records of the association from this port of the peer."""
    wait_until(lambda: any(record.get("peer_port") == port for record in list(server.records)), "there is a record")
    (association,) = {record["association"] for record in list(server.records) if record.get("peer_port") == port}
    return [dict(record) for record in list(server.records) if record.get("association") == association]


def test_every_association_has_one_record_with_its_whole_story(tmp_path: Path) -> None:
    with FastScp(tmp_path / "received", *serve_options(workers=2, idle_timeout=5, max_associations=2)) as server:
        ports: dict[str, int] = {}
        for outcome, end in ENDS.items():
            with RawScu(server.port) as scu:
                ports[outcome] = scu.sock.getsockname()[1]
                end(scu)
            wait_until(lambda: server.metric("fastscp_associations_active") == 0, "it has ended")
        for outcome, port in ports.items():
            refused, ended = told_of(server, port)
            assert refused["event"] == "instance_refused"
            assert ended.pop("duration_s") > 0
            assert bool(ended.pop("problem")) == (outcome in ("aborted", "timed_out"))
            for of_the_record in ("timestamp", "association", "worker"):
                assert ended.pop(of_the_record)
            assert ended == {
                "event": "association_ended",
                "level": "info",
                "component": "association",
                "peer_address": "127.0.0.1",
                "peer_port": port,
                "calling_aet": "CT 1",
                "called_aet": "STORE",
                "outcome": outcome,
                "contexts_accepted": 2,
                "contexts_rejected": 1,
                "instances": 3,
                "statuses": {"0000": 2, "A900": 1},
                "dataset_bytes": 3 * len(make().data_set),
            }
        # Two that are there, one that is rejected, one that asks for nothing.
        with RawScu(server.port) as first, RawScu(server.port) as second, RawScu(server.port) as third, RawScu(server.port) as fourth:
            for scu in (first, second):
                scu.associate()
            with pytest.raises(Rejected):
                third.associate(calling=b"LATE")
            fourth.send(b"GET / HTTP/1.1\r\n\r\n")
            peers = [scu.sock.getsockname()[1] for scu in (third, fourth)]
            for scu in (third, fourth):
                scu.half_close()
                scu.wait_closed()
            (rejected,), (none,) = (told_of(server, port) for port in peers)
            for scu in (first, second):
                scu.release()
        assert (rejected["event"], rejected["reason"], rejected["calling_aet"]) == ("association_rejected", "local_limit", "LATE")
        assert (none["event"], none["instances"], bool(none["problem"])) == ("no_association", 0, True)
        metrics = server.metrics()
        assert server.stop() == 0
    for outcome in ENDS:
        assert metrics[f'fastscp_associations_total{{outcome="{outcome}"}}'] == 1 + 2 * (outcome == "released")
    assert metrics['fastscp_associations_total{outcome="rejected"}'] == 1
    assert metrics['fastscp_rejections_total{reason="local_limit"}'] == 1
    assert metrics['fastscp_sender_instances_total{calling_aet="CT 1"}'] == 2 * len(ENDS)
    assert metrics['fastscp_sender_bytes_total{calling_aet="CT 1"}'] == 2 * len(ENDS) * len(make().data_set)
    assert metrics["fastscp_answer_seconds_count"] == 3 * len(ENDS)
    assert metrics["fastscp_store_seconds_count"] == 2 * len(ENDS)
    followed = Counter(record["association"] for record in server.records if record.get("event") in FOLLOWED)
    assert set(followed.values()) == {1}
    assert len(followed) == len(ENDS) + 4


def close(scu: RawScu) -> None:
    scu.close()


def half_close(scu: RawScu) -> None:
    scu.half_close()
    scu.wait_closed()


CHECKS: dict[str, bytes] = {"nothing": b"", "local": LOCAL, "client": header("192.0.2.77"), "local, additions": LOCAL[:14] + b"\0\3\4\0\0"}


@pytest.mark.parametrize("proxy", [False, True], ids=["plain", "proxy"])
def test_checks_of_a_load_balancer_leave_no_record(tmp_path: Path, proxy: bool) -> None:
    """By connecting and closing, in whatever way, with the header that it puts before its own checks too; and over HTTP."""
    options = ["--workers", "2", *(["--proxy-protocol", "127.0.0.1"] if proxy else [])]
    ends: list[Callable[[RawScu], None]] = [close, RawScu.reset, half_close]
    sent = list(CHECKS.values()) if proxy else [b""]
    with FastScp(tmp_path / "received", *options) as server:
        before = len(server.log_lines)
        for first in sent:
            for end in ends:
                for _ in range(3):
                    with RawScu(server.port) as scu:
                        scu.send(first)
                        end(scu)
        for path in ("/livez", "/readyz", "/metrics", "/nowhere"):
            server.get(path)
        wait_until(lambda: server.metrics()['fastscp_connections_total{result="empty"}'] == 9 * len(sent), "all are counted as empty")
        # Whose connection it is, where somebody does say something, is told.
        with RawScu(server.port) as scu:
            if proxy:
                scu.send(header("192.0.2.77", 4711))
            scu.associate()
            scu.release()
        ended = server.wait_event("association_ended")
        peer = ("192.0.2.77", 4711) if proxy else ("127.0.0.1", ended["peer_port"])
        assert (ended["peer_address"], ended["peer_port"]) == peer
        assert [record["event"] for record in server.records[before:]] == ["association_ended"]
        assert len(server.log_lines) == before + 1
        assert server.stop() == 0


def test_at_debug_each_check_has_its_record(tmp_path: Path) -> None:
    with FastScp(tmp_path / "received", "--log-level", "debug", "--proxy-protocol", "127.0.0.1", "--workers", "1") as server:
        for first in CHECKS.values():
            with RawScu(server.port) as scu:
                scu.send(first)
                scu.reset()
        server.wait_event("connection_without_a_byte", count=len(CHECKS))
        assert {record["level"] for record in server.events("connection_without_a_byte")} == {"debug"}
        assert server.stop() == 0
