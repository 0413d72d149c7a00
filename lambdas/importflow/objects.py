"""What the functions need of S3.

Enters: buckets, keys, bytes. Leaves: what is there. Never: more in memory than a caller allows, a copy through the function.
"""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from importflow.errors import PermanentError, calling, code_of

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

LARGEST_COPY_BYTES = 5 << 30
"""Most that one CopyObject copies; more is copied in parts. https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html"""

_ABSENT = frozenset({"404", "NoSuchKey", "NoSuchVersion", "NotFound"})
# The parts of 10 GB that are copied at once, by threads.
_IN_PARTS = TransferConfig(multipart_threshold=LARGEST_COPY_BYTES, multipart_chunksize=256 << 20, max_concurrency=10)


class Listed(NamedTuple):
    """One object of a listing."""

    key: str
    size_bytes: int
    modified_s: float


class Head(NamedTuple):
    """The first bytes of an object, and what is known of all of it. The version is None in a bucket without versions."""

    data: bytes
    size_bytes: int
    modified_s: float
    etag: str
    version: str | None
    content_encoding: str


class Bucket:
    """One bucket. Every method raises one of our errors where S3 did not answer, or refused."""

    def __init__(self, client: "S3Client", name: str) -> None:
        self._client = client
        self.name = name

    def get(self, key: str, largest_bytes: int) -> bytes | None:
        """What the object holds, None where there is none. Raises PermanentError for one that is larger than it may be."""
        with calling("GetObject"):
            try:
                answer = self._client.get_object(Bucket=self.name, Key=key)
            except ClientError as error:
                if code_of(error) in _ABSENT:
                    return None
                raise
            if answer["ContentLength"] > largest_bytes:
                raise PermanentError(f"{key} is larger than {largest_bytes} bytes")
            return answer["Body"].read()

    def lines(self, key: str) -> Iterator[bytes]:
        """The lines of an object, without their ends, as they arrive; none where there is no object."""
        with calling("GetObject"):
            try:
                body = self._client.get_object(Bucket=self.name, Key=key)["Body"]
            except ClientError as error:
                if code_of(error) in _ABSENT:
                    return
                raise
            yield from body.iter_lines(chunk_size=1 << 16)

    def head(self, key: str, length_bytes: int, version: str | None) -> Head | None:
        """The first bytes of an object, None where there is none.

        Args:
            version: None for the newest.
        """
        arguments: dict[str, Any] = {"VersionId": version} if version else {}
        with calling("GetObject"):
            try:
                answer = self._client.get_object(Bucket=self.name, Key=key, Range=f"bytes=0-{length_bytes - 1}", **arguments)
            except ClientError as error:
                if code_of(error) in _ABSENT:
                    return None
                raise
            data = answer["Body"].read()
        size = answer.get("ContentRange", "").rpartition("/")[2]
        return Head(
            data=data,
            size_bytes=int(size) if size.isdigit() else len(data),
            modified_s=answer["LastModified"].timestamp(),
            etag=answer["ETag"],
            version=answer.get("VersionId") or version,
            content_encoding=answer.get("ContentEncoding", ""),
        )

    def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        with calling("HeadObject"):
            try:
                self._client.head_object(Bucket=self.name, Key=key)
            except ClientError as error:
                if code_of(error) in _ABSENT:
                    return False
                raise
        return True

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write the object unless there is one. Returns whether it was written; also no where its own first answer was lost."""
        with calling("PutObject"):
            try:
                self._client.put_object(Bucket=self.name, Key=key, Body=data, ContentType="application/json", IfNoneMatch="*")
            except ClientError as error:
                if code_of(error) == "PreconditionFailed":
                    return False
                raise
        return True

    def put_json(self, key: str, document: Any) -> None:
        """Write a JSON document, over another where there is one."""
        body = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
        with calling("PutObject"):
            self._client.put_object(Bucket=self.name, Key=key, Body=body, ContentType="application/json")

    def delete(self, key: str) -> None:
        """Delete the object; one that is not there is deleted already."""
        with calling("DeleteObject"):
            self._client.delete_object(Bucket=self.name, Key=key)

    def list(self, prefix: str) -> Iterator[Listed]:
        """All objects whose keys begin with the prefix, in the order of their keys."""
        pages = iter(self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix))
        while True:
            with calling("ListObjectsV2"):
                page = next(pages, None)
            if page is None:
                return
            for found in page.get("Contents", ()):
                yield Listed(found["Key"], found["Size"], found["LastModified"].timestamp())

    def copy(self, key: str, to: str, size_bytes: int, *, version: str | None = None, etag: str | None = None) -> bool:
        """Copy an object inside the bucket, without its tags, by S3 itself. Returns whether there was such an object.

        Args:
            version: of the source, None for the newest.
            etag: of the source: where it is another by now, nothing is copied and False is returned.
        """
        source: Any = {"Bucket": self.name, "Key": key} | ({"VersionId": version} if version else {})
        extra: dict[str, Any] = {"TaggingDirective": "REPLACE"} | ({"CopySourceIfMatch": etag} if etag else {})
        with calling("CopyObject"):
            try:
                if size_bytes <= LARGEST_COPY_BYTES:
                    self._client.copy_object(Bucket=self.name, Key=to, CopySource=source, **extra)
                else:
                    self._client.copy(source, self.name, to, ExtraArgs=extra, Config=_IN_PARTS)
            except ClientError as error:
                if code_of(error) in _ABSENT or code_of(error) in {"412", "PreconditionFailed"}:
                    return False
                raise
        return True
