"""Instances in S3, in batches: an object each, and Success once S3 has verified it and the batch's marker stands.

Enters: instances. Leaves: objects under instances/<batch id>/, and what batches leave (docs/batches.md).
Never: a return from a commit whose object may be missing, parts of an instance that was given up.
"""

import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from fastscp._ext.memory import SEGMENT_SIZES_BYTES
from fastscp._ext.part10 import Instance
from fastscp.batches import Arrival, Batches, Keeper, Keys, Limits, Ticket
from fastscp.errors import RefusedError
from fastscp.observe.log import get_logger
from fastscp.receive.checks import check_instance, read_head
from fastscp.receive.s3_objects import S3Objects, store_error
from fastscp.receive.s3_probe import S3Probe
from fastscp.stores import InstanceName, Origin, StoreHealth
from fastscp.stores.s3 import Engine, EngineError, MultipartUpload, ObjectAttributes, instance_attributes

SMALLEST_PART_BYTES = 5 << 20
"""S3 takes no smaller part but the last."""

PART_GROWTH_COUNT = 1000
"""After this many parts of one size the size doubles, so that 10,000 parts hold the largest object that S3 takes."""

FIRST_PART_BYTES = 8 << 20
LARGEST_SEGMENT_BYTES = max(SEGMENT_SIZES_BYTES)
BATCH_WRITERS = 4
"""Threads for markers and manifests: apart from those that put instances, or a renewal could come too late."""

_log = get_logger("store")


class S3Store:
    """The store `s3://bucket/prefix`. Owns the engine."""

    spill_from_bytes = sys.maxsize

    def __init__(self, engine: Engine, prefix: str, limits: Limits, health: StoreHealth, *, replace: bool) -> None:
        """
        Args:
            limits: of batches; its `put_deadline_s` is that of every object.
            replace: whether an instance that is in the open batch already is overwritten; otherwise it is refused with 0xC000.
        """
        self._engine = engine
        self._health = health
        self._put_deadline_s = limits.put_deadline_s
        self._writers = ThreadPoolExecutor(BATCH_WRITERS, "batch-writer")
        self._batches = Batches(
            S3Objects(engine, limits.put_deadline_s, health),
            Keys(prefix),
            limits,
            owner=f"{socket.gethostname()}-{os.getpid()}",
            replace=replace,
            clock=time.time,
            entropy=os.urandom,
            submit=self._writers.submit,
            wait_s=limits.put_deadline_s,
        )
        self._keeper = Keeper(self._batches, time.time, limits.tick_s)
        self._keeper.start()
        self._probe = S3Probe(engine, prefix, health)
        self._probe.start()

    def for_association(self, origin: Origin) -> "AssociationStore":
        """See `Store.for_association`."""
        return AssociationStore(self._engine, self._batches, self._health, self._put_deadline_s, origin)

    def open_batches(self) -> int:
        """Batches that this worker has still to close."""
        return self._batches.open_count()

    def oldest_batch_age_s(self) -> float:
        """Seconds since the oldest of them was opened, 0 where there is none."""
        return self._batches.oldest_age_s()

    def retry_count(self) -> int:
        """Requests to S3 that were made again after a failure, so far."""
        return self._engine.retry_count()

    def close(self) -> None:
        """Close all batches, which writes their manifests. What cannot be closed in time is left to the sweeper."""
        self._probe.stop()
        if not self._batches.drain(self._put_deadline_s):
            _log.error("batches_left_open")
        self._keeper.stop()
        self._writers.shutdown()
        self._probe.join()
        self._engine.close()


class AssociationStore:
    """The same store, for the instances of one association."""

    committer = None

    def __init__(self, engine: Engine, batches: Batches, health: StoreHealth, put_deadline_s: float, origin: Origin) -> None:
        self._engine = engine
        self._batches = batches
        self.health = health
        self._put_deadline_s = put_deadline_s
        self._origin = origin

    def commit(self, instance: Instance, name: InstanceName) -> None:
        """Put the object beside the marker of its batch, and wait for both."""
        size_bytes = instance.file_bytes
        ticket = self.join(instance, name, size_bytes)
        with failing(ticket, self.health), lent(instance.segments()) as segments:
            put = self._engine.put(ticket.key, segments, attributes=self.attributes(), deadline_s=self._put_deadline_s)
        ticket.committed(size_bytes, put.crc64nvme_base64)
        self.health.succeeded()

    def begin_upload(self, instance: Instance) -> "S3Upload":
        """Prepare to send an instance in parts; nothing is sent before the first part is full."""
        return S3Upload(self)

    def begin_multipart(self, ticket: Ticket) -> MultipartUpload:
        """Begin an object in parts under the ticket's key. Raises EngineError."""
        return self._engine.begin(ticket.key, attributes=self.attributes(), deadline_s=self._put_deadline_s)

    def join(self, instance: Instance, name: InstanceName, size_bytes: int | None) -> Ticket:
        """A place in a batch; `size_bytes` is None where it is not known yet. Raises RefusedError."""
        study_date = read_head(instance).study_date or ""
        origin = self._origin
        arrival = Arrival(*name, study_date, origin.calling_ae_title, origin.called_ae_title, origin.association_id)
        return self._batches.join(arrival, size_bytes)

    def attributes(self) -> ObjectAttributes:
        """What the object says of itself."""
        origin = self._origin
        return instance_attributes(origin.called_ae_title, origin.calling_ae_title, datetime.now(UTC), origin.association_id)


class S3Upload:
    """An instance that goes up in parts while it arrives, in a batch of its own."""

    def __init__(self, store: AssociationStore) -> None:
        self._store = store
        self._ticket: Ticket | None = None
        self._multipart: MultipartUpload | None = None
        self._part_bytes = FIRST_PART_BYTES
        self._part_count = 0

    def spill(self, instance: Instance) -> None:
        """Send what can leave memory as the next part, where it is enough for one."""
        size_bytes = instance.spillable_bytes()
        if size_bytes < SMALLEST_PART_BYTES:
            return
        if self._ticket is None:
            if read_head(instance).state != "complete":
                comment = "The identifying UIDs are too far into the data set"
                raise RefusedError(0xC000, "unreadable_head", comment)
            self._ticket = self._store.join(instance, check_instance(instance, frozenset()), None)
        with failing(self._ticket, self._store.health):
            if self._multipart is None:
                self._multipart = self._store.begin_multipart(self._ticket)
            with lent(instance.spillable_segments()) as segments:
                self._multipart.add_part(segments)
        instance.drop_spillable(size_bytes)
        self._part_count += 1
        if self._part_count % PART_GROWTH_COUNT == 0:
            self._part_bytes *= 2
        # A little more than the part: what is being filled cannot go with it.
        instance.spill_at_bytes = self._part_bytes + LARGEST_SEGMENT_BYTES

    def commit(self, instance: Instance, name: InstanceName) -> None:
        """Send the last part, make the object of all, and wait for the batch's marker."""
        ticket, multipart = self._ticket, self._multipart
        if ticket is None or multipart is None:
            self._store.commit(instance, name)
            return
        try:
            with failing(ticket, self._store.health):
                with lent(instance.segments()) as segments:
                    multipart.add_part(segments)
                # The upload may have taken longer than the lease.
                ticket.check()
                put = multipart.complete()
        except BaseException:
            # Whatever it was: no parts stay.
            self.abandon()
            raise
        ticket.committed(instance.file_bytes, put.crc64nvme_base64)
        self._store.health.succeeded()

    def abandon(self) -> None:
        """Remove the parts and give up the place in the batch."""
        multipart, self._multipart = self._multipart, None
        if multipart is not None:
            try:
                multipart.abort()
            except EngineError as error:
                _log.warning("parts_left", problem=error.code)
        if self._ticket is not None:
            self._ticket.failed(may_have_landed=False)


@contextlib.contextmanager
def lent(segments: list[memoryview]) -> Iterator[list[memoryview]]:
    """Views of an instance that end with the block, also where an exception keeps the frame: the memory is given back right after."""
    try:
        yield segments
    finally:
        for segment in segments:
            segment.release()


@contextlib.contextmanager
def failing(ticket: Ticket, health: StoreHealth) -> Iterator[None]:
    """Ends the ticket where the work under it fails; an EngineError leaves as StoreError."""
    try:
        yield
    except EngineError as error:
        ticket.failed(may_have_landed=error.unknown)
        raise store_error(error, health) from error
    except BaseException:
        ticket.failed()
        raise
