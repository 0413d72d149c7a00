"""Again, while it is worth it.

Enters: one attempt of a request. Leaves: its result, or its last error with what is unknown of all of them.
Never: an attempt that could end after the deadline.
"""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from fastscp.stores.s3.engine import EngineError, PreconditionFailed

T = TypeVar("T")

STALE_CREDENTIALS = {"ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "TokenRefreshRequired"}
"""What S3 says of credentials that were good once."""


@dataclass(slots=True)
class Retrier:
    """Full jitter: before attempt n the wait is drawn evenly from zero to `first_wait_s` doubled n times, at most `longest_wait_s`.

    Attributes:
        attempt_timeout_s: how long one attempt takes at most; none is begun with less than that until the deadline, save the first.
        clock: seconds, monotonic.
        draw: evenly distributed over [0, 1).
        renew_credentials: looks for other credentials than those in use at the time it is given, by `clock`; returns whether there are any.
        retry_count: attempts that were not the first of their call, so far.
    """

    attempt_timeout_s: float
    first_wait_s: float = 0.1
    longest_wait_s: float = 5.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    draw: Callable[[], float] = random.random
    renew_credentials: Callable[[float], bool] = lambda since_s: False
    retry_count: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def call(self, deadline_s: float, attempt: Callable[[bool], T]) -> T:
        """The result of the first attempt that succeeds.

        `attempt` is told whether an earlier one may have taken effect. Raises the last EngineError: one that is not retryable at once.
        Its outcome is unknown where that of any attempt is.
        """
        last_begin = self.clock() + deadline_s - self.attempt_timeout_s
        longest_s = self.first_wait_s
        may_have_taken_effect = False
        while True:
            began_s = self.clock()
            try:
                return attempt(may_have_taken_effect)
            except EngineError as error:
                if isinstance(error, PreconditionFailed):
                    error.may_be_ours = may_have_taken_effect
                may_have_taken_effect |= error.unknown
                error.unknown = may_have_taken_effect
                renewed = error.code in STALE_CREDENTIALS and self.renew_credentials(began_s)
                if not error.retryable and not renewed:
                    raise
                wait_s = self.draw() * longest_s
                longest_s = min(longest_s * 2, self.longest_wait_s)
                if self.clock() + wait_s > last_begin:
                    raise
            with self._lock:
                self.retry_count += 1
            self.sleep(wait_s)
