"""The workers of one task: as many processes as `--workers` says, each replaced when it ends.

Enters: connections whose first byte is there. Leaves: each to the worker that has least to do. Never: a worker's end unnoticed.
"""

import contextlib
import signal
import socket
import threading
import time
from operator import attrgetter

import msgspec

from fastscp.errors import FastScpError
from fastscp.observe.families import BoundedSenders, Family, merged, only_counts
from fastscp.observe.log import get_logger
from fastscp.service.handover import Report
from fastscp.service.process import WorkerProcess
from fastscp.service.slots import SlotTable
from fastscp.settings import Settings

HANDSHAKES = 64
"""Most connections beyond the limit of associations that a worker has: to be told that the limit is reached."""

LONGEST_PAUSE_S = 30.0
"""Between a worker that ended too early and its replacement. The first has none, the next one second, each further one twice as long."""

STEADY_S = 60.0
"""A worker that has run for so long is replaced without a pause."""

REPORT_S = 5.0
"""How long workers may take to say what they count."""

_log = get_logger("workers")
_load = attrgetter("load")


def _share(settings: Settings) -> Settings:
    """The settings of one worker: limits of the task, and its part of the memory."""
    return msgspec.structs.replace(settings, memory_budget_bytes=settings.memory_budget_bytes // settings.workers)


class WorkerPool:
    """All workers. `has_room` and `accept` belong to the listener's thread."""

    def __init__(self, settings: Settings, local_address: tuple[str, int]) -> None:
        """
        Args:
            local_address: the listening socket's.
        """
        self._settings = _share(settings)
        self._local_address = local_address
        self._slots = SlotTable.create(settings.workers)
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._workers: dict[int, WorkerProcess] = {}
        self._counting = threading.Lock()
        self._senders = BoundedSenders()
        self._ended: list[Family] = []
        """What workers counted that have ended. Under `_counting`, so that it is never in two places, or in none."""
        self._unclean_count = 0
        self._has_started = False
        self._threads = [
            threading.Thread(target=self._keep, args=(index,), name=f"worker-{index + 1}", daemon=True) for index in range(settings.workers)
        ]

    def start(self) -> None:
        """Return when every worker accepts. Raises ConfigError where one says that it never will, FastScpError where one ends
        before; all are ended then."""
        for thread in self._threads:
            thread.start()
        with self._changed:
            self._changed.wait_for(self._all_said)
            # Under the lock: from here on a worker that ends is replaced.
            failed = self._unclean_count > 0
            self._has_started = not failed
        if failed:
            # None has anything yet.
            self.kill()
            for thread in self._threads:
                thread.join()
            problems = [worker.problem for worker in self._workers.values() if worker.problem is not None]
            raise problems[0] if problems else FastScpError("a worker ended while it was starting")

    def is_alive(self) -> bool:
        """Whether workers that end would be replaced."""
        return all(thread.is_alive() for thread in self._threads)

    def reasons_not_ready(self) -> dict[str, str]:
        """Reason by component; empty where every worker accepts and none has a reason."""
        self._ask()
        reasons: dict[str, str] = {}
        for index in range(len(self._threads)):
            worker = self._workers.get(index)
            if worker is None or worker.state != "accepting":
                reasons[f"worker {index + 1}"] = worker.state if worker else "starting"
            else:
                reasons |= worker.report.reasons
        return reasons

    def has_room(self) -> bool:
        """Whether another connection may be handed over."""
        accepting = self._accepting()
        return bool(accepting) and sum(worker.load for worker in accepting) < self._settings.max_associations + HANDSHAKES

    def accept(self, client_socket: socket.socket, peer: tuple[str, int]) -> None:
        """Give a connection to the worker that has least to do. Takes the socket over."""
        workers = self._accepting()
        while workers:
            least = min(workers, key=_load)
            if least.accept(client_socket, peer):
                return
            workers.remove(least)
        client_socket.close()
        _log.error("not_handed_over", peer_address=peer[0])

    def families(self) -> list[Family]:
        """What all workers count, those that have ended included."""
        workers = self._ask()
        with self._counting:
            return merged([self._ended, *(self._senders.bounded(worker.report.families) for worker in workers)])

    def reload(self, settings: Settings) -> None:
        """Go by these settings: workers that there are, and those that are yet to come."""
        self._settings = _share(settings)
        for worker in self._workers.copy().values():
            worker.reload(self._settings)

    def drain(self, timeout_s: float) -> int:
        """Have all workers finish what they have. Returns how many did not end well, those that were killed at the time limit included."""
        self._stopping.set()
        unclean_before_count = self._unclean_count
        for worker in self._workers.copy().values():
            worker.drain()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        late = [worker for worker in self._workers.copy().values() if worker.state != "ended"]
        for worker in late:
            _log.error("worker_killed", worker=worker.index + 1, waited_s=timeout_s)
            worker.kill()
        for thread in self._threads:
            thread.join()
        return self._unclean_count - unclean_before_count

    def kill(self) -> None:
        """End all workers at once."""
        self._stopping.set()
        for worker in self._workers.copy().values():
            worker.kill()

    def close(self) -> None:
        """Give back what the workers shared. Called when none is left."""
        self._slots.close()

    def _ask(self) -> list[WorkerProcess]:
        workers = list(self._workers.copy().values())
        deadline = time.monotonic() + REPORT_S
        questions = [(worker, worker.ask()) for worker in workers]
        for worker, number in questions:
            if not worker.wait_report(number, deadline):
                _log.warning("worker_silent", worker=worker.index + 1, waited_s=REPORT_S)
        return workers

    def _accepting(self) -> list[WorkerProcess]:
        return [worker for worker in self._workers.copy().values() if worker.state == "accepting"]

    def _all_said(self) -> bool:
        workers = self._workers.values()
        return self._unclean_count > 0 or (len(workers) == len(self._threads) and all(worker.state == "accepting" for worker in workers))

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _keep(self, index: int) -> None:
        pause_s = 0.0
        while not self._stopping.is_set():
            started_at = time.monotonic()
            try:
                worker = WorkerProcess(index, self._settings, self._local_address, self._slots, self._notify)
            except OSError as error:
                _log.error("worker_not_started", worker=index + 1, problem=error.strerror)
            else:
                self._workers[index] = worker
                if self._stopping.is_set():
                    worker.drain()
                self._after(worker, worker.converse())
                if not self._goes_on():
                    return
            if time.monotonic() - started_at >= STEADY_S:
                pause_s = 0.0
            elif not self._stopping.wait(pause_s):
                pause_s = min(max(1.0, 2 * pause_s), LONGEST_PAUSE_S)

    def _goes_on(self) -> bool:
        with self._changed:
            return self._has_started or not self._unclean_count

    def _after(self, worker: WorkerProcess, code: int) -> None:
        lost_count = worker.load
        # Its last report: what it counted after that nobody knows, unless it ended by itself, with a report.
        with self._counting:
            self._ended = merged([self._ended, only_counts(self._senders.bounded(worker.report.families))])
            worker.report = Report(0, [], {})
        self._slots.reset(worker.index)
        if code == 0:
            if not self._stopping.is_set():
                _log.info("worker_drained", worker=worker.index + 1)
            return
        with self._changed:
            self._unclean_count += 1
            self._changed.notify_all()
        how: dict[str, object] = {"exit_code": code}
        if code < 0:
            with contextlib.suppress(ValueError):
                how = {"signal": signal.Signals(-code).name}
        if self._has_started or (worker.problem is None and not self._stopping.is_set()):
            problem = str(worker.problem) if worker.problem else None
            _log.error("worker_died", worker=worker.index + 1, connections_lost=lost_count, problem=problem, **how)
