"""Whether the file system of the store has room.

Enters: the store's directory. Leaves: a reason not to be ready, or none. Never: an error; a store that cannot be asked says so.
"""

import os

from fastscp.settings import StoreTarget

LEAST_FREE_SHARE = 0.01
LEAST_FREE_BYTES = 1 << 30
"""Less than both is no room: on a small file system the share counts, on a large one the bytes."""


def disk_reasons(target: StoreTarget) -> dict[str, str]:
    """Reason by component, for `Health.ask`; empty where there is room, or no file system."""
    if target.kind != "file":
        return {}
    try:
        found = os.statvfs(target.path)
    except OSError as error:
        return {"disk": f"cannot be asked: {os.strerror(error.errno or 0)}"}
    free_bytes, size_bytes = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    if free_bytes < min(LEAST_FREE_SHARE * size_bytes, LEAST_FREE_BYTES):
        return {"disk": "nearly full"}
    return {}
