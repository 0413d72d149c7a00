"""The thread that keeps a worker's batches: it gives them the time, again and again.

Enters: the batches and a clock. Leaves: ticks, until it is stopped. Never: I/O, a decision of its own.
"""

import threading
from collections.abc import Callable

from fastscp.batches.joining import Batches
from fastscp.observe.log import get_logger

_log = get_logger("batches")


class Keeper(threading.Thread):
    """Calls `Batches.tick` every `tick_s` seconds. To be stopped only after `Batches.drain`, which needs it."""

    def __init__(self, batches: Batches, clock: Callable[[], float], tick_s: float) -> None:
        super().__init__(name="batch-keeper", daemon=True)
        self._batches = batches
        self._clock = clock
        self._tick_s = tick_s
        self._stopped = threading.Event()

    def run(self) -> None:
        """Tick until stopped."""
        while not self._stopped.wait(self._tick_s):
            try:
                self._batches.tick(self._clock())
            except Exception:
                # Without ticks every lease would be lost: one that fails must not be the last.
                _log.exception("batch_tick_failed")

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._stopped.set()
        self.join()
