"""SIGTERM and Ctrl-C: nothing new, what is being sent is finished, what was acknowledged is stored.

Enters: signals at bad moments. Leaves: exit codes and files. Never: an acknowledged instance that is not there.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pydicom.data
import pytest

from tests.peers import encoding as enc
from tests.peers.datasets import Made, make
from tests.peers.dcmtk import dcmtk
from tests.peers.part10 import read_part10
from tests.peers.raw_scu import Aborted, PeerClosed, RawScu
from tests.peers.server import FastScp, serve_options, wait_until
from tests.peers.tap import Tap

SIGNALS = [signal.SIGTERM, signal.SIGINT]


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[FastScp]:
    with FastScp(tmp_path / "received") as server:
        yield server


def refuses_connections(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def halves(made: Made) -> tuple[bytes, bytes]:
    stream = b"".join(enc.message_pdus(1, enc.store_command(made.sop_class, made.sop_instance), made.data_set))
    return stream[: len(stream) // 2], stream[len(stream) // 2 :]


def answer_release(scu: RawScu) -> None:
    """The receiver asks for the release of an association that has nothing more to send."""
    scu.expect(enc.RELEASE_RQ)
    scu.send(enc.RELEASE_RP_PDU)
    assert scu.wait_closed() == []


def burst(port: int, acknowledged: list[Made]) -> None:
    """Send until the receiver has had enough; note what it acknowledged."""
    try:
        with RawScu(port) as scu:
            scu.associate()
            while True:
                made = make(pixel_bytes=200_000)
                if scu.store(made.sop_class, made.sop_instance, made.data_set).status == 0:
                    acknowledged.append(made)
    except (Aborted, PeerClosed, OSError):
        return


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_everything_acknowledged_is_stored(tmp_path: Path, number: signal.Signals) -> None:
    """The senders never pause, so the deadline ends them."""
    with FastScp(tmp_path / "received", *serve_options(drain_timeout=2, put_timeout=1)) as receiver:
        drain_under_fire(receiver, number)


def drain_under_fire(receiver: FastScp, number: signal.Signals) -> None:
    acknowledged: list[list[Made]] = [[] for _ in range(4)]
    senders = [threading.Thread(target=burst, args=(receiver.port, each), daemon=True) for each in acknowledged]
    for sender in senders:
        sender.start()
    wait_until(lambda: all(len(each) >= 10 for each in acknowledged), "every sender is in full flow")
    assert receiver.stop(number) == 0
    for sender in senders:
        sender.join(30)
        assert not sender.is_alive()
    for made in (made for each in acknowledged for made in each):
        assert read_part10(receiver.store / made.relative_path).data_set == made.data_set
    assert not receiver.stray_files()


@pytest.mark.requires_dcmtk
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_everything_acknowledged_to_storescu_is_stored(receiver: FastScp, number: signal.Signals) -> None:
    sample = str(pydicom.data.get_testdata_file("CT_small.dcm", download=False))
    with Tap(receiver.port) as tap:
        command = [dcmtk("storescu"), "+II", "--repeat", "300", "127.0.0.1", str(tap.port), sample]
        clients = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(3)]
        try:
            wait_until(lambda: len(receiver.stored_files()) >= 100, "a hundred instances")
            assert receiver.stop(number) == 0
            for client in clients:
                client.wait(30)
        finally:
            for client in clients:
                client.kill()
                client.wait(30)
        acknowledged = [each for each in tap.all_stores() if each.status == 0]
    assert len(acknowledged) >= 100
    files = {path.stem: path for path in receiver.stored_files().values()}
    for each in acknowledged:
        assert read_part10(files[each.sop_instance]).data_set == each.data_set


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_what_is_being_sent_is_finished(receiver: FastScp, number: signal.Signals) -> None:
    """While it is: no new connection, alive, not ready."""
    made = make(pixel_bytes=200_000)
    first, second = halves(made)
    with RawScu(receiver.port) as scu, RawScu(receiver.port) as idle:
        scu.associate()
        idle.associate()
        scu.send(first)
        assert receiver.get("/livez")[0] == receiver.get("/readyz")[0] == 200
        receiver.send_signal(number)
        wait_until(lambda: refuses_connections(receiver.port), "the port is closed")
        wait_until(lambda: receiver.get("/readyz")[0] == 503, "not ready any more")
        assert receiver.get("/livez")[0] == 200
        answer_release(idle)
        scu.send(second)
        assert scu.read_response().status == 0
        answer_release(scu)
    assert receiver.wait_exit() == 0
    assert read_part10(receiver.store / made.relative_path).data_set == made.data_set


def test_a_second_signal_ends_at_once(receiver: FastScp) -> None:
    made = make(pixel_bytes=200_000)
    with RawScu(receiver.port) as scu:
        scu.associate()
        scu.send(halves(made)[0])
        receiver.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses_connections(receiver.port), "the port is closed")
        assert receiver.process.poll() is None, "the first signal did not wait for the instance"
        receiver.send_signal(signal.SIGTERM)
        assert receiver.wait_exit() == -signal.SIGTERM
    assert not receiver.stored_files()


def test_a_peer_that_stalls_does_not_hold_the_drain_beyond_its_deadline(tmp_path: Path) -> None:
    made = make(pixel_bytes=200_000)
    with FastScp(tmp_path / "received", *serve_options(drain_timeout=1, put_timeout=0.5)) as server, RawScu(server.port) as scu:
        scu.associate()
        scu.send(halves(made)[0])
        wait_until(lambda: server.metric("fastscp_memory_in_use_bytes") > 0, "the first half is there")
        assert server.stop() in (0, 1)
        assert not server.stored_files()
        assert not server.stray_files()


def test_the_peer_asks_for_the_release_at_the_same_time(receiver: FastScp) -> None:
    """PS3.8 section 9.2.2: a release collision, in which the receiver is the association's acceptor."""
    with RawScu(receiver.port) as scu:
        scu.associate()
        receiver.send_signal(signal.SIGTERM)
        scu.expect(enc.RELEASE_RQ)
        scu.send(enc.RELEASE_RQ_PDU)
        scu.send(enc.RELEASE_RP_PDU)
        scu.expect(enc.RELEASE_RP)
        scu.half_close()
        assert scu.wait_closed() == []
    assert receiver.wait_exit() == 0


def test_a_peer_that_never_answers_the_release(tmp_path: Path) -> None:
    options = serve_options(drain_timeout=4, put_timeout=1, associate_timeout=1)
    with FastScp(tmp_path / "received", *options) as server, RawScu(server.port) as scu:
        scu.associate()
        server.send_signal(signal.SIGTERM)
        assert [kind for kind, _ in scu.wait_closed(stay=True)] == [enc.RELEASE_RQ, enc.ABORT]
        assert server.wait_exit() == 0


def test_nothing_to_drain(receiver: FastScp) -> None:
    assert receiver.stop() == 0
    assert refuses_connections(receiver.port)
    assert receiver.get("/livez") == (0, "")


@pytest.mark.requires_linux
def test_no_process_is_left(receiver: FastScp) -> None:
    session = os.getsid(receiver.pid)
    assert receiver.stop() == 0
    alive = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                alive.append(os.getsid(int(entry.name)))
            except ProcessLookupError:
                continue
    assert session not in alive
