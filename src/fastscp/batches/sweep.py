"""The rule by which the sweeper treats what workers have left behind. The sweeper follows it from docs/batches.md.

Enters: a marker as a listing and a reading show it, and what is known of its batch. Leaves: what to do with it.
Never: I/O; a batch closed while its worker may still say Success for it.
"""

from typing import Literal

from fastscp.batches.marker import Marker
from fastscp.batches.times import seconds

CLOCK_SKEW_S = 30.0
"""Most by which any two of these clocks may differ: the workers', the sweeper's, the object store's."""

Action = Literal["wait", "close", "start_import", "delete_marker"]


def sweep_action(marker: Marker, modified_s: float, *, has_manifest: bool, import_started: bool, now_s: float) -> Action:
    """What to do about one marker.

    close: list the batch's instances, after this decision; write the manifest from the listing if there is none yet, or
    delete the marker where the listing is empty. Whoever finds another's manifest leaves it.

    Args:
        modified_s: when the object store took the marker, as the listing shows it that named it.
        has_manifest: looked up after that listing.
        import_started: whether the batch's import has been started, or is going to be by somebody who will not forget it.
        now_s: the time before that listing.
    """
    if has_manifest:
        return "delete_marker" if import_started else "start_import"
    return "close" if now_s >= closable_at_s(marker, modified_s) else "wait"


def closable_at_s(marker: Marker, modified_s: float) -> float:
    """When a batch can no longer change, in seconds since the epoch: the end of the lease, the longest PUT deadline, the skew.

    The lease is counted from the object store's own time too: a renewal that failed for its worker can land late, over a newer
    one whose expiry the worker knows and relies on.
    """
    lease_end_s = max(seconds(marker.expires_at), modified_s + marker.lease_seconds)
    return lease_end_s + marker.put_deadline_seconds + CLOCK_SKEW_S
