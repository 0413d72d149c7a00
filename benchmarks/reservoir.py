"""Memory for a receiver's files that is really there when they are written.

Enters: how much the files of one measurement will need. Leaves: that much, bit by bit. Never: memory that waits unused.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

MARGIN_BYTES = 512 << 20
"""So much is free at any time: more than receivers write between two looks."""

PAGE_LISTS = Path("/proc/sys/vm/percpu_pagelist_high_fraction")
SHORT_PAGE_LISTS = "5000"
"""So small a part of all memory is what a processor keeps of free pages for itself: 2 MB of 24 GB instead of up to 1 GB."""

LOOK_S = 0.002
BLOCK_BYTES = 1 << 20


class Reservoir:
    """A file on tmpfs that shrinks as others grow. `with` it: leaving deletes the file.

    A virtual machine may hand memory that is free back to its host, within a second. Whoever needs it next pays several times what a page
    costs otherwise, and who that is, is chance. What was freed some milliseconds ago is still there.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "reservoir"
        self._fd = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)

    def fill(self, count_bytes: int) -> None:
        """Hold so many bytes, and the margin. Raises OSError where there is no such memory."""
        block = bytes(BLOCK_BYTES)
        blocks = -(-(count_bytes + MARGIN_BYTES) // BLOCK_BYTES)
        for number in range(self._size_bytes() // BLOCK_BYTES, blocks):
            os.pwrite(self._fd, block, number * BLOCK_BYTES)
        os.ftruncate(self._fd, blocks * BLOCK_BYTES)

    @contextmanager
    def feeding(self) -> Iterator[None]:
        """Give back what the other files of the file system take, as they take it."""
        stop = threading.Event()
        thread = threading.Thread(target=self._feed, args=(stop,), name="reservoir")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _feed(self, stop: threading.Event) -> None:
        own_bytes = full_bytes = self._size_bytes()
        others_bytes = self._used_bytes() - full_bytes
        while own_bytes:
            taken_bytes = self._used_bytes() - own_bytes - others_bytes
            wanted_bytes = max(0, full_bytes - taken_bytes - MARGIN_BYTES)
            if wanted_bytes < own_bytes:
                own_bytes = wanted_bytes
                os.ftruncate(self._fd, own_bytes)
            if stop.wait(LOOK_S):
                break

    def _size_bytes(self) -> int:
        return os.fstat(self._fd).st_size

    def _used_bytes(self) -> int:
        state = os.fstatvfs(self._fd)
        return (state.f_blocks - state.f_bfree) * state.f_frsize

    def __enter__(self) -> "Reservoir":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._path.unlink()
        os.close(self._fd)


@contextmanager
def short_page_lists(setting: Path = PAGE_LISTS) -> Iterator[bool]:
    """Lets what one processor frees be there for the others. Leaves the setting as it was; gives whether it may set it (root may).

    Linux keeps freed pages on a list of the processor that freed them, and the list grows with use. A receiver on another processor
    would get pages that the host has to find first. Measured with the work "ct-file-1", 9 samples of each: 0.24-0.50 ms of CPU per
    instance, and 0.23-0.26 ms with short lists.
    """
    try:
        before = setting.read_text()
        setting.write_text(SHORT_PAGE_LISTS)
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        setting.write_text(before)
