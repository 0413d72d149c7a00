"""Whether S3 can be reached, also while nobody sends.

Enters: what became of commits, time. Leaves: a report to the store's health. Never: an object, a request while instances are committed.
"""

import threading

from fastscp.errors import ConfigError
from fastscp.stores import StoreHealth
from fastscp.stores.s3 import Engine, EngineError

TURN_S = 5.0
"""Between two looks at the health; where the store is not ready S3 is asked each time."""

IDLE_TURNS = 12
"""After so many without a commit S3 is asked although nothing is wrong."""

ONE_ATTEMPT_S = 0.0
"""A deadline within which no second attempt is made: the next turn is one."""


class S3Probe(threading.Thread):
    """Begins an upload and aborts it, which needs the same permissions and the same key as an instance."""

    def __init__(self, engine: Engine, prefix: str, health: StoreHealth, turn_s: float = TURN_S) -> None:
        super().__init__(name="store-probe", daemon=True)
        self._engine = engine
        self._prefix = prefix
        self._health = health
        self._turn_s = turn_s
        self._stopped = threading.Event()

    def run(self) -> None:
        """Look until stopped."""
        idle_turns = 0
        while not self._stopped.wait(self._turn_s):
            idle_turns = 0 if self._health.has_succeeded() else idle_turns + 1
            if idle_turns >= IDLE_TURNS or not self._health.is_ready():
                idle_turns = 0
                self._ask()

    def stop(self) -> None:
        """Ask no more. The thread ends when S3 has answered."""
        self._stopped.set()

    def _ask(self) -> None:
        try:
            self._engine.check(self._prefix, deadline_s=ONE_ATTEMPT_S)
        except ConfigError as error:
            self._health.failed(f"S3 refuses access: {error.problem.rpartition(': ')[2]}")
        except EngineError as error:
            self._health.failed(f"S3 cannot be reached: {error.code}")
        else:
            self._health.succeeded()
