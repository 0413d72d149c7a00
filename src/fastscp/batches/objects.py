"""What batches need of an object store: small JSON objects, listings, and one conditional write.

Enters: keys and bytes. Leaves: what is there. Never: more of S3 than this.
"""

from collections.abc import Iterable
from typing import NamedTuple, Protocol


class Listed(NamedTuple):
    """One object of a listing."""

    key: str
    size_bytes: int
    modified_s: float
    """When the object store took the object, by its own clock, in seconds since the epoch."""


class Objects(Protocol):
    """Thread-safe and strongly consistent, as S3 is: what was written is what the next reading finds.

    Each method raises StoreError where it could not tell within its deadline that it succeeded. A write that raised may have
    happened all the same, or may still happen.
    """

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write the object unless there is one (If-None-Match: *). Returns whether it was written."""

    def put(self, key: str, data: bytes) -> None:
        """Write the object, over another where there is one."""

    def delete(self, key: str) -> None:
        """Delete the object; one that is not there is deleted already."""

    def list(self, prefix: str) -> Iterable[Listed]:
        """All objects whose keys begin with the prefix, in the order of their keys."""

    def get(self, key: str) -> bytes | None:
        """What the object holds, None where there is none."""
