"""How long a worker may commit into a batch: until the expiry that it last wrote into the marker and knows to be written.

Enters: when a write of the marker began and how it ended, the time. Leaves: whether the lease holds, whether to renew it.
Never: I/O, a clock; a lease that holds again after it was lost.
"""


class Lease:
    """The lease of one batch, as its worker knows it. Not thread-safe. All times in seconds since the epoch, by the worker's clock.

    A renewal counts only if it was known before the expiry that it moves. So whoever finds in the object store that a lease
    has run out finds something that does not change again.
    """

    def __init__(self, duration_s: float, renew_s: float, retry_s: float) -> None:
        """
        Args:
            duration_s: how long a write of the marker is good for, from the moment before it began.
            renew_s: from the beginning of one write to the next.
            retry_s: the same, where a write has failed.
        """
        self._duration_s = duration_s
        self._renew_s = renew_s
        self._retry_s = retry_s
        self._expires_at_s: float | None = None
        self._due_at_s: float | None = None
        self._lost = False

    @property
    def settled(self) -> bool:
        """Whether the first write of the marker has ended, well or not."""
        return self._lost or self._expires_at_s is not None

    def written(self, began_at_s: float, now_s: float) -> None:
        """Take note that a write of the marker succeeded."""
        expires_at_s = began_at_s + self._duration_s
        if now_s >= expires_at_s or (self.settled and not self.holds(now_s)):
            self._lost = True
            return
        self._expires_at_s = expires_at_s
        self._due_at_s = began_at_s + self._renew_s

    def failed(self, began_at_s: float) -> None:
        """Take note that a write of the marker failed, or that nobody knows. The first one has to succeed."""
        self._lost = self._lost or self._expires_at_s is None
        self._due_at_s = began_at_s + self._retry_s

    def holds(self, now_s: float) -> bool:
        """Whether the worker may commit, and say Success for what it has committed."""
        if self._expires_at_s is None:
            return False
        # A clock that is set back must not bring a lease back that others have seen run out.
        self._lost = self._lost or now_s >= self._expires_at_s
        return not self._lost

    def lost(self, now_s: float) -> bool:
        """Whether the batch is lost to this worker, for good. One whose marker is still being written is not."""
        return self.settled and not self.holds(now_s)

    def due(self, now_s: float) -> bool:
        """Whether the lease should be renewed now."""
        return self._due_at_s is not None and now_s >= self._due_at_s and self.holds(now_s)
