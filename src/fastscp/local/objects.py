"""The objects of the embedded S3, as a service inside AWS sees them.

Enters: bucket names, keys, content. Leaves: content and sizes. Never: a request over HTTP, of which moto serves a hundred a second.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from moto.s3.models import s3_backends

ACCOUNT_ID = "123456789012"
_PARTITION = "aws"


class Stored(NamedTuple):
    """An object that a listing shows."""

    key: str
    size_bytes: int


class EmbeddedObjects:
    """Reads and writes moto's S3 of this process. Raises KeyError where there is no such bucket or key."""

    def _bucket(self, bucket: str) -> Any:
        return s3_backends[ACCOUNT_ID][_PARTITION].buckets[bucket]

    def has_bucket(self, bucket: str) -> bool:
        return bucket in s3_backends[ACCOUNT_ID][_PARTITION].buckets

    def buckets(self) -> list[str]:
        return sorted(s3_backends[ACCOUNT_ID][_PARTITION].buckets)

    def listing(self, bucket: str, prefix: str) -> Iterator[Stored]:
        """The objects whose keys begin so, in the order of their keys."""
        keys = self._bucket(bucket).keys
        # list() of a dict is one step for the interpreter: requests change it meanwhile.
        for key in sorted(name for name in list(keys) if name.startswith(prefix)):
            stored = keys.get(key)
            if stored is not None:
                yield Stored(key, stored.size)

    def read(self, bucket: str, key: str) -> bytes:
        content: bytes = self._bucket(bucket).keys[key].value
        return content

    def write(self, bucket: str, key: str, content: bytes) -> None:
        """Put an object, without an event."""
        s3_backends[ACCOUNT_ID][_PARTITION].put_object(bucket, key, content, disable_notification=True)
