"""How to reach S3.

Enters: nothing. Leaves: one frozen value. Never: a credential.
"""

from dataclasses import dataclass
from typing import Literal

Encryption = Literal["bucket-default", "AES256", "aws:kms"]


@dataclass(frozen=True, slots=True)
class S3Options:
    """Where objects go and how.

    Attributes:
        bucket: name of the bucket.
        region: None takes AWS_REGION, AWS_DEFAULT_REGION or the profile's.
        endpoint_url: None takes AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL or the profile's, else the region's own.
        expected_bucket_owner: 12-digit account; S3 refuses where the bucket is another's.
        encryption: what objects are encrypted with; `bucket-default` leaves it to the bucket.
        kms_key_id: for `aws:kms`; None takes the account's key for S3.
        bucket_key: for `aws:kms`; one data key for the bucket instead of one call to KMS per object.
        connection_count: most connections that are kept open.
        ca_bundle: file of certificates in PEM; None takes AWS_CA_BUNDLE, else the system's.
        connect_timeout_s: for a connection.
        attempt_timeout_s: for one request, from first to last byte.
    """

    bucket: str
    region: str | None = None
    endpoint_url: str | None = None
    expected_bucket_owner: str | None = None
    encryption: Encryption = "bucket-default"
    kms_key_id: str | None = None
    bucket_key: bool = True
    connection_count: int = 16
    ca_bundle: str | None = None
    connect_timeout_s: float = 3.0
    attempt_timeout_s: float = 20.0
