"""Free memory that is really there.

Enters: how much a receiver will need. Leaves: at least as much free memory, in pieces that the machine does not give away.
Never: less memory than it was asked for in silence.
"""

import ctypes
import os
from pathlib import Path
from types import TracebackType

STRIPE_BYTES = 256 << 10
"""Blocks that are handed back have 2 MiB (2**9 pages) or more."""

SLACK_BYTES = 64 << 20
"""For what else is written meanwhile."""

_FALLOC_FL_KEEP_SIZE = 0x01
_FALLOC_FL_PUNCH_HOLE = 0x02
_fallocate = ctypes.CDLL(None, use_errno=True).fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class Reservoir:
    """A file on tmpfs with a hole in every other stripe. `with` it: leaving deletes the file.

    A virtual machine may hand free memory back to its host within seconds, in blocks of some MB (Linux: free page reporting). Whoever needs
    that memory next pays several times what a page costs otherwise, and who that is, is chance: a receiver that takes two seconds to
    start pays, one that is ready at once does not. A stripe that is free lies between two that are not, so that it never becomes part of a
    block large enough to be handed back; the kernel takes the smallest free pieces first, so that it is what files are then made of; and
    when they are deleted, it is what they fall back into.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "reservoir"
        self._fd = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        self._stripes = 0

    def ensure(self, count_bytes: int) -> None:
        """Hold so many bytes free. Raises OSError where there is not twice as much."""
        stripes = 2 * -(-(count_bytes + SLACK_BYTES) // STRIPE_BYTES)
        block = bytes(STRIPE_BYTES)
        first = self._stripes
        # All of them before the first hole: a stripe must not be written into the hole before it.
        while self._stripes < stripes:
            os.pwrite(self._fd, block, self._stripes * STRIPE_BYTES)
            self._stripes += 1
        for stripe in range(first, stripes, 2):
            if _fallocate(self._fd, _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE, stripe * STRIPE_BYTES, STRIPE_BYTES):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(self._path))

    def __enter__(self) -> "Reservoir":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._path.unlink()
        os.close(self._fd)
