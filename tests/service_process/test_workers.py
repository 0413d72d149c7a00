"""Several workers: who gets which connection, limits for all of them, and one that dies or is told to end.

Enters: connections, and ends of workers at bad moments. Leaves: a receiver that goes on.
Never: more associations than the limit, an acknowledged instance that is not there, a worker missing without a word.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.peers import encoding as enc
from tests.peers.datasets import Made, make
from tests.peers.part10 import read_part10
from tests.peers.raw_scu import PeerClosed, RawScu, Rejected
from tests.peers.server import FastScp, process_tree, serve_options, wait_until
from tests.service_process.test_crash import begin_large_instance
from tests.service_process.test_drain import burst

pytestmark = pytest.mark.requires_linux  # workers are found in /proc


def workers(server: FastScp) -> list[int]:
    """Process ids by the number of the worker."""
    by_number = {}
    for pid in process_tree(server.pid):
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"fastscp.service.worker" in arguments:
            by_number[int(arguments[arguments.index(b"fastscp.service.worker") + 1])] = pid
    return [pid for _, pid in sorted(by_number.items())]


def connections_of(pid: int) -> int:
    """Sockets that a worker has beyond those for the supervisor."""
    found = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found += str(entry.readlink()).startswith("socket:")
        except OSError:
            continue
    return found - 2


def store(scu: RawScu) -> Made:
    made = make()
    assert scu.store(made.sop_class, made.sop_instance, made.data_set).status == 0
    return made


def is_ready(server: FastScp) -> bool:
    return server.get("/readyz")[0] == 200


def test_each_connection_goes_to_the_worker_that_has_least_to_do(tmp_path: Path) -> None:
    with FastScp(tmp_path / "received", "--workers", "3") as server, ExitStack() as stack:
        assert len(workers(server)) == 3
        peers = [stack.enter_context(RawScu(server.port)) for _ in range(12)]
        for scu in peers:
            scu.associate()
        assert [connections_of(pid) for pid in workers(server)] == [4, 4, 4]
        for scu in peers[::3]:
            scu.release()
        wait_until(lambda: sum(connections_of(pid) for pid in workers(server)) == 8, "four have ended")
        for scu in [stack.enter_context(RawScu(server.port)) for _ in range(4)]:
            scu.associate()
            store(scu)
        assert [connections_of(pid) for pid in workers(server)] == [4, 4, 4]
        assert server.metric("fastscp_associations_active") == 12
        stack.close()
        assert server.stop() == 0
        ended = Counter(record["worker"] for record in server.events("association_ended"))
        assert sum(ended.values()) == 16
        assert set(ended) == {1, 2, 3}


def test_metrics_and_limits_are_those_of_all_workers(tmp_path: Path) -> None:
    options = serve_options(workers=3, max_associations=7, memory_budget="90MiB")
    with FastScp(tmp_path / "received", *options) as server, ExitStack() as stack:
        peers = [stack.enter_context(RawScu(server.port)) for _ in range(7)]
        for scu in peers:
            scu.associate()
            store(scu)
        for _ in range(5):
            with RawScu(server.port) as one_more, pytest.raises(Rejected) as rejected:
                one_more.associate()
            assert rejected.value.answer == (2, 3, 2)
        metrics = server.metrics()
        assert metrics["fastscp_associations_active"] == 7
        assert metrics['fastscp_instances_total{status="0000"}'] == 7
        assert metrics["fastscp_store_seconds_count"] == 7
        assert metrics["fastscp_memory_budget_bytes"] == 90 << 20
        assert metrics['fastscp_build_info{version="0.1.0"}'] == 1
        wait_until(lambda: server.metrics()['fastscp_rejections_total{reason="local_limit"}'] == 5, "rejections are counted")
        # Whoever leaves makes room at once, whichever worker had it.
        for scu in peers:
            scu.release()
            with RawScu(server.port) as next_one:
                next_one.associate()
                next_one.release()
        assert server.stop() == 0


def test_many_at_one_time_never_exceed_the_limit(tmp_path: Path) -> None:
    with FastScp(tmp_path / "received", *serve_options(workers=2, max_associations=5)) as server:
        kept: list[RawScu] = []
        outcomes: Counter[str] = Counter()
        lock = threading.Lock()

        def try_to_associate() -> None:
            scu = RawScu(server.port)
            try:
                scu.associate()
            except Rejected as rejected:
                with lock:
                    outcomes[str(rejected.answer)] += 1
                scu.close()
            else:
                with lock:
                    outcomes["accepted"] += 1
                    kept.append(scu)

        threads = [threading.Thread(target=try_to_associate, daemon=True) for _ in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert outcomes == {"accepted": 5, "(2, 3, 2)": 35}
        for scu in kept:
            scu.close()
        assert server.stop() == 0


def test_a_worker_that_dies_is_replaced_and_the_others_go_on(tmp_path: Path) -> None:
    with FastScp(tmp_path / "received", *serve_options(workers=2, max_associations=4)) as server, ExitStack() as stack:
        peers = [stack.enter_context(RawScu(server.port)) for _ in range(4)]
        for scu in peers:
            scu.associate()
            store(scu)
        assert server.metrics()['fastscp_instances_total{status="0000"}'] == 4
        dead = workers(server)[0]
        os.kill(dead, signal.SIGKILL)
        died = server.wait_event("worker_died")
        assert (died["worker"], died["signal"], died["connections_lost"]) == (1, "SIGKILL", 2)
        lost = kept = 0
        for scu in peers:
            try:
                store(scu)
                kept += 1
            except (PeerClosed, OSError):
                lost += 1
        assert (lost, kept) == (2, 2)
        wait_until(lambda: is_ready(server), "the replacement accepts")
        assert workers(server)[0] != dead
        # The slots of the dead are free, those of the living are not.
        for scu in [stack.enter_context(RawScu(server.port)) for _ in range(2)]:
            scu.associate()
            store(scu)
        with RawScu(server.port) as one_more, pytest.raises(Rejected):
            one_more.associate()
        assert server.metric("fastscp_associations_active") == 4
        # What was counted before it died stays counted.
        assert server.metrics()['fastscp_instances_total{status="0000"}'] == 8
        stack.close()
        assert server.stop() == 0


def test_temporary_files_of_a_worker_that_died_are_removed(tmp_path: Path) -> None:
    with FastScp(tmp_path / "received", "--workers", "2") as server, RawScu(server.port) as scu:
        begun = begin_large_instance(scu)
        wait_until(lambda: any(path.stat().st_size > 2**20 for path in server.stray_files()), "a temporary file has grown")
        (busy,) = [pid for pid in workers(server) if connections_of(pid)]
        os.kill(busy, signal.SIGKILL)
        server.wait_event("worker_died")
        wait_until(lambda: not server.stray_files(), "they are removed")
        wait_until(lambda: is_ready(server), "the replacement accepts")
        assert not (server.store / begun.relative_path).exists()
        assert server.stop() == 0


def test_a_worker_that_is_told_to_end_drains_and_is_replaced(tmp_path: Path) -> None:
    """What it has is finished; nothing new comes to it; nobody is refused meanwhile."""
    with FastScp(tmp_path / "received", "--workers", "2") as server, RawScu(server.port) as scu:
        made = make(pixel_bytes=200_000)
        stream = b"".join(enc.message_pdus(1, enc.store_command(made.sop_class, made.sop_instance), made.data_set))
        scu.associate()
        scu.send(stream[: len(stream) // 2])
        (busy,) = [pid for pid in workers(server) if connections_of(pid)]
        os.kill(busy, signal.SIGTERM)
        wait_until(lambda: "draining" in server.get("/readyz")[1], "it is draining")
        for _ in range(10):
            with RawScu(server.port) as other:
                other.associate()
                store(other)
                other.release()
        scu.send(stream[len(stream) // 2 :])
        assert scu.read_response().status == 0
        scu.expect(enc.RELEASE_RQ)
        scu.send(enc.RELEASE_RP_PDU)
        assert scu.wait_closed() == []
        server.wait_event("worker_drained")
        wait_until(lambda: is_ready(server), "the replacement accepts")
        assert busy not in workers(server)
        assert len(workers(server)) == 2
        assert read_part10(server.store / made.relative_path).data_set == made.data_set
        wait_until(lambda: server.metrics()['fastscp_instances_total{status="0000"}'] == 11, "all are counted, also by who has ended")
        assert not server.events("worker_died")
        assert server.stop() == 0


def test_no_counter_falls_while_workers_end(tmp_path: Path) -> None:
    stored = 'fastscp_instances_total{status="0000"}'
    with FastScp(tmp_path / "received", "--workers", "2") as server:
        with RawScu(server.port) as first, RawScu(server.port) as second:
            for scu in (first, second):
                scu.associate()
                for _ in range(20):
                    store(scu)
                scu.release()
        seen, ended = [server.metrics()[stored]], threading.Event()

        def scrape() -> None:
            while not ended.is_set():
                seen.append(server.metrics()[stored])

        scraper = threading.Thread(target=scrape)
        scraper.start()
        try:
            for _ in range(3):
                before = workers(server)
                for pid in before:
                    os.kill(pid, signal.SIGTERM)
                wait_until(lambda before=before: not set(before) & set(workers(server)) and is_ready(server), "both are replaced")  # type: ignore[misc]
        finally:
            ended.set()
            scraper.join()
        assert seen[0] == 40
        assert set(seen) == {40}
        assert server.stop() == 0


def test_all_workers_die_under_fire_and_what_was_acknowledged_is_there(tmp_path: Path) -> None:
    acknowledged: list[list[Made]] = [[] for _ in range(4)]
    with FastScp(tmp_path / "received", "--workers", "2") as server:
        senders = [threading.Thread(target=burst, args=(server.port, each), daemon=True) for each in acknowledged]
        for sender in senders:
            sender.start()
        wait_until(lambda: all(len(each) >= 5 for each in acknowledged), "every sender is in full flow")
        for pid in workers(server):
            os.kill(pid, signal.SIGKILL)
        for sender in senders:
            sender.join(30)
            assert not sender.is_alive()
        server.wait_event("worker_died", count=2)
        # A connection that comes while there is nobody to take it waits for the replacement.
        with RawScu(server.port) as scu:
            scu.associate()
            store(scu)
            scu.release()
        for made in (made for each in acknowledged for made in each):
            assert read_part10(server.store / made.relative_path).data_set == made.data_set
        assert server.stop() == 0
        assert not server.stray_files()


def test_without_its_supervisor_a_worker_finishes_what_it_has(tmp_path: Path) -> None:
    with FastScp(tmp_path / "received", "--workers", "2") as server, RawScu(server.port) as scu:
        made = make(pixel_bytes=200_000)
        stream = b"".join(enc.message_pdus(1, enc.store_command(made.sop_class, made.sop_instance), made.data_set))
        scu.associate()
        scu.send(stream[: len(stream) // 2])
        orphans = workers(server)
        os.kill(server.pid, signal.SIGKILL)
        server.process.wait(30)
        scu.send(stream[len(stream) // 2 :])
        assert scu.read_response().status == 0
        scu.expect(enc.RELEASE_RQ)
        scu.send(enc.RELEASE_RP_PDU)
        assert scu.wait_closed() == []
        assert read_part10(server.store / made.relative_path).data_set == made.data_set
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans), "they end")
        assert not server.stray_files()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), timeout=5)


def test_one_worker_is_enough(tmp_path: Path) -> None:
    with FastScp(tmp_path / "received", "--workers", "1") as server:
        assert len(workers(server)) == 1
        with RawScu(server.port) as scu:
            scu.associate()
            store(scu)
            scu.release()
        assert server.stop() == 0


def test_workers_leave_nothing_behind_however_often_they_die(tmp_path: Path) -> None:
    """Descriptors and threads of the supervisor are as many as before."""
    with FastScp(tmp_path / "received", "--workers", "2") as server:

        def held() -> tuple[int, int]:
            return len(os.listdir(f"/proc/{server.pid}/fd")), len(os.listdir(f"/proc/{server.pid}/task"))

        server.metrics()
        before = held()
        for turn in range(2):
            os.kill(workers(server)[turn], signal.SIGKILL)
            server.wait_event("worker_died", count=turn + 1)
            wait_until(lambda: is_ready(server), "the replacement accepts")
        server.metrics()
        wait_until(lambda: all(now <= then for now, then in zip(held(), before, strict=True)), f"no more than {before} are held")
        assert server.stop() == 0
