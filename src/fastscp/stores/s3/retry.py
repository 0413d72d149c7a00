"""Again, while it is worth it.

Enters: one attempt of a request. Leaves: its result or its last error. Never: an attempt that could end after the deadline.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from fastscp.stores.s3.engine import EngineError, PreconditionFailed

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Retrier:
    """Full jitter: before attempt n the wait is drawn evenly from zero to `first_wait_s` doubled n times, at most `longest_wait_s`.

    Attributes:
        attempt_timeout_s: how long one attempt takes at most; none is begun with less than that until the deadline, save the first.
        clock: seconds, monotonic.
        draw: evenly distributed over [0, 1).
    """

    attempt_timeout_s: float
    first_wait_s: float = 0.1
    longest_wait_s: float = 5.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    draw: Callable[[], float] = random.random

    def call(self, deadline_s: float, attempt: Callable[[bool], T]) -> T:
        """The result of the first attempt that succeeds.

        `attempt` is told whether an earlier one may have taken effect. Raises the last EngineError: one that is not retryable at once.
        """
        last_begin = self.clock() + deadline_s - self.attempt_timeout_s
        longest_s = self.first_wait_s
        may_have_taken_effect = False
        while True:
            try:
                return attempt(may_have_taken_effect)
            except EngineError as error:
                if isinstance(error, PreconditionFailed):
                    error.may_be_ours = may_have_taken_effect
                if not error.retryable:
                    raise
                may_have_taken_effect |= error.unknown
                wait_s = self.draw() * longest_s
                longest_s = min(longest_s * 2, self.longest_wait_s)
                if self.clock() + wait_s > last_begin:
                    raise
            self.sleep(wait_s)
