"""The engine on botocore and s3transfer.

Enters: keys and segments. Leaves: objects whose checksum S3 has verified. Never: a copy of a segment above the TLS library.

User-space copies of an object's bytes: none over HTTP; over TLS one, into the records that are encrypted.
Reads: CRC-64/NVME; encryption; over plain HTTP the SHA-256 of the signature instead.
"""

import threading
from collections.abc import Iterator, Mapping
from typing import Any

from s3transfer.futures import NonThreadedExecutor
from s3transfer.manager import TransferConfig, TransferManager

from fastscp.errors import ConfigError
from fastscp.stores.s3.attributes import ObjectAttributes
from fastscp.stores.s3.body import SegmentsBody
from fastscp.stores.s3.client import connect, send_timeout_s
from fastscp.stores.s3.crc import crc64nvme_of, to_base64
from fastscp.stores.s3.engine import ChecksumMismatch, EngineError, ListedObject, NotFound, PutResult, Segments
from fastscp.stores.s3.errors import translated_errors
from fastscp.stores.s3.multipart import BotocoreUpload, answered
from fastscp.stores.s3.options import S3Options
from fastscp.stores.s3.retry import Retrier

LARGEST_PUT_BYTES = 5 << 30


class _Manager(TransferManager):
    """One that lets through what PutObject takes besides."""

    ALLOWED_UPLOAD_ARGS = [*TransferManager.ALLOWED_UPLOAD_ARGS, "IfNoneMatch", "BucketKeyEnabled"]  # noqa: RUF012


class BotocoreEngine:
    """Engine over a botocore client. Single objects go through s3transfer's TransferManager, in the caller's thread."""

    def __init__(self, options: S3Options) -> None:
        """Raises ConfigError."""
        self._options = options
        self._connection = connect(options)
        self._client = self._connection.client
        self._retrier = Retrier(options.attempt_timeout_s, renew_credentials=self._connection.credentials.renew)
        # An object below the manager's threshold is one request: threads would only add a hand-over.
        config = TransferConfig(multipart_threshold=LARGEST_PUT_BYTES)
        self._manager = _Manager(self._client, config, executor_cls=NonThreadedExecutor)
        # The manager drops the answer; it comes in the thread that asked.
        self._answers = threading.local()
        self._client.meta.events.register("after-call.s3.PutObject", self._keep_answer)

    def put(
        self, key: str, segments: Segments, *, attributes: ObjectAttributes, deadline_s: float, if_none_match: bool = False
    ) -> PutResult:
        """See `Engine.put`."""
        checksum = to_base64(crc64nvme_of(segments))
        views = [memoryview(segment) for segment in segments]
        try:
            return self._retrier.call(deadline_s, lambda _: self._put_once(key, views, checksum, attributes, if_none_match))
        finally:
            self._release(views)

    def begin(self, key: str, *, attributes: ObjectAttributes, deadline_s: float) -> BotocoreUpload:
        """See `Engine.begin`."""
        return BotocoreUpload(self._client, self._options, self._retrier, key, self._create_arguments(attributes), deadline_s)

    def get_bytes(self, key: str, *, deadline_s: float) -> bytes:
        """See `Engine.get_bytes`."""

        def attempt(_: bool) -> bytes:
            with translated_errors():
                return self._client.get_object(Key=key, **self._where())["Body"].read()

        return self._retrier.call(deadline_s, attempt)

    def list_keys(self, prefix: str, *, deadline_s: float) -> Iterator[ListedObject]:
        """See `Engine.list_keys`."""
        more: Any = {}

        def attempt(_: bool) -> Any:
            with translated_errors():
                return self._client.list_objects_v2(Prefix=prefix, **more, **self._where())

        while True:
            page = self._retrier.call(deadline_s, attempt)
            for entry in page.get("Contents", ()):
                yield ListedObject(entry["Key"], entry["Size"], entry["ETag"], entry["LastModified"].timestamp())
            if not page.get("IsTruncated"):
                return
            more["ContinuationToken"] = page["NextContinuationToken"]

    def delete(self, key: str, *, deadline_s: float) -> None:
        """See `Engine.delete`."""

        def attempt(_: bool) -> None:
            with translated_errors():
                self._client.delete_object(Key=key, **self._where())

        try:
            self._retrier.call(deadline_s, attempt)
        except NotFound:
            pass  # S3 does not say so, others do.

    def check(self, prefix: str, *, deadline_s: float) -> None:
        """See `Engine.check`."""
        key = f"{prefix}/.check" if prefix else ".check"
        doing = "write to"
        try:
            upload = self.begin(key, attributes=ObjectAttributes("text/plain", {}), deadline_s=deadline_s)
            doing = "abort an upload to"
            upload.abort()
        except EngineError as error:
            if error.retryable:
                raise
            raise ConfigError("--store", f"cannot {doing} bucket {self._options.bucket}: {error.code}") from error

    def retry_count(self) -> int:
        """See `Engine.retry_count`."""
        return self._retrier.retry_count

    def close(self) -> None:
        """See `Engine.close`."""
        self._manager.shutdown()
        self._client.close()

    def _put_once(self, key: str, views: list[memoryview], checksum: str, attributes: ObjectAttributes, if_none_match: bool) -> PutResult:
        arguments = self._object_arguments(attributes) | {"ChecksumCRC64NVME": checksum}
        if if_none_match:
            arguments["IfNoneMatch"] = "*"
        body: Any = SegmentsBody(views, send_timeout_s(self._options))
        self._answers.put_object = {}
        with translated_errors():
            self._manager.upload(body, self._options.bucket, key, arguments).result()
        answer = self._answers.put_object
        if answer.get("ChecksumCRC64NVME", checksum) != checksum:
            raise ChecksumMismatch("OtherChecksumInAnswer", unknown=True)
        return PutResult(answered(answer, "ETag"), checksum)

    def _release(self, views: list[memoryview]) -> None:
        for view in views:
            view.release()

    def _keep_answer(self, parsed: Mapping[str, Any], **_: object) -> None:
        self._answers.put_object = parsed

    def _where(self) -> Any:
        owner = self._options.expected_bucket_owner
        return {"Bucket": self._options.bucket} | ({"ExpectedBucketOwner": owner} if owner else {})

    def _object_arguments(self, attributes: ObjectAttributes) -> dict[str, Any]:
        options = self._options
        arguments: dict[str, Any] = {"ContentType": attributes.content_type, "Metadata": dict(attributes.metadata)}
        if options.expected_bucket_owner:
            arguments["ExpectedBucketOwner"] = options.expected_bucket_owner
        if options.encryption != "bucket-default":
            arguments["ServerSideEncryption"] = options.encryption
        if options.encryption == "aws:kms":
            arguments["BucketKeyEnabled"] = options.bucket_key
            if options.kms_key_id:
                arguments["SSEKMSKeyId"] = options.kms_key_id
        return arguments

    def _create_arguments(self, attributes: ObjectAttributes) -> dict[str, Any]:
        return self._object_arguments(attributes) | {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"}
