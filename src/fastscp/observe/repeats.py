"""Records that repeat: the first ones of each minute are written, of the others the number.

Enters: records that are about to be written. Leaves: the same, or none. Never: one dropped that alone knows what it says.
"""

import threading
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog

WINDOW_S = 60.0
MOST_IN_A_WINDOW = 20
LIMITED_LEVELS = frozenset({"warning", "error"})

UNLIMITED = frozenset({"instance_refused"})
"""Each of these names an instance that is not stored: nothing else does."""

FOR_EACH = {"association_rejected": ("reason", "calling_aet", "peer_address")}
"""Events of which each subject has a number of its own: a peer that tries again and again hides no other one."""

MOST_SUBJECTS = 100
"""Subjects of one event in a window. Who they are the peers say: further ones share a number."""


class _Window:
    """Of one event, or one subject of it: since when, how many came, how many were dropped."""

    __slots__ = ("count", "dropped_count", "start_s")

    def __init__(self, start_s: float) -> None:
        self.start_s = start_s
        self.count = 0
        self.dropped_count = 0


class Repeats:
    """A processor of structlog. Thread-safe.

    A record that is the first after some were dropped says how many, as `dropped`.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """
        Args:
            clock: seconds, from anywhere.
        """
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: dict[str, dict[tuple[object, ...], _Window]] = {}

    def __call__(self, _logger: object, method: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Pass a record on. Raises structlog.DropEvent where it is one too many."""
        event = record.get("event")
        if method not in LIMITED_LEVELS or event in UNLIMITED or not isinstance(event, str):
            return record
        now_s = self._clock()
        subject = tuple(record.get(fact) for fact in FOR_EACH.get(event, ()))
        with self._lock:
            # Events are names in the code: there are not many.
            windows = self._windows.setdefault(event, {})
            if subject not in windows and len(windows) >= MOST_SUBJECTS:
                # Of those that were silent for so long nobody waits for the number.
                windows = self._windows[event] = {key: one for key, one in windows.items() if now_s - one.start_s < WINDOW_S}
                subject = subject if len(windows) < MOST_SUBJECTS else ()
            window = windows.setdefault(subject, _Window(now_s))
            dropped_count = 0
            if now_s - window.start_s >= WINDOW_S:
                dropped_count = window.dropped_count
                window = windows[subject] = _Window(now_s)
            window.count += 1
            if window.count > MOST_IN_A_WINDOW:
                window.dropped_count += 1
                raise structlog.DropEvent
        if dropped_count:
            record["dropped"] = dropped_count
        return record
