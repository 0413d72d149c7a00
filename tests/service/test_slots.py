"""The limit of associations over several processes.

Enters: associations in many processes at one time. Leaves: as many as the limit. Never: one more, or a slot lost with its process.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from fastscp.service.slots import SlotTable

WORKERS = 4
LIMIT = 37

TAKE_AS_MANY_AS_THERE_ARE = """
import os, sys
from fastscp.service.slots import SlotTable
fd, worker, limit = map(int, sys.argv[1:])
slots = SlotTable(fd).slots(worker)
input()
taken = turn = 0
while slots.take(limit):
    turn += 1
    if turn % 3 == 0 and turn < 300:
        slots.give_back()
    else:
        taken += 1
print(taken, flush=True)
input()
"""

DIE_WITH_THE_LOCK = """
import fcntl, os, signal, sys
from fastscp.service.slots import SlotTable
fd = int(sys.argv[1])
SlotTable(fd).slots(1).take(10)
fcntl.lockf(fd, fcntl.LOCK_EX)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def table() -> Iterator[SlotTable]:
    made = SlotTable.create(WORKERS)
    yield made
    made.close()


def test_one_limit_for_all_workers(table: SlotTable) -> None:
    first, second = table.slots(0), table.slots(1)
    assert [first.take(3), second.take(3), first.take(3), second.take(3), first.take(3)] == [True, True, True, False, False]
    first.give_back()
    assert second.take(3)
    assert not first.take(3)
    assert first.take(4)


def test_what_has_ended_is_counted_for_each(table: SlotTable) -> None:
    slots = table.slots(2)
    slots.connection_ended()
    slots.connection_ended()
    assert [table.ended_count(worker) for worker in range(WORKERS)] == [0, 0, 2, 0]


def test_slots_of_a_process_that_has_ended_are_free_again(table: SlotTable) -> None:
    mine, lost = table.slots(0), table.slots(3)
    assert mine.take(3)
    assert lost.take(3)
    assert lost.take(3)
    lost.connection_ended()
    assert not mine.take(3)
    table.reset(3)
    assert table.ended_count(3) == 0
    assert mine.take(3)
    assert mine.take(3)
    assert not mine.take(3)


def test_processes_that_take_at_one_time_never_have_more_than_the_limit(table: SlotTable) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TAKE_AS_MANY_AS_THERE_ARE, str(table.fd), str(worker), str(LIMIT)],
            pass_fds=[table.fd],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for worker in range(WORKERS)
    ]
    try:
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        taken = [int(process.stdout.readline()) for process in processes if process.stdout is not None]
        assert sum(taken) == LIMIT
        assert not table.slots(0).take(LIMIT)
    finally:
        for process in processes:
            process.communicate("\n", timeout=30)


def test_a_process_that_dies_with_the_lock_locks_nobody_out(table: SlotTable) -> None:
    died = subprocess.run([sys.executable, "-c", DIE_WITH_THE_LOCK, str(table.fd)], pass_fds=[table.fd], check=False, timeout=30)
    assert died.returncode < 0
    assert table.slots(0).take(2)
    assert not table.slots(0).take(2)
    table.reset(1)
    assert table.slots(0).take(2)
