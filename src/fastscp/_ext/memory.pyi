"""The memory that instances are received into.

Enters: requests for segments. Leaves: memory, within the budget. Never: decides what to do when there is none.
"""

from typing import final

SEGMENT_SIZES_BYTES: tuple[int, ...]
"""The sizes that a segment can have, ascending powers of two: 64 KiB to 1 MiB."""

@final
class BufferPool:
    """A budget of memory, handed out in segments and reused warm.

    Thread-safe; every call works without the interpreter lock. Owns every segment that nobody holds.
    """

    def __init__(self, limit_bytes: int, keep_bytes: int = 33554432, reserve_bytes: int = 0) -> None:
        """
        Args:
            limit_bytes: most bytes in segments that are held at one time, at least the largest segment.
            keep_bytes: most bytes of free segments that stay mapped for reuse.
            reserve_bytes: of `limit_bytes`, for the one instance that has called `Instance.use_reserve`. Without a reserve, instances
                that are all half received can hold all there is, each waiting for the others.
        """

    @property
    def limit_bytes(self) -> int: ...
    @property
    def in_use_bytes(self) -> int:
        """Bytes in segments that somebody holds."""

    @property
    def free_bytes(self) -> int:
        """Bytes in free segments that are kept mapped."""

    def wait_available(self, timeout_s: float) -> bool:
        """Block until a largest segment or the reserve could be had, or the time is up. Returns whether one of them could be had."""
