"""What changes in the table of batches.

Enters: rows, again and again. Leaves: each row that differs from what was seen of its batch before.
Never: an older image of a row after a newer one, memory that grows with time.
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from fastscp.jobs.rows import Batch, utc

OVERLAP = timedelta(minutes=2)
"""How far back each look goes: the index may be behind the table, and the writers' clocks differ."""

Read = Callable[[str], Iterable[Batch]]
"""Rows that were updated since then."""


class Following:
    """Remembers what was shown.

    Args:
        shown: the rows that somebody has seen already.
        started_at: ISO 8601, what is looked for where nothing was shown.
    """

    def __init__(self, shown: Iterable[Batch], started_at: str) -> None:
        self._seen = {batch.batch_id: batch for batch in shown}
        self._latest = max([batch.updated_at for batch in self._seen.values()], default=started_at)

    def changes(self, read: Read) -> list[Batch]:
        """Rows that are new or changed since the last call, in the order of their changes."""
        since = _earlier(self._latest)
        changed: dict[str, Batch] = {}
        for batch in read(since):
            # The same batch may stand in the index under its last state and under this one.
            seen = changed.get(batch.batch_id) or self._seen.get(batch.batch_id)
            if seen is None or (batch.updated_at >= seen.updated_at and batch != seen):
                changed[batch.batch_id] = batch
        self._seen |= changed
        self._seen = {batch_id: batch for batch_id, batch in self._seen.items() if batch.updated_at >= since}
        self._latest = max([self._latest, *(batch.updated_at for batch in changed.values())])
        return sorted(changed.values(), key=lambda batch: (batch.updated_at, batch.batch_id))


def _earlier(moment: str) -> str:
    return utc(datetime.fromisoformat(moment) - OVERLAP)
