"""An object store and threads that run only when a test says so, for any interleaving of what batches do in the background.

Enters: the functions that batches have called, and how each of their writes shall end. Leaves: objects, and when they landed.
Never: two threads that run at the same time; a real clock.
"""

import math
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from fastscp.batches.objects import Listed
from fastscp.errors import StoreError

Outcome = Literal["ok", "lost", "landed", "late"]
"""How a write ends: answered; failed and never happens; happened, but its answer is lost; failed, and happens later."""


@dataclass
class Write:
    """A write that has not happened yet."""

    kind: Literal["put", "put_if_absent", "delete"]
    key: str
    data: bytes
    began_at_s: float


@dataclass
class World:
    """What is true: the time, and the objects in the store."""

    now_s: float = 1_800_000_000.0
    store_skew_s: float = 0.0
    objects: dict[str, tuple[bytes, float]] = field(default_factory=dict)
    on_its_way: list[Write] = field(default_factory=list)
    """Writes that failed for who made them and will happen all the same."""
    on_change: Callable[[str, bytes | None, bytes | None], None] = lambda key, before, after: None

    def apply(self, write: Write) -> bool:
        """Let a write happen. Returns what If-None-Match says of it."""
        before = self.objects[write.key][0] if write.key in self.objects else None
        if write.kind == "put_if_absent" and before is not None:
            return False
        if write.kind == "delete":
            self.objects.pop(write.key, None)
            self.on_change(write.key, before, None)
        else:
            # S3 states times in whole seconds.
            self.objects[write.key] = (write.data, float(math.floor(self.now_s + self.store_skew_s)))
            self.on_change(write.key, before, write.data)
        return True

    def land(self, index: int) -> None:
        """Let a write happen that failed for who made it."""
        self.apply(self.on_its_way.pop(index))

    def list(self, prefix: str) -> list[Listed]:
        """All objects under a prefix."""
        return [Listed(key, len(data), modified_s) for key, (data, modified_s) in sorted(self.objects.items()) if key.startswith(prefix)]

    def get(self, key: str) -> bytes | None:
        """What an object holds."""
        return self.objects[key][0] if key in self.objects else None


class Killed(BaseException):
    """The process that the thread belonged to is gone."""


class Job:
    """A function in a thread of its own that stands still before each write, until it is told how the write ends."""

    def __init__(self, function: Callable[[], None]) -> None:
        self.pending: Write | None = None
        self.result: bool | None = None
        """What the pending write came to, once it has happened and before its answer has arrived."""
        self.done = False
        self._killed = False
        self._outcome: tuple[bool, Exception | None] | None = None
        self._go = threading.Semaphore(0)
        self._stopped = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(function,), daemon=True)
        self._thread.start()

    def advance(self) -> None:
        """Run to the next write, or to the end."""
        self._go.release()
        assert self._stopped.acquire(timeout=60), "a job neither ended nor wrote"

    def answer(self, result: bool, error: Exception | None) -> None:
        """End the pending write and run on."""
        self.pending, self.result, self._outcome = None, None, (result, error)
        self.advance()

    def kill(self) -> None:
        """End the thread where it stands."""
        if not self.done:
            self._killed = True
            self.advance()
        self._thread.join(60)

    def write(self, write: Write) -> bool:
        """Called in the thread: stand still."""
        self.pending = write
        self._stopped.release()
        self._go.acquire()
        if self._killed or self._outcome is None:
            raise Killed
        result, error = self._outcome
        self._outcome = None
        if error is not None:
            raise error
        return result

    def _run(self, function: Callable[[], None]) -> None:
        _current.job = self
        self._go.acquire()
        try:
            if not self._killed:
                function()
        except Killed:
            pass
        finally:
            self.done = True
            self._stopped.release()


class _Current(threading.local):
    job: Job | None = None


_current = _Current()


class SteppedObjects:
    """The object store as a worker's background threads see it."""

    def __init__(self, world: World) -> None:
        self._world = world

    def put(self, key: str, data: bytes) -> None:
        self._write("put", key, data)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        return self._write("put_if_absent", key, data)

    def delete(self, key: str) -> None:
        self._write("delete", key, b"")

    def list(self, prefix: str) -> Iterable[Listed]:
        return self._world.list(prefix)

    def get(self, key: str) -> bytes | None:
        return self._world.get(key)

    def _write(self, kind: Literal["put", "put_if_absent", "delete"], key: str, data: bytes) -> bool:
        assert _current.job is not None, "a write in a thread that was to do none"
        return _current.job.write(Write(kind, key, data, self._world.now_s))


def happen(world: World, job: Job) -> None:
    """Let the pending write of a job happen, whose answer takes longer."""
    if job.pending is not None and job.result is None:
        job.result = world.apply(job.pending)


def finish(world: World, job: Job, outcome: Outcome) -> None:
    """Begin a job that has not begun, or end its pending write like this."""
    if job.pending is None:
        job.advance()
        return
    leave(world, job, outcome)
    if outcome == "ok":
        assert job.result is not None
        job.answer(job.result, None)
    else:
        job.answer(False, StoreError("The storage failed", "injected"))


def leave(world: World, job: Job, outcome: Outcome) -> None:
    """Decide what becomes of the pending write of a job, that may be killed next."""
    if outcome in ("ok", "landed"):
        happen(world, job)
    elif outcome == "late" and job.pending is not None and job.result is None:
        world.on_its_way.append(job.pending)
