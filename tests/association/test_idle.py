"""Associations that wait cost nothing: no thread of theirs runs, in a process with more descriptors than select() can watch.

Enters: silence. Leaves: counts of context switches and processor time, from /proc. Never: a clock.
"""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.association.inprocess import Running, descriptors, nothing_left_open
from tests.peers import encoding as enc
from tests.peers.datasets import make
from tests.peers.encoding import Context
from tests.peers.raw_scu import RawScu

CONTEXTS = [Context(1, enc.CT_IMAGE), Context(3, enc.VERIFICATION)]
PEERS = 20
BEYOND_SELECT = 1100


@pytest.fixture(autouse=True)
def _left() -> Iterator[None]:
    with nothing_left_open():
        yield


def activity(task: str) -> tuple[int, int, int]:
    """Voluntary and other context switches and clock ticks of one thread of this process: one that polls has more each time."""
    switches = {}
    for line in Path(f"/proc/self/task/{task}/status").read_text(encoding="ascii").splitlines():
        if "ctxt_switches" in line:
            name, count = line.split(":")
            switches[name] = int(count)
    fields = Path(f"/proc/self/task/{task}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return switches["voluntary_ctxt_switches"], switches["nonvoluntary_ctxt_switches"], int(fields[11]) + int(fields[12])


def others() -> set[str]:
    return set(os.listdir("/proc/self/task")) - {str(os.getpid())}


@pytest.mark.requires_linux
@pytest.mark.parametrize("stage", ["after the negotiation", "after a message", "inside a message", "after the release"])
def test_an_association_that_waits_does_nothing(stage: str) -> None:
    made = make(pixel_bytes=10_000)
    before = others()
    with Running() as running:
        peers = [running.connect() for _ in range(PEERS)]
        for scu in peers:
            scu.associate(CONTEXTS)
            if stage == "after a message":
                scu.store(made.sop_class, made.sop_instance, made.data_set)
                assert scu.echo(3).status == 0
            elif stage == "inside a message":
                message = b"".join(enc.message_pdus(1, enc.store_command(made.sop_class, made.sop_instance), made.data_set))
                scu.send(message[:5000])
            elif stage == "after the release":
                scu.send(enc.RELEASE_RQ_PDU)
                scu.expect(enc.RELEASE_RP)
        ours = others() - before
        assert len(ours) == PEERS + 2, "a thread for each association, one for the next, and the listener's"
        time.sleep(0.3)
        first = {task: activity(task) for task in ours}
        time.sleep(2)
        assert {task: activity(task) for task in ours} == first
        for scu in peers:
            scu.close()
        running.wait_none_left()


@pytest.mark.requires_linux
def test_what_is_measured_sees_a_poll() -> None:
    """One that wakes ten times a second is told from one that does not."""
    stop = threading.Event()
    before = others()

    def poll() -> None:
        while not stop.wait(0.1):
            pass

    thread = threading.Thread(target=poll)
    thread.start()
    (task,) = others() - before
    first = activity(task)
    time.sleep(1)
    assert activity(task) != first
    stop.set()
    thread.join()


@pytest.mark.requires_linux
def test_descriptors_that_select_cannot_watch() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4 * BEYOND_SELECT), hard))
    held: list[int] = []
    try:
        with Running() as running:
            while not held or held[-1] < BEYOND_SELECT:
                held.append(os.dup(0))
            assert descriptors() > BEYOND_SELECT
            seen: list[RawScu] = [running.connect() for _ in range(3)]
            for scu in seen:
                assert scu.sock.fileno() > 1024
                made = make()
                scu.associate(CONTEXTS)
                assert scu.store(made.sop_class, made.sop_instance, made.data_set).status == 0
                assert scu.echo(3).status == 0
            seen[0].release()
            seen[1].abort()
            seen[2].close()
            running.wait_none_left()
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
