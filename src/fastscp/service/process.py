"""One worker process, seen from the supervisor.

Enters: settings, then connections and questions. Leaves: its reports and its exit code. Never: a fork without exec, which the TLS and
async runtimes of the S3 engines do not survive.
"""

import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import Pipe
from typing import Literal

from fastscp.errors import ConfigError
from fastscp.service.handover import Ask, Draining, MessageChannel, Ready, Reload, Report, Unusable, channel_pair, send_connection
from fastscp.service.slots import SlotTable
from fastscp.settings import Settings

State = Literal["starting", "accepting", "draining", "ended"]


class WorkerProcess:
    """A spawned worker. `accept` belongs to the listener's thread, `converse` to one that is the worker's own; the rest is for any thread.

    Attributes:
        index: of the worker among all of the task, from 0.
        problem: why its settings cannot be carried out.
        report: the last that it said of itself.
    """

    def __init__(
        self, index: int, settings: Settings, local_address: tuple[str, int], slots: SlotTable, changed: Callable[[], None]
    ) -> None:
        """
        Args:
            changed: called whenever `state` has changed.
        """
        self.index = index
        self.state: State = "starting"
        self.problem: ConfigError | None = None
        self.report = Report(0, [], {})
        self._slots = slots
        self._changed = changed
        self._handed_count = 0
        self._answered = threading.Condition()
        self._asked_number = 0
        self._channel_lock = threading.Lock()
        self._channel, theirs = channel_pair()
        messages, their_messages = Pipe()
        with theirs, their_messages:
            fds = (theirs.fileno(), their_messages.fileno(), slots.fd)
            arguments = [sys.executable, "-m", "fastscp.service.worker", str(index), *map(str, fds)]
            self._process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, pass_fds=fds)  # noqa: S603 - our own program
        messages.send_bytes(pickle.dumps((settings, local_address)))
        self._messages = MessageChannel(messages)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def load(self) -> int:
        """Connections that it has, those on their way to it included."""
        return self._handed_count - self._slots.ended_count(self.index)

    def accept(self, client_socket: socket.socket, peer: tuple[str, int]) -> bool:
        """Hand a connection over. Returns False where the worker does not take it; the socket stays the caller's."""
        try:
            # Under the lock, since a descriptor that is closed meanwhile could be another's.
            with self._channel_lock:
                send_connection(self._channel, client_socket, peer)
        except OSError:
            return False
        self._handed_count += 1
        client_socket.close()
        return True

    def converse(self) -> int:
        """Listen to the worker until its process has ended. Returns the exit code, negative for a signal."""
        while (message := self._messages.from_worker()) is not None:
            match message:
                case Ready():
                    self._become("accepting")
                case Draining():
                    self.drain()
                case Unusable():
                    self.problem = ConfigError(message.option, message.problem)
                case Report():
                    with self._answered:
                        self.report = message
                        self._answered.notify_all()
        code = self._process.wait()
        self._become("ended")
        self.drain()
        self._messages.close()
        return code

    def drain(self) -> None:
        """Hand nothing over any more: the worker finishes what it has, and ends."""
        with self._channel_lock:
            if self.state != "ended":
                self.state = "draining"
            self._channel.close()
        self._changed()

    def reload(self, settings: Settings) -> None:
        """Have the worker go by these settings."""
        self._messages.send(Reload(pickle.dumps(settings)))

    def ask(self) -> int:
        """Ask the worker to report. Returns the number of the question."""
        with self._answered:
            self._asked_number += 1
            number = self._asked_number
        if self.state != "starting":
            self._messages.send(Ask(number))
        return number

    def wait_report(self, number: int, deadline: float) -> bool:
        """Wait for the answer. Returns False where there is none by then, although the worker should be able to give it.

        Args:
            deadline: by the monotonic clock.
        """

        def answered() -> bool:
            return self.report.number >= number or self.state in ("starting", "ended")

        with self._answered:
            return self._answered.wait_for(answered, max(0.0, deadline - time.monotonic()))

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def _become(self, state: State) -> None:
        with self._channel_lock:
            if state == "ended" or self.state == "starting":
                self.state = state
        with self._answered:
            self._answered.notify_all()
        self._changed()
