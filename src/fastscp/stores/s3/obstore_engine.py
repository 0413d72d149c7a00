"""The engine on obstore, the Rust client: several times cheaper for each object.

Enters: keys and segments. Leaves: objects whose checksum S3 has verified. Never: a call without the standard AWS credential chain.

User-space copies of an object's bytes: none over HTTP; over TLS one, into the records that are encrypted.
Reads: CRC-64/NVME twice, because obstore hashes by itself and does not tell the value; encryption; over plain HTTP also the
SHA-256 of the signature.
"""

import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from fastscp.errors import ConfigError
from fastscp.stores.s3.attributes import ObjectAttributes
from fastscp.stores.s3.botocore_engine import BotocoreEngine
from fastscp.stores.s3.client import Connection
from fastscp.stores.s3.credentials import ChainCredentials
from fastscp.stores.s3.engine import EngineError, PutResult
from fastscp.stores.s3.errors import error_of_answer
from fastscp.stores.s3.multipart import answered
from fastscp.stores.s3.options import S3Options

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Config, S3Credential

CREDENTIALS_FOR = timedelta(minutes=1)
"""How long obstore is told that credentials last. Below the five minutes before their end in which it asks again with each
request: botocore, which knows the true end, decides when to refresh."""

_STATUS = re.compile(r"status(?: code)?:? (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,64})</Code>")


class ObstoreEngine(BotocoreEngine):
    """Single objects go through obstore; everything rarer through botocore, as in `BotocoreEngine`."""

    def __init__(self, options: S3Options) -> None:
        """Raises ConfigError."""
        super().__init__(options)
        try:
            self._store = _open_store(options, self._connection)
        except (BaseError, OSError, ValueError) as error:
            raise ConfigError("--store", f"cannot use S3: {error}") from error

    def _put_once(self, key: str, views: list[memoryview], checksum: str, attributes: ObjectAttributes, if_none_match: bool) -> PutResult:
        try:
            answer = obstore.put(
                self._store,
                key,
                views,
                attributes={"Content-Type": attributes.content_type, **attributes.metadata},
                mode="create" if if_none_match else "overwrite",
                use_multipart=False,
            )
        except (BaseError, OSError) as error:
            raise _error_of_obstore(error) from error
        return PutResult(answered(answer, "e_tag"), checksum)

    def _release(self, views: list[memoryview]) -> None:
        # A request that failed is dropped by obstore's own threads, some time after its error is raised.
        give_up_at = time.monotonic() + self._options.attempt_timeout_s
        for view in views:
            while True:
                try:
                    view.release()
                    break
                except BufferError:
                    if time.monotonic() > give_up_at:
                        raise
                    time.sleep(0.001)


def _open_store(options: S3Options, connection: Connection) -> S3Store:
    over_tls = connection.endpoint_url.startswith("https:")
    config: S3Config = {
        "bucket": options.bucket,
        "region": connection.region,
        "checksum_algorithm": "CRC64NVME",
        "unsigned_payload": over_tls,
        # obstore also reads these from the environment, where botocore would not look.
        "skip_signature": False,
        "s3_express": False,
        "conditional_put": "etag",
    }
    host = urlsplit(connection.endpoint_url).netloc
    if re.search(r"\.amazonaws\.com(\.cn)?$", host) and "." not in options.bucket:
        config |= {"aws_endpoint_url_s3": f"https://{options.bucket}.{host}", "virtual_hosted_style_request": True}
    else:
        config |= {"aws_endpoint_url_s3": connection.endpoint_url, "virtual_hosted_style_request": False}
    if options.encryption != "bucket-default":
        config["server_side_encryption"] = options.encryption
    if options.encryption == "aws:kms":
        config["sse_bucket_key_enabled"] = options.bucket_key
        if options.kms_key_id:
            config["sse_kms_key_id"] = options.kms_key_id
    client: ClientConfig = {
        "allow_http": not over_tls,
        "connect_timeout": timedelta(seconds=options.connect_timeout_s),
        "timeout": timedelta(seconds=options.attempt_timeout_s),
        "pool_max_idle_per_host": str(options.connection_count),
    }
    if options.expected_bucket_owner:
        client["default_headers"] = {"x-amz-expected-bucket-owner": options.expected_bucket_owner}
    if connection.ca_bundle:
        client["root_certificate"] = Path(connection.ca_bundle).read_bytes()
    provider = _CredentialProvider(connection.credentials)
    return S3Store(config=config, client_options=client, retry_config={"max_retries": 0}, credential_provider=provider)


class _CredentialProvider:
    """The standard AWS chain, for obstore."""

    def __init__(self, credentials: ChainCredentials) -> None:
        self._credentials = credentials

    def __call__(self) -> "S3Credential":
        frozen: Any = self._credentials.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + CREDENTIALS_FOR,
        }


def _error_of_obstore(error: Exception) -> EngineError:
    text = str(error)
    status, code = _STATUS.search(text), _CODE.search(text)
    if status is not None:
        return error_of_answer(int(status[1]), code[1] if code else "")
    return EngineError("ConnectionLost", retryable=True, unknown=True)
