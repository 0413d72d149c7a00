"""kill -9 while instances arrive, and the start after it.

Enters: the worst moment. Leaves: whole files under final names, temporary ones removed by the next start. Never: half an instance.
"""

from __future__ import annotations

import threading
from pathlib import Path

from tests.peers import encoding as enc
from tests.peers.datasets import PIXEL_DATA, Made, element, make
from tests.peers.part10 import read_part10
from tests.peers.raw_scu import RawScu
from tests.peers.server import FastScp, wait_until
from tests.service_process.test_drain import burst


def begin_large_instance(scu: RawScu) -> Made:
    """Send 30 MB of an instance of 64 MB."""
    made = make(pixel_bytes=0)
    head = made.data_set.removesuffix(element(PIXEL_DATA, "OW", b"")) + element(PIXEL_DATA, "OW", b"", length=64_000_000)
    scu.associate()
    command = enc.store_command(made.sop_class, made.sop_instance)
    scu.send(enc.pdu(enc.P_DATA, enc.pdv(1, command, command=True, last=True) + enc.pdv(1, head, command=False, last=False)))
    for _ in range(300):
        scu.send(enc.pdu(enc.P_DATA, enc.pdv(1, bytes(100_000), command=False, last=False)))
    return made


def test_a_crash_leaves_whole_files_and_the_next_start_cleans_up(tmp_path: Path) -> None:
    acknowledged: list[list[Made]] = [[] for _ in range(4)]
    with FastScp(tmp_path / "received") as server, RawScu(server.port) as large:
        begun = begin_large_instance(large)
        wait_until(lambda: any(path.stat().st_size > 2**20 for path in server.stray_files()), "a temporary file has grown")
        senders = [threading.Thread(target=burst, args=(server.port, each), daemon=True) for each in acknowledged]
        for sender in senders:
            sender.start()
        wait_until(lambda: all(len(each) >= 10 for each in acknowledged), "every sender is in full flow")
        server.kill()
        for sender in senders:
            sender.join(30)
        assert server.stray_files(), "nothing was being received: this test shows nothing"
    acknowledged_paths = {made.relative_path: made for each in acknowledged for made in each}
    assert acknowledged_paths.keys() <= server.stored_files().keys()
    assert not (server.store / begun.relative_path).exists()
    for relative, path in server.stored_files().items():
        stored = read_part10(path)
        assert len(stored.data_set) > 200_000
        if relative in acknowledged_paths:
            assert stored.data_set == acknowledged_paths[relative].data_set
    with FastScp(tmp_path / "received") as again:
        assert not again.stray_files()
        assert acknowledged_paths.keys() <= again.stored_files().keys()
        assert again.stop() == 0


def test_two_receivers_on_one_store_leave_each_other_alone(tmp_path: Path) -> None:
    """What the first is receiving is not left over for the second to remove."""
    with FastScp(tmp_path / "received") as first, RawScu(first.port) as scu:
        begun = begin_large_instance(scu)
        wait_until(lambda: bool(first.stray_files()), "a temporary file")
        with FastScp(tmp_path / "received") as second:
            assert first.stray_files()
            assert second.stop() == 0
        for _ in range(340):
            scu.send(enc.pdu(enc.P_DATA, enc.pdv(1, bytes(100_000), command=False, last=False)))
        scu.send(enc.pdu(enc.P_DATA, enc.pdv(1, b"", command=False, last=True)))
        assert scu.read_response().status == 0
        scu.release()
        assert len(read_part10(first.store / begun.relative_path).data_set) > 64_000_000
        assert first.stop() == 0
