"""The batches of one worker: which batch an instance joins, and what is promised for it.

Enters: instances before their PUT and after it, ticks of the clock. Leaves: keys; markers and manifests in the object store.
Never: a return from `Ticket.committed` without a marker in the object store and a lease that holds; I/O under the lock.
"""

import threading
from collections.abc import Callable

from fastscp.batches.closing import manifest_of, marker_of
from fastscp.batches.ids import new_batch_id
from fastscp.batches.keys import Keys
from fastscp.batches.lease import Lease
from fastscp.batches.manifest import CloseReason, Entry, encode_manifest
from fastscp.batches.marker import encode_marker
from fastscp.batches.membership import Arrival, Batch, Limits
from fastscp.batches.objects import Objects
from fastscp.errors import RefusedError, StoreError
from fastscp.observe.log import get_logger

_log = get_logger("batches")


class Batches:
    """All open batches of one worker. Thread-safe.

    The first write of a batch's marker runs beside the PUT of its first instance; renewals and manifests wait for nobody.
    """

    def __init__(
        self,
        objects: Objects,
        keys: Keys,
        limits: Limits,
        *,
        owner: str,
        replace: bool,
        clock: Callable[[], float],
        entropy: Callable[[int], bytes],
        submit: Callable[[Callable[[], None]], object],
        wait_s: float,
    ) -> None:
        """
        Args:
            owner: names this worker among all.
            replace: whether an instance that is in the open batch already is overwritten; otherwise it is refused with 0xC000.
            clock: seconds since the epoch.
            entropy: returns as many random bytes as it is asked for.
            submit: has a function called soon, in another thread than the one that asks for it.
            wait_s: how long an instance waits for the marker, or for another with the same UID; longer than a write can take.
        """
        self._objects = objects
        self._keys = keys
        self._limits = limits
        self._owner = owner
        self._replace = replace
        self._clock = clock
        self._entropy = entropy
        self._submit = submit
        self._wait_s = wait_s
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._open: dict[str, Batch] = {}
        """Batches that can be joined, by Study Instance UID."""
        self._live: set[Batch] = set()
        """Batches that this worker still has to close, those in `_open` among them."""
        self._draining = False

    def join(self, arrival: Arrival, size_bytes: int | None) -> "Ticket":
        """Find a batch for an instance. Its PUT may begin at once.

        Args:
            size_bytes: of the whole object, None where it is not known yet; the batch is then the instance's own.
        Raises RefusedError (0xC000) for a duplicate, StoreError where the wait for another with the same UID was too long or
        where the batches have been closed for good.
        """
        with self._lock:
            while True:
                if self._draining:
                    raise StoreError("The receiver is shutting down", "an instance came after the batches were closed")
                now_s = self._clock()
                batch = None if size_bytes is None else self._open.get(arrival.study_instance_uid)
                if batch is not None and batch.lease.lost(now_s):
                    self._lose(batch)
                    batch = None
                if batch is None:
                    return self._enter(self._begin(arrival, now_s, alone=size_bytes is None), arrival, size_bytes or 0, now_s)
                if arrival.sop_instance_uid in batch.under_way:
                    self._await_turn(batch, arrival.sop_instance_uid)
                    continue
                if not self._replace and arrival.sop_instance_uid in batch.entries:
                    raise RefusedError(0xC000, "duplicate", "The instance exists already")
                reason = batch.why_not(arrival, self._key(batch, arrival), size_bytes or 0, now_s)
                if reason is None:
                    return self._enter(batch, arrival, size_bytes or 0, now_s)
                self._seal(batch, reason, now_s)

    def tick(self, now_s: float) -> None:
        """Renew the leases that are due, close the batches that are over. To be called every second or so."""
        with self._lock:
            for batch in list(self._live):
                if batch.lease.lost(now_s):
                    self._lose(batch)
                    continue
                if batch.close_reason is None and (reason := batch.overdue(now_s)) is not None:
                    self._seal(batch, reason, now_s)
                self._advance(batch, now_s)
                if batch.lease.due(now_s) and not batch.writing:
                    self._write(batch, self._write_marker)

    def drain(self, timeout_s: float) -> bool:
        """Let nothing join any more, close all batches and wait for that, while others call `tick`.

        Returns whether all are closed; the sweeper closes those that are not.
        """
        with self._lock:
            self._draining = True
            now_s = self._clock()
            for batch in list(self._open.values()):
                self._seal(batch, "drain", now_s)
            return self._changed.wait_for(lambda: not self._live, timeout_s)

    def open_count(self) -> int:
        """Batches that this worker has still to close."""
        with self._lock:
            return len(self._live)

    def oldest_age_s(self) -> float:
        """Seconds since the oldest of them was opened, 0 where there is none."""
        with self._lock:
            now_s = self._clock()
            return max((now_s - batch.opened_at_s for batch in self._live), default=0.0)

    def _check(self, batch: Batch) -> None:
        with self._lock:
            if batch.lease.lost(self._clock()):
                raise _lease_lost(batch)

    def _commit(self, batch: Batch, entry: Entry) -> None:
        with self._lock:
            settled = self._changed.wait_for(lambda: batch.lease.settled, self._wait_s)
            now_s = self._clock()
            holds = batch.lease.holds(now_s)
            if holds:
                batch.commit(entry, now_s)
            else:
                batch.fail(entry.sop_instance_uid, may_have_landed=True, now_s=now_s)
            self._advance(batch, now_s)
            self._changed.notify_all()
        if not settled:
            raise StoreError("The storage is too slow", "the wait for the marker of the batch was too long")
        if not holds:
            raise _lease_lost(batch)

    def _fail(self, batch: Batch, sop_instance_uid: str, may_have_landed: bool) -> None:
        with self._lock:
            now_s = self._clock()
            batch.fail(sop_instance_uid, may_have_landed=may_have_landed, now_s=now_s)
            self._advance(batch, now_s)
            self._changed.notify_all()

    def _key(self, batch: Batch, arrival: Arrival) -> str:
        return self._keys.instance(batch.batch_id, *arrival[:3])

    def _begin(self, arrival: Arrival, now_s: float, *, alone: bool) -> Batch:
        batch = Batch(
            batch_id=new_batch_id(self._entropy, now_s),
            study_instance_uid=arrival.study_instance_uid,
            opened_at_s=now_s,
            lease=Lease(self._limits.lease_s, self._limits.renew_s, self._limits.retry_s),
            limits=self._limits,
        )
        if alone:
            batch.close_reason = "spilled"
        else:
            self._open[arrival.study_instance_uid] = batch
        return batch

    def _enter(self, batch: Batch, arrival: Arrival, size_bytes: int, now_s: float) -> "Ticket":
        batch.reserve(arrival, size_bytes, now_s)
        if batch not in self._live:
            self._live.add(batch)
            _log.info("batch_opened", batch=batch.batch_id, study=batch.study_instance_uid, association=arrival.association_id)
            self._write(batch, self._write_marker)
        return Ticket(self, batch, arrival.sop_instance_uid, self._key(batch, arrival))

    def _await_turn(self, batch: Batch, sop_instance_uid: str) -> None:
        if not self._changed.wait_for(lambda: sop_instance_uid not in batch.under_way, self._wait_s):
            raise StoreError("The same instance is still being stored", "the wait for another with the same SOP Instance UID was too long")

    def _seal(self, batch: Batch, reason: CloseReason, now_s: float) -> None:
        batch.close_reason = reason
        del self._open[batch.study_instance_uid]
        self._advance(batch, now_s)

    def _advance(self, batch: Batch, now_s: float) -> None:
        """Write the manifest of a sealed batch once nothing is under way in it."""
        reason = batch.close_reason
        if reason is None or batch not in self._live or batch.under_way or batch.writing:
            return
        if batch.lease.holds(now_s) and now_s >= batch.retry_at_s:
            self._write(batch, self._write_manifest if batch.entries else self._delete_marker)

    def _lose(self, batch: Batch) -> None:
        """Leave a batch to the sweeper."""
        _log.warning("batch_lost", **batch.facts())
        self._forget(batch)

    def _forget(self, batch: Batch) -> None:
        self._live.discard(batch)
        if self._open.get(batch.study_instance_uid) is batch:
            del self._open[batch.study_instance_uid]
        self._changed.notify_all()

    def _write(self, batch: Batch, write: Callable[[Batch], None]) -> None:
        batch.writing = True
        self._submit(lambda: write(batch))

    def _write_marker(self, batch: Batch) -> None:
        with self._lock:
            began_at_s = self._clock()
            data = encode_marker(marker_of(batch, self._owner, began_at_s))
        written = self._attempt(batch, "marker", lambda: self._objects.put(self._keys.marker(batch.batch_id), data))
        with self._lock:
            now_s = self._clock()
            batch.writing = False
            if written:
                batch.lease.written(began_at_s, now_s)
            else:
                batch.lease.failed(began_at_s)
            if batch in self._live and batch.lease.lost(now_s):
                self._lose(batch)
            self._advance(batch, now_s)
            self._changed.notify_all()

    def _write_manifest(self, batch: Batch) -> None:
        manifest = manifest_of(batch, self._keys, self._owner, self._clock())
        key, data = self._keys.manifest(batch.batch_id), encode_manifest(manifest)
        # Where there is one already, a failed attempt of this worker has written it, or the sweeper has: it stays.
        self._closed(batch, self._attempt(batch, "manifest", lambda: self._objects.put_if_absent(key, data)))

    def _delete_marker(self, batch: Batch) -> None:
        """Close a batch of which nobody was promised anything: there is nothing to import."""
        self._closed(batch, self._attempt(batch, "marker", lambda: self._objects.delete(self._keys.marker(batch.batch_id))))

    def _closed(self, batch: Batch, done: bool) -> None:
        with self._lock:
            batch.writing = False
            if done:
                _log.info("batch_closed", reason=batch.close_reason, **batch.facts())
                self._forget(batch)
            else:
                batch.retry_at_s = self._clock() + self._limits.retry_s

    def _attempt(self, batch: Batch, what: str, write: Callable[[], object]) -> bool:
        try:
            write()
            batch.problem = None
            return True
        except StoreError as error:
            batch.problem = error
            _log.warning("batch_write_failed", batch=batch.batch_id, what=what, problem=error.problem)
        except Exception:
            _log.exception("batch_write_failed_unexpectedly", batch=batch.batch_id, what=what)
        return False


def _lease_lost(batch: Batch) -> StoreError:
    if batch.problem is not None:
        return StoreError(batch.problem.comment, f"the lease of the batch is lost: {batch.problem.problem}")
    return StoreError("The storage was out of reach for too long", "the lease of the batch is lost")


class Ticket:
    """The place of one instance in a batch. Ends with exactly one of `committed` and `failed`. Used by one thread.

    Attributes:
        key: where to put the instance.
    """

    def __init__(self, batches: Batches, batch: Batch, sop_instance_uid: str, key: str) -> None:
        self.key = key
        self._batches = batches
        self._batch = batch
        self._sop_instance_uid = sop_instance_uid
        self._ended = False

    def check(self) -> None:
        """Raises StoreError where the lease is lost. For who has had the ticket for long and is about to begin the commit."""
        self._batches._check(self._batch)

    def committed(self, size_bytes: int, crc64nvme: str) -> None:
        """The object is there: wait for the marker, and enter the instance into the manifest to be.

        Success may be said once this has returned. Raises StoreError where the instance is promised to nobody; the ticket has
        ended then, too.

        Args:
            crc64nvme: of the object, in base64.
        """
        self._ended = True
        entry = Entry(sop_instance_uid=self._sop_instance_uid, key=self.key, size=size_bytes, crc64nvme=crc64nvme)
        self._batches._commit(self._batch, entry)

    def failed(self, *, may_have_landed: bool = True) -> None:
        """The PUT failed, or was never begun. Does nothing once the ticket has ended.

        Args:
            may_have_landed: False where it is certain that the object is not there and will not come.
        """
        if not self._ended:
            self._ended = True
            self._batches._fail(self._batch, self._sop_instance_uid, may_have_landed)
