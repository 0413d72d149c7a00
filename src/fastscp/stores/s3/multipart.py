"""An object in parts, sent while it arrives.

Enters: segments, part by part. Leaves: an object whose checksum S3 has verified as a whole, or nothing.
Never: a part kept after it was sent.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastscp.stores.s3.body import SegmentsBody
from fastscp.stores.s3.client import send_timeout_s
from fastscp.stores.s3.crc import crc64nvme_of, joined, to_base64
from fastscp.stores.s3.engine import ChecksumMismatch, EngineError, IncompleteAnswer, NotFound, PutResult, Segments
from fastscp.stores.s3.errors import translated_errors
from fastscp.stores.s3.options import S3Options
from fastscp.stores.s3.retry import Retrier

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


class BotocoreUpload:
    """A multipart upload over a botocore client, for both engines: obstore has no way to send one part again or to abort.

    S3 verifies each part's own checksum, and at the end the whole object's against the one computed here over all bytes in order.
    """

    def __init__(
        self, client: "S3Client", options: S3Options, retrier: Retrier, key: str, create_arguments: dict[str, Any], deadline_s: float
    ) -> None:
        self._client = client
        self._options = options
        self._retrier = retrier
        self._deadline_s = deadline_s
        self._parts: list[dict[str, Any]] = []
        self._checksum = 0
        self._size_bytes = 0
        self._target: Any = {"Bucket": options.bucket, "Key": key}
        if options.expected_bucket_owner:
            self._target["ExpectedBucketOwner"] = options.expected_bucket_owner

        def create(_: bool) -> str:
            with translated_errors():
                answer = self._client.create_multipart_upload(**(create_arguments | self._target))
            return answered(answer, "UploadId")

        self._upload: Any = {**self._target, "UploadId": retrier.call(deadline_s, create)}

    def add_part(self, segments: Segments) -> None:
        """See `MultipartUpload.add_part`."""
        number = len(self._parts) + 1
        part_checksum = crc64nvme_of(segments)
        checksum = to_base64(part_checksum)
        views = [memoryview(segment) for segment in segments]

        def send(_: bool) -> str:
            with translated_errors():
                body: Any = SegmentsBody(views, send_timeout_s(self._options))
                answer = self._client.upload_part(PartNumber=number, Body=body, ChecksumCRC64NVME=checksum, **self._upload)
            if answer.get("ChecksumCRC64NVME", checksum) != checksum:
                raise ChecksumMismatch("OtherChecksumInAnswer", unknown=True)
            return answered(answer, "ETag")

        try:
            etag = self._retrier.call(self._deadline_s, send)
        finally:
            for view in views:
                view.release()
        size_bytes = sum(len(segment) for segment in segments)
        self._checksum = joined(self._checksum, part_checksum, size_bytes)
        self._size_bytes += size_bytes
        self._parts.append({"PartNumber": number, "ETag": etag, "ChecksumCRC64NVME": checksum})

    def complete(self) -> PutResult:
        """See `MultipartUpload.complete`."""
        checksum = to_base64(self._checksum)
        whole: Any = {"ChecksumCRC64NVME": checksum, "ChecksumType": "FULL_OBJECT", "MpuObjectSize": self._size_bytes}
        parts: Any = {"Parts": self._parts}

        def send(may_be_complete: bool) -> str:
            try:
                with translated_errors():
                    answer: Any = self._client.complete_multipart_upload(MultipartUpload=parts, **whole, **self._upload)
            except NotFound:
                if not may_be_complete:
                    raise
                return self._etag_of_completed(checksum)
            if answer.get("ChecksumCRC64NVME", checksum) != checksum:
                raise ChecksumMismatch("OtherChecksumInAnswer", unknown=True)
            return answered(answer, "ETag")

        return PutResult(self._retrier.call(self._deadline_s, send), checksum)

    def abort(self) -> None:
        """See `MultipartUpload.abort`."""

        def send(_: bool) -> None:
            with translated_errors():
                self._client.abort_multipart_upload(**self._upload)

        try:
            self._retrier.call(self._deadline_s, send)
        except NotFound:
            pass  # An earlier attempt removed it, or completed it.

    def _etag_of_completed(self, checksum: str) -> str:
        # The upload is gone after an attempt to complete it that had no answer. Only an object with this checksum shows that it worked.
        with translated_errors():
            head = self._client.head_object(ChecksumMode="ENABLED", **self._target)
        if head.get("ChecksumCRC64NVME") != checksum or head["ContentLength"] != self._size_bytes:
            raise EngineError("UploadVanished")
        return answered(head, "ETag")


def answered(answer: Mapping[str, Any], member: str) -> str:
    """What an answer says. Raises IncompleteAnswer where it does not say it."""
    value = answer.get(member)
    if not value:
        raise IncompleteAnswer
    return str(value)
