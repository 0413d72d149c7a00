"""Errors on request: the n-th call of an operation fails as a test wants it.

Enters: what is to fail, and each call. Leaves: how the call fails, and a record of all calls. Never: a failure that nobody asked for.
"""

import threading
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True)
class Fault:
    """One failure.

    Attributes:
        operation: name of the operation, for instance StartDICOMImportJob.
        call: which call of it fails, counted from 1 when the emulator starts.
        error: code of the error.
        reply_lost: the operation is carried out, and its caller is told the error all the same.
    """

    operation: str
    call: int
    error: str = "InternalServerException"
    reply_lost: bool = False


class Call(NamedTuple):
    """One call that was answered.

    Attributes:
        at_s: by the emulator's clock, when it came.
        status: HTTP status of the answer.
    """

    operation: str
    at_s: float
    status: int


@dataclass
class Faults:
    """What is to fail, and what was called. Thread-safe."""

    planned: set[Fault] = field(default_factory=set)
    calls: list[Call] = field(default_factory=list)
    _counts: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def inject(self, fault: Fault) -> None:
        """Let this call fail, once."""
        with self._lock:
            self.planned.add(fault)

    def next_call(self, operation: str) -> Fault | None:
        """Count a call, and say how it fails."""
        with self._lock:
            number = self._counts[operation] = self._counts.get(operation, 0) + 1
            for fault in self.planned:
                if (fault.operation, fault.call) == (operation, number):
                    self.planned.remove(fault)
                    return fault
        return None

    def count(self, operation: str) -> int:
        """How often an operation was called."""
        with self._lock:
            return self._counts.get(operation, 0)

    def record(self, call: Call) -> None:
        with self._lock:
            self.calls.append(call)

    def answered(self, operation: str, status: int | None = None) -> list[Call]:
        """The calls of an operation that were answered, with this HTTP status where one is given, in the order of the answers."""
        with self._lock:
            return [call for call in self.calls if call.operation == operation and status in (None, call.status)]
