"""The listener alone: silence, first bytes that come late, too many of both, and a process without descriptors.

Enters: connections. Leaves: those with a byte, to the acceptor; counts of the others. Never: a thread or a descriptor for the silent.
"""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fastscp.errors import ConfigError
from fastscp.observe.metrics import Metrics
from fastscp.service import listener as listener_module
from fastscp.service.listener import bind
from fastscp.service.run import _raise_descriptor_limit
from tests.association.inprocess import Running, eventually, nothing_left_open
from tests.peers import encoding as enc
from tests.peers.datasets import make
from tests.peers.raw_scu import PeerClosed, RawScu


@pytest.fixture(autouse=True)
def _left() -> Iterator[None]:
    with nothing_left_open():
        yield


def connections(running: Running, result: str) -> float:
    return running.sample("fastscp_connections_total", result=result)


def test_a_connection_that_closes_without_a_byte_has_no_thread() -> None:
    with Running() as running:
        threads = threading.active_count()
        for number in range(20):
            scu = running.connect()
            scu.reset() if number % 2 else scu.close()
        eventually(lambda: connections(running, "empty") == 20, "they are counted")
        assert threading.active_count() == threads
        assert running.sample("fastscp_associations_total", outcome="closed") == 0


def test_a_first_byte_that_comes_late() -> None:
    request = enc.associate_rq([enc.Context(1, enc.CT_IMAGE)])
    with Running() as running:
        threads = threading.active_count()
        with running.connect() as scu, running.connect() as other:
            other.associate()
            # The other one came later and is served: this one is in the listener's hands, and silent.
            assert threading.active_count() == threads + 1
            scu.send(request[:1])
            eventually(lambda: threading.active_count() == threads + 2, "it has a thread now")
            scu.send(request[1:])
            assert scu.read_pdu()[0] == enc.ASSOCIATE_AC
            scu.release()
            other.release()
        running.wait_none_left()
        assert connections(running, "associated") == 2


def test_a_connection_that_stays_silent_is_closed() -> None:
    with Running(associate_timeout_s=0.2) as running:
        with running.connect() as first, running.connect() as second:
            for scu in (first, second):
                with pytest.raises(PeerClosed):
                    scu.read_pdu()
        eventually(lambda: connections(running, "timed_out") == 2, "both are counted")


def test_the_oldest_of_too_many_silent_connections_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener_module, "SILENT_CEILING", 10)
    with Running() as running, ExitStack() as stack:
        silent = [stack.enter_context(running.connect()) for _ in range(15)]
        eventually(lambda: connections(running, "timed_out") == 5, "the oldest five are closed")
        for scu in silent[:5]:
            with pytest.raises(PeerClosed):
                scu.read_pdu()
        for scu in silent[5:]:
            assert not scu.readable(0)
            scu.associate()
            scu.release()


def test_connections_beyond_the_threads_wait_their_turn() -> None:
    """They are answered once somebody has gone."""
    with Running(handshakes=1, max_associations=2) as running, ExitStack() as stack:
        first = [stack.enter_context(running.connect()) for _ in range(2)]
        for scu in first:
            scu.associate()
        # One more has a thread, to be told that there are too many; until it closes, the next ones have none.
        rejected = stack.enter_context(running.connect())
        rejected.send(enc.associate_rq([enc.Context(1, enc.CT_IMAGE)]))
        assert rejected.read_pdu()[0] == enc.ASSOCIATE_RJ
        waiting = [stack.enter_context(running.connect()) for _ in range(3)]
        for scu in waiting:
            scu.send(enc.associate_rq([enc.Context(1, enc.CT_IMAGE)]))
        assert not waiting[0].readable(0.2)
        for scu in first:
            scu.release()
        rejected.close()
        with ThreadPoolExecutor(3) as threads:
            assert list(threads.map(is_answered, waiting)) == [True] * 3
        running.wait_none_left()


def is_answered(scu: RawScu) -> bool:
    kind, _ = scu.read_pdu()
    scu.close()
    return kind in (enc.ASSOCIATE_AC, enc.ASSOCIATE_RJ)


def test_too_many_that_wait_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener_module, "WAITING_CEILING", 3)
    with Running(handshakes=0, max_associations=1) as running, ExitStack() as stack:
        served = stack.enter_context(running.connect())
        served.associate()
        waiting = [stack.enter_context(running.connect()) for _ in range(5)]
        for scu in waiting:
            scu.send(enc.associate_rq([enc.Context(1, enc.CT_IMAGE)]))
        eventually(lambda: connections(running, "refused") == 2, "two are closed")
        served.release()
        # In any order, since they became readable at the same time.
        with ThreadPoolExecutor(5) as threads:
            answered = list(threads.map(is_served, waiting))
        assert sorted(answered) == [False] * 2 + [True] * 3
        running.wait_none_left()


def is_served(scu: RawScu) -> bool:
    try:
        served = scu.read_pdu()[0] == enc.ASSOCIATE_AC
        scu.release()
    except PeerClosed:
        return False
    return served


def test_stop_closes_the_silent_and_the_port_and_leaves_the_others() -> None:
    with Running() as running:
        with running.connect() as silent, running.connect() as established:
            established.associate()
            assert running.listener.is_alive()
            running.listener.stop()
            assert not running.listener.is_alive()
            with pytest.raises(PeerClosed):
                silent.read_pdu()
            with pytest.raises(ConnectionRefusedError):
                RawScu(running.port)
            made = make()
            assert established.store(made.sop_class, made.sop_instance, made.data_set).status == 0
            established.release()
        running.wait_none_left()
        running.listener.stop = lambda: None  # type: ignore[method-assign]  # it is stopped once


def test_many_connections_while_it_stops() -> None:
    """Each is served or closed; none hangs."""
    for _ in range(5):
        with Running() as running, ExitStack() as stack:
            peers = [stack.enter_context(running.connect()) for _ in range(30)]
            sender = threading.Thread(target=lambda peers=peers: [say(scu) for scu in peers])
            sender.start()
            running.listener.stop()
            sender.join(30)
            for scu in peers:
                scu.sock.settimeout(30)
                try:
                    if scu.read_pdu()[0] == enc.ASSOCIATE_AC:
                        scu.release()
                except PeerClosed:
                    continue
            running.wait_none_left()
            running.listener.stop = lambda: None  # type: ignore[method-assign]


def say(scu: RawScu) -> None:
    try:
        scu.send(enc.associate_rq([enc.Context(1, enc.CT_IMAGE)]))
    except OSError:
        return


FEW_DESCRIPTORS = """
import os, resource, time
from fastscp.observe.metrics import Metrics
from fastscp.service.listener import Listener, bind
from tests.association.inprocess import eventually
from tests.peers.raw_scu import RawScu
class Door:
    taken = []
    def has_room(self):
        return True
    def accept(self, client_socket, peer):
        self.taken.append(client_socket)
listening = bind("127.0.0.1", 0)
port = listening.getsockname()[1]
listener = Listener(listening, Door(), Metrics("test"), 30.0)
listener.start()
ready = [RawScu(port) for _ in range(4)]
eventually(lambda: len(listener._silent) == 4, "all are accepted")
next_one = os.dup(0)
os.close(next_one)
# One descriptor more: for our end of a connection, and none for the other.
resource.setrlimit(resource.RLIMIT_NOFILE, (next_one + 1, 4096))
late = RawScu(port)
late.send(b"x")
eventually(lambda: listener._resume_at is not None, "there is no descriptor left")
time.sleep(1.2)
for scu in ready:
    scu.send(b"x")
eventually(lambda: len(Door.taken) == 4, "those that were accepted before are handed over")
Door.taken.pop().close()
eventually(lambda: len(Door.taken) == 4, "the one that waited is accepted")
listener.stop()
print("done")
"""


def test_without_a_descriptor_left_it_pauses_and_goes_on() -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    done = subprocess.run([sys.executable, "-c", FEW_DESCRIPTORS], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "done" in done.stdout
    logged = (done.stdout + done.stderr).count("cannot_accept")
    # Twice a second; without the pause it would be thousands.
    assert 1 <= logged <= 200


def test_a_port_that_is_taken_names_the_option() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError) as wrong:
        bind("127.0.0.1", taken.getsockname()[1])
    assert wrong.value.option == "--port"


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_an_address_that_is_not_ours_names_the_option(host: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        bind(host, 0)
    assert wrong.value.option == "--host"


def test_both_versions_of_ip_are_one_address_to_the_rest() -> None:
    """A peer that reaches :: over IPv4 has its IPv4 address in logs, events and limits."""
    listening = bind("::", 0)
    accepted: list[Any] = []

    class Accepting:
        def has_room(self) -> bool:
            return True

        def accept(self, client_socket: socket.socket, peer: tuple[str, int]) -> None:
            accepted.append(peer)
            client_socket.close()

    started = listener_module.Listener(listening, Accepting(), Metrics("test"), 30.0)
    started.start()
    try:
        for host in ("127.0.0.1", "::1"):
            with RawScu(listening.getsockname()[1], host=host) as scu:
                scu.send(b"\1")
                local = scu.sock.getsockname()[:2]
                eventually(lambda local=local: local in accepted, "it is handed over under its own address")
    finally:
        started.stop()


def test_the_limit_of_descriptors_is_raised_as_far_as_it_goes() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        _raise_descriptor_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
