"""How many associations the workers of one task have, in memory that they share.

Enters: associations that begin and end, each counted by the worker that has it. Leaves: the load of each worker, and a limit for all.
Never: more associations than the limit, a slot that a crashed worker keeps.
"""

import fcntl
import mmap
import os
import tempfile

_CELL_BYTES = 8
_ESTABLISHED, _ENDED = 0, 1
_CELLS_PER_WORKER = 2


def _new_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("fastscp-slots")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class SlotTable:
    """Two counts for each worker: associations established now, and connections that have ended since it was started.

    A worker writes its own counts only. The kernel takes the lock from a process that dies.
    """

    def __init__(self, fd: int) -> None:
        """
        Args:
            fd: of the shared file, from `create` or inherited; the table owns it.
        """
        self.fd = fd
        self._memory = mmap.mmap(fd, 0)
        self._cells: memoryview[int] = memoryview(self._memory).cast("q")

    @classmethod
    def create(cls, worker_count: int) -> "SlotTable":
        """A table of zeros."""
        fd = _new_file()
        os.write(fd, bytes(worker_count * _CELLS_PER_WORKER * _CELL_BYTES))
        return cls(fd)

    def slots(self, worker: int) -> "WorkerSlots":
        """The counts of one worker, for that worker.

        Args:
            worker: from 0.
        """
        return WorkerSlots(self.fd, self._cells, worker)

    def ended_count(self, worker: int) -> int:
        """How many connections of this worker have ended."""
        return self._cells[worker * _CELLS_PER_WORKER + _ENDED]

    def reset(self, worker: int) -> None:
        """Count anew for a worker whose process has ended."""
        start = worker * _CELLS_PER_WORKER
        self._cells[start + _ESTABLISHED] = self._cells[start + _ENDED] = 0

    def close(self) -> None:
        """Give memory and descriptor back. The slots of its workers are of no use any more."""
        self._cells.release()
        self._memory.close()
        os.close(self.fd)


class WorkerSlots:
    """See `fastscp.association.Slots`. Not thread-safe: the acceptor calls it under its lock."""

    def __init__(self, fd: int, cells: "memoryview[int]", worker: int) -> None:
        self._fd = fd
        self._cells = cells
        self._established = worker * _CELLS_PER_WORKER + _ESTABLISHED
        self._ended = worker * _CELLS_PER_WORKER + _ENDED

    def take(self, limit: int) -> bool:
        """See `Slots.take`."""
        # Whoever gives back does so without the lock: at worst a limit is judged with a slot that is free already.
        fcntl.lockf(self._fd, fcntl.LOCK_EX)
        try:
            if sum(self._cells[_ESTABLISHED::_CELLS_PER_WORKER]) >= limit:
                return False
            self._cells[self._established] += 1
            return True
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def give_back(self) -> None:
        """See `Slots.give_back`."""
        self._cells[self._established] -= 1

    def connection_ended(self) -> None:
        """See `Slots.connection_ended`."""
        self._cells[self._ended] += 1
