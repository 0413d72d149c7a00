"""What belongs into one batch, and when it is full or over.

Enters: instances that arrive, are committed or fail; the time. Leaves: the batch's entries and sums, and why it should close.
Never: I/O, a lock, a clock.
"""

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from fastscp.batches.lease import Lease
from fastscp.batches.manifest import CloseReason, Entry
from fastscp.batches.times import printable
from fastscp.errors import StoreError

_study_date = re.compile("[0-9]{8}").fullmatch


MOST_ASSOCIATIONS_NAMED = 20
"""In a record of the log. The marker and the manifest name all."""


class Arrival(NamedTuple):
    """An instance and who sends it. The UIDs are key-safe; the AE titles are what the peer said, whatever that is."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    study_date: str
    """As the data set has it; whatever is not YYYYMMDD counts as absent."""
    calling_ae_title: str
    called_ae_title: str
    association_id: str


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When batches close, how long their leases are, and how often that is looked at. An import job takes 5,000 files and 10 GB at most."""

    quiet_s: float = 15.0
    age_s: float = 600.0
    instances: int = 5_000
    size_bytes: int = 10_000_000_000
    lease_s: float = 120.0
    renew_s: float = 30.0
    retry_s: float = 5.0
    put_deadline_s: float = 60.0
    tick_s: float = 1.0


@dataclass(kw_only=True, eq=False)
class Batch:
    """One batch of one worker. Not thread-safe. All times in seconds since the epoch, by the worker's clock.

    Count and bytes are reserved before an instance's PUT. Where the PUT may have happened although it failed, they stay
    reserved: the object would be imported with the others, and count there.
    """

    batch_id: str
    study_instance_uid: str
    opened_at_s: float
    lease: Lease
    limits: Limits
    close_reason: CloseReason | None = None
    writing: bool = False
    """Whether the marker or the manifest is being written: one at a time."""
    retry_at_s: float = 0.0
    problem: StoreError | None = None
    """Why the last write of the marker or the manifest failed."""
    study_date: str | None = None
    calling_ae_titles: set[str] = field(default_factory=set)
    called_ae_titles: set[str] = field(default_factory=set)
    association_ids: set[str] = field(default_factory=set)
    entries: dict[str, Entry] = field(default_factory=dict)
    """What is committed, by SOP Instance UID."""
    under_way: dict[str, int] = field(default_factory=dict)
    """Bytes reserved for what is being put, by SOP Instance UID."""
    uncertain: set[str] = field(default_factory=set)
    """SOP Instance UIDs with a PUT that failed and may still happen: nothing else may be put under their keys."""
    _reserved_instances: int = 0
    _reserved_bytes: int = 0
    _active_at_s: float = 0.0

    def __post_init__(self) -> None:
        self._active_at_s = self.opened_at_s

    def facts(self) -> dict[str, object]:
        """What the log says of the batch at its end: how many instances are acknowledged, and who sent them."""
        return {
            "batch": self.batch_id,
            "instances": len(self.entries),
            "associations": sorted(self.association_ids)[:MOST_ASSOCIATIONS_NAMED],
            "association_count": len(self.association_ids),
        }

    def why_not(self, arrival: Arrival, key: str, size_bytes: int, now_s: float) -> CloseReason | None:
        """Why this batch must close rather than take an instance; None where it takes it.

        Args:
            key: what the instance's key would be in this batch.
        """
        if (reason := self.overdue(now_s)) is not None:
            return reason
        entry = self.entries.get(arrival.sop_instance_uid)
        if arrival.sop_instance_uid in self.uncertain or (entry is not None and entry.key != key):
            return "repeat"
        if self._reserved_instances >= self.limits.instances:
            return "count"
        if self._reserved_instances and self._reserved_bytes + size_bytes > self.limits.size_bytes:
            return "bytes"
        return None

    def overdue(self, now_s: float) -> CloseReason | None:
        """Why this batch should close although nothing comes, None where it should not."""
        if now_s - self.opened_at_s >= self.limits.age_s:
            return "age"
        if not self.under_way and now_s - self._active_at_s >= self.limits.quiet_s:
            return "quiet"
        return None

    def reserve(self, arrival: Arrival, size_bytes: int, now_s: float) -> None:
        """Take an instance in; its PUT may begin."""
        self.under_way[arrival.sop_instance_uid] = size_bytes
        self._reserved_instances += 1
        self._reserved_bytes += size_bytes
        self._active_at_s = now_s
        if self.study_date is None and _study_date(arrival.study_date):
            self.study_date = arrival.study_date
        self.calling_ae_titles.add(printable(arrival.calling_ae_title))
        self.called_ae_titles.add(printable(arrival.called_ae_title))
        self.association_ids.add(arrival.association_id)

    def commit(self, entry: Entry, now_s: float) -> None:
        """Take note that an instance's PUT succeeded. It replaces what was committed under the same key."""
        self._reserved_bytes += (entry.size or 0) - self.under_way.pop(entry.sop_instance_uid)
        replaced = self.entries.get(entry.sop_instance_uid)
        if replaced is not None:
            self._reserved_instances -= 1
            self._reserved_bytes -= replaced.size or 0
        self.entries[entry.sop_instance_uid] = entry
        self._active_at_s = now_s

    def fail(self, sop_instance_uid: str, *, may_have_landed: bool, now_s: float) -> None:
        """Take note that an instance's PUT failed."""
        size_bytes = self.under_way.pop(sop_instance_uid)
        self._active_at_s = now_s
        committed = self.entries.get(sop_instance_uid)
        if may_have_landed:
            self.uncertain.add(sop_instance_uid)
            if committed is not None:
                self.entries[sop_instance_uid] = Entry(sop_instance_uid=sop_instance_uid, key=committed.key, size=None, crc64nvme=None)
        else:
            self._reserved_bytes -= size_bytes
        if committed is not None or not may_have_landed:
            self._reserved_instances -= 1
