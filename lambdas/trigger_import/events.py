"""What S3 says was created, out of SQS messages or from S3 itself.

Enters: events. Leaves: bucket, key and version of each object. Never: a key that is still URL-encoded.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

from importflow.errors import PermanentError


class Created(NamedTuple):
    """An object that S3 says was created. The version is None in a bucket without versions."""

    bucket: str
    key: str
    version: str | None


def created_in_message(body: str) -> list[Created]:
    """The objects of an SQS message. Raises PermanentError for one that S3 did not write."""
    try:
        event = json.loads(body)
    except ValueError:
        raise PermanentError("the message is not JSON") from None
    return list(created(event))


def created(event: Any) -> Iterator[Created]:
    """The objects of an event of S3, none for the test event. Raises PermanentError for what is no such event.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
    """
    if not isinstance(event, Mapping):
        raise PermanentError("not an event of S3")
    if event.get("Event") == "s3:TestEvent":
        return
    records = event.get("Records")
    if not isinstance(records, list):
        raise PermanentError("not an event of S3")
    for record in records:
        try:
            if record["eventName"].removeprefix("s3:").startswith("ObjectCreated:"):
                s3 = record["s3"]
                version = s3["object"].get("versionId")
                yield Created(
                    str(s3["bucket"]["name"]), unquote_plus(s3["object"]["key"]), None if version in (None, "", "null") else str(version)
                )
        except (KeyError, TypeError, AttributeError):
            raise PermanentError("not an event of S3") from None
