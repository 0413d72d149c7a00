"""A request's body that stays where it was received.

Enters: segments. Leaves: what an HTTP client reads from a file. Never: a copy, a read after the deadline.
"""

import time
from collections.abc import Sequence


class SegmentsBody:
    """Reads like a binary file, and hands out parts of the segments themselves."""

    def __init__(self, views: Sequence[memoryview], timeout_s: float) -> None:
        """`timeout_s` begins with each rewind: an attempt that still sends after that is ended."""
        self._views = views
        self._size_bytes = sum(view.nbytes for view in views)
        self._timeout_s = timeout_s
        self._position = self._index = self._offset = 0
        self._give_up_at = time.monotonic() + timeout_s

    def __len__(self) -> int:
        return self._size_bytes

    def read(self, size: int = -1, /) -> memoryview | bytes:
        """The next bytes: at most `size` and none of a second segment, empty at the end. Raises TimeoutError."""
        if time.monotonic() > self._give_up_at:
            raise TimeoutError("the request took too long to send")
        while self._index < len(self._views) and self._offset == self._views[self._index].nbytes:
            self._index, self._offset = self._index + 1, 0
        if size == 0 or self._index == len(self._views):
            return b""
        segment = self._views[self._index]
        piece = segment[self._offset : self._offset + size if size > 0 else segment.nbytes]
        self._offset += piece.nbytes
        self._position += piece.nbytes
        return piece

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a position in bytes."""
        self._position = min(max(offset + (0, self._position, self._size_bytes)[whence], 0), self._size_bytes)
        self._index, self._offset = 0, self._position
        while self._index < len(self._views) and self._offset > self._views[self._index].nbytes:
            self._offset -= self._views[self._index].nbytes
            self._index += 1
        self._give_up_at = time.monotonic() + self._timeout_s
        return self._position

    def close(self) -> None:
        """Nothing to close: the segments are their owner's."""
