"""What was stored, counted without the interpreter lock.

Enters: one call for each instance that was committed. Leaves: counts when somebody asks. Never: a count that is taken back.
"""

from collections.abc import Sequence
from typing import final

@final
class Sender:
    """What one calling AE title has sent and had stored. Counted by a `StoredTally`."""

    @property
    def instance_count(self) -> int: ...
    @property
    def dataset_bytes(self) -> int: ...

@final
class StoredTally:
    """Instances stored, their bytes and how long it took, in one process. Thread-safe."""

    def __init__(self, bounds_s: Sequence[float]) -> None:
        """
        Args:
            bounds_s: upper bounds of the buckets in seconds, ascending, at most 32; a bucket for what is above the last is added.
        """

    def add(self, sender: Sender, dataset_bytes: int, store_s: float) -> None:
        """Count an instance that was committed, `store_s` seconds after it was complete."""

    def snapshot(self) -> tuple[list[int], int, float]:
        """(instances in each bucket, bytes of data set, seconds) of all that was counted, of one moment."""
