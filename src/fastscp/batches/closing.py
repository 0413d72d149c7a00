"""How the marker and the manifest of a batch come to be.

Enters: a batch, or a marker and a listing. Leaves: what to write. Never: an instance that was acknowledged left out.
"""

from collections.abc import Iterable
from typing import Literal

from fastscp.batches.keys import Keys
from fastscp.batches.manifest import CloseReason, Entry, Manifest, total_bytes
from fastscp.batches.marker import Marker
from fastscp.batches.membership import Batch
from fastscp.batches.objects import Listed
from fastscp.batches.times import utc


def marker_of(batch: Batch, owner: str, began_at_s: float) -> Marker:
    """The marker of an open batch.

    Args:
        began_at_s: a moment before the write of the marker begins, from which the lease counts.
    """
    return Marker(
        batch_id=batch.batch_id,
        owner=owner,
        opened_at=utc(batch.opened_at_s),
        expires_at=utc(began_at_s + batch.limits.lease_s),
        lease_seconds=batch.limits.lease_s,
        put_deadline_seconds=batch.limits.put_deadline_s,
        study_instance_uid=batch.study_instance_uid,
        study_date=batch.study_date,
        calling_ae_titles=tuple(sorted(batch.calling_ae_titles)),
        called_ae_titles=tuple(sorted(batch.called_ae_titles)),
        association_ids=tuple(sorted(batch.association_ids)),
    )


def manifest_of(batch: Batch, keys: Keys, owner: str, now_s: float) -> Manifest:
    """The manifest of a batch that has a reason to close and at least one entry, and in which nothing is under way any more."""
    if batch.close_reason is None:
        raise ValueError("the batch is open")
    return _manifest(marker_of(batch, owner, now_s), batch.entries.values(), keys, "worker", batch.close_reason, now_s)


def manifest_from_listing(marker: Marker, listing: Iterable[Listed], keys: Keys, now_s: float) -> Manifest | None:
    """The manifest of a batch whose lease has run out, None where it is empty.

    Args:
        listing: of the batch's instances, begun after the sweeper knew that it is up to it to close the batch. Objects
            that are not named as an instance of the study are left out.
    """
    entries = []
    for listed in listing:
        uids = keys.uids(marker.batch_id, listed.key)
        if uids is not None and uids[0] == marker.study_instance_uid:
            entries.append(Entry(sop_instance_uid=uids[2], key=listed.key, size=listed.size_bytes, crc64nvme=None))
    return _manifest(marker, entries, keys, "sweeper", "lease", now_s) if entries else None


def _manifest(
    marker: Marker, entries: Iterable[Entry], keys: Keys, closed_by: Literal["worker", "sweeper"], reason: CloseReason, now_s: float
) -> Manifest:
    instances = tuple(sorted(entries, key=lambda entry: entry.key))
    series = {uids[1] for entry in instances if (uids := keys.uids(marker.batch_id, entry.key)) is not None}
    return Manifest(
        batch_id=marker.batch_id,
        owner=marker.owner,
        closed_by=closed_by,
        close_reason=reason,
        opened_at=marker.opened_at,
        closed_at=utc(now_s),
        study_instance_uid=marker.study_instance_uid,
        study_date=marker.study_date,
        series_instance_uids=tuple(sorted(series)),
        calling_ae_titles=marker.calling_ae_titles,
        called_ae_titles=marker.called_ae_titles,
        association_ids=marker.association_ids,
        instance_count=len(instances),
        total_bytes=total_bytes(instances),
        instances=instances,
    )
