"""Whether the store takes instances, as the last attempts showed.

Enters: what became of each attempt. Leaves: a report when that changes. Never: a word of a peer's, a lock where all is well.
"""

import threading
from collections.abc import Callable

Report = Callable[[bool, str], None]
"""Told whether the store is ready, and why not."""


class StoreHealth:
    """Thread-safe. A store is taken to be ready until an attempt shows that it is not, and from then on until one succeeds."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._problem: str | None = None
        self._has_succeeded = False
        report(True, "")

    def succeeded(self) -> None:
        """An instance was committed, or could have been."""
        # Without the lock, for every instance: a change that is missed now is seen with the next one.
        self._has_succeeded = True
        if self._problem is not None:
            self._set(None)

    def is_ready(self) -> bool:
        """Whether the last attempt was not one that showed a problem."""
        return self._problem is None

    def has_succeeded(self) -> bool:
        """Whether something was committed since this was last asked."""
        has_succeeded, self._has_succeeded = self._has_succeeded, False
        return has_succeeded

    def failed(self, problem: str) -> None:
        """The store did not take something, for a reason that is the store's own: a fixed text, with at most S3's error code in it."""
        if self._problem != problem:
            self._set(problem)

    def _set(self, problem: str | None) -> None:
        with self._lock:
            self._problem = problem
            self._report(problem is None, problem or "")
