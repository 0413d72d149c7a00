"""What an S3 engine is: the few operations that the store needs, and the errors they end in.

Enters: keys and segments of memory. Leaves: objects whose checksum S3 has verified, or an `EngineError`.
Never: a success for an object that is not there, a view of the caller's memory after a method has returned.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from fastscp.errors import FastScpError
from fastscp.stores.s3.attributes import ObjectAttributes

Segments = Sequence[memoryview | bytes]


class PutResult(NamedTuple):
    """What was stored.

    Attributes:
        etag: entity tag as S3 gave it, with its quotation marks.
        crc64nvme_base64: CRC-64/NVME of the whole object, big endian, in base64, as `x-amz-checksum-crc64nvme` writes it.
    """

    etag: str
    crc64nvme_base64: str


class ListedObject(NamedTuple):
    """One object of a listing.

    Attributes:
        modified_s: when S3 took it, by its clock, in seconds since the epoch.
    """

    key: str
    size_bytes: int
    etag: str
    modified_s: float


class EngineError(FastScpError):
    """S3 did not do what was asked.

    Attributes:
        code: S3's error code, or a word for what happened to the connection. Has no text from a peer and no credentials.
        retryable: whether the same request may succeed later.
        unknown: whether the request may have taken effect all the same.
    """

    def __init__(self, code: str, *, retryable: bool = False, unknown: bool = False) -> None:
        super().__init__(code)
        self.code = code
        self.retryable = retryable
        self.unknown = unknown


class IncompleteAnswer(EngineError):
    """S3 said yes and not what to: an error that it met after it had begun to answer, or an answer that was cut."""

    def __init__(self) -> None:
        super().__init__("IncompleteAnswer", retryable=True, unknown=True)


class PreconditionFailed(EngineError):
    """The object exists, and `if_none_match` was asked for.

    Attributes:
        may_be_ours: an earlier attempt of the same call ended without an answer, so that the object may be the one that was put.
    """

    may_be_ours = False


class NotFound(EngineError):
    """There is no such object or upload."""


class ChecksumMismatch(EngineError):
    """S3 received other bytes than were hashed, or says that it did. Not retried: under TLS it is no fault of the line."""


class AccessProblem(EngineError):
    """Credentials, bucket, owner, region or key do not permit it. It takes a person to change that."""


class MultipartUpload(Protocol):
    """An object that is sent in parts. Used by one thread; ends with one successful `complete`, or with `abort`.

    Every method takes as long as the `deadline_s` that the upload was begun with, at most, and raises EngineError.
    """

    def add_part(self, segments: Segments) -> None:
        """Send the next part: 5 MiB to 5 GiB, only the last one may be shorter; at most 10,000 of them."""

    def complete(self) -> PutResult:
        """Make the object of the parts, once S3 has verified the checksum of the whole."""

    def abort(self) -> None:
        """Remove the parts. An error leaves them to the bucket's lifecycle rule."""


class Engine(Protocol):
    """Thread-safe. Every method raises EngineError.

    It ends within `deadline_s`, which should be more than one attempt may take (`S3Options.attempt_timeout_s`): one is always made.
    What goes through botocore takes longer where S3 answers a byte at a time, or the name server does not answer.
    """

    def put(
        self, key: str, segments: Segments, *, attributes: ObjectAttributes, deadline_s: float, if_none_match: bool = False
    ) -> PutResult:
        """Store an object of at most 5 GiB. Raises PreconditionFailed where `if_none_match` is set and the object exists."""

    def begin(self, key: str, *, attributes: ObjectAttributes, deadline_s: float) -> MultipartUpload:
        """Begin an object whose size is not known."""

    def get_bytes(self, key: str, *, deadline_s: float) -> bytes:
        """A small object. Raises NotFound."""

    def list_keys(self, prefix: str, *, deadline_s: float) -> Iterator[ListedObject]:
        """All objects under a prefix in the order of their keys; `deadline_s` is for each page of 1000."""

    def delete(self, key: str, *, deadline_s: float) -> None:
        """Remove an object; there need not be one."""

    def check(self, prefix: str, *, deadline_s: float) -> None:
        """Begin an upload and abort it, which leaves nothing. Raises ConfigError where only a person can help, else EngineError."""

    def retry_count(self) -> int:
        """Requests that were made again after a failure, so far."""

    def close(self) -> None:
        """Close all connections. Called once, when nothing is under way."""
