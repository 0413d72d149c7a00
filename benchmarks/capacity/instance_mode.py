"""One import job for each instance, as products do that start an import for each object: at the best that the quotas permit.

Enters: when instances are there. Leaves: when each is imported. Never: a start that is lost, late or throttled, which real ones have.
"""

import heapq
from collections.abc import Iterable, Iterator

from benchmarks.capacity.service import CONCURRENT_JOBS, START_BURST, STARTS_PER_S
from benchmarks.capacity.workflow import Duration


def imported_s(ready_s: Iterable[float], duration: Duration) -> Iterator[float]:
    """When each instance is imported, in the order of their readiness: first come, first served, no lock, no poll, no lost second.

    Args:
        ready_s: seconds on the virtual clock, ascending.
    """
    running: list[float] = []
    tokens, at_s = float(START_BURST), 0.0
    for number, ready in enumerate(ready_s):
        start = max(ready, at_s)
        if len(running) == CONCURRENT_JOBS:
            start = max(start, heapq.heappop(running))
        tokens = min(START_BURST, tokens + (start - at_s) * STARTS_PER_S)
        if tokens < 1:
            start += (1 - tokens) / STARTS_PER_S
            tokens = 1.0
        tokens, at_s = tokens - 1, start
        ended = start + duration(f"instance-{number}", 1)
        heapq.heappush(running, ended)
        yield ended
