"""The emulator's time, which may pass faster than ours.

Enters: the real time. Leaves: seconds of the emulator. Never: a step backwards.
"""

import time
from datetime import UTC, datetime


class Clock:
    """Starts at the real time and runs `scale` times as fast.

    Args:
        scale: with 10, a rate of 1 per second becomes 10 per real second, and a job of 20 s takes 2.
    """

    def __init__(self, scale: float = 1.0) -> None:
        if scale <= 0:
            raise ValueError("scale must be more than 0")
        self.scale = scale
        self._epoch_s = time.time()
        self._began_s = time.monotonic()

    def now_s(self) -> float:
        """Seconds since the epoch."""
        return self._epoch_s + (time.monotonic() - self._began_s) * self.scale

    def real_s(self, emulated_s: float) -> float:
        """How long a stretch of this clock really takes."""
        return emulated_s / self.scale


def instant(seconds: float) -> datetime:
    """Seconds since the epoch as UTC, to the millisecond, as the service states times."""
    return datetime.fromtimestamp(round(seconds, 3), UTC)
