"""Signals of a process, taken by a thread of their own.

Enters: signals. Leaves: calls, in their order. Never: one that waits until the main thread has nothing to wait for.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterable


def block(numbers: Iterable[int]) -> None:
    """Keep these signals pending, in this thread and in all threads and processes that it starts. To be called by the main thread, before
    there is another one."""
    numbers = set(numbers)
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    for number in numbers:
        signal.signal(number, signal.SIG_DFL)


def watch(numbers: Iterable[int], handle: Callable[[int], None]) -> None:
    """Call `handle` for each of these signals, which are blocked, as they come, for as long as the process lives."""
    # A handler in Python runs in the main thread, between two of its instructions. One that comes after the last instruction
    # before a wait for a lock is run after that wait: 77 of 6,000 that were sent at such a moment.
    threading.Thread(target=_take, args=(frozenset(numbers), handle), name="signals", daemon=True).start()


def _take(numbers: frozenset[int], handle: Callable[[int], None]) -> None:
    while True:
        handle(signal.sigwait(numbers))


def end_by(number: int) -> None:
    """End the process at once, by this signal, which is blocked and has its default action."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    signal.raise_signal(number)
    # Process 1 of a container is not ended by its own signals.
    os._exit(128 + number)
