"""The botocore client, set up for many small objects.

Enters: options. Leaves: a client, and what else the standard AWS chain decides. Never: a retry of its own, a checksum of its own.
"""

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from botocore.handlers import add_expect_header

from fastscp.errors import ConfigError
from fastscp.stores.s3.credentials import Chain, ChainCredentials, find_in_chain
from fastscp.stores.s3.options import S3Options

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
else:
    S3Client = Any


class Connection(NamedTuple):
    """A client and what it was made of.

    Attributes:
        endpoint_url: where it sends to, without the bucket.
        ca_bundle: file of certificates in PEM, None for the system's.
    """

    client: S3Client
    credentials: ChainCredentials
    region: str
    endpoint_url: str
    ca_bundle: str | None


def connect(options: S3Options) -> Connection:
    """A client for these options. Opens no connection to S3. Raises ConfigError."""
    try:
        session = botocore.session.get_session()
        try:
            credentials = ChainCredentials(find_in_chain)
        except LookupError:
            raise ConfigError("--store", "there are no AWS credentials: neither keys nor a profile nor a role") from None
        session.register_component("credential_provider", Chain(credentials))
        region = options.region or session.get_config_variable("region")
        ca_bundle = options.ca_bundle or session.get_config_variable("ca_bundle")
        if region is None:
            raise ConfigError("--store", "the AWS region is not set")

        # Our own attempts have a deadline, which botocore's have not; our own checksum is one of the whole object, in a header.
        config = Config(
            connect_timeout=options.connect_timeout_s,
            read_timeout=answer_timeout_s(options),
            max_pool_connections=options.connection_count,
            tcp_keepalive=True,
            retries={"total_max_attempts": 1, "mode": "standard"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )

        def make_client(config: Config) -> S3Client:
            made = session.create_client("s3", region, endpoint_url=options.endpoint_url, verify=ca_bundle, config=config)
            return cast(S3Client, made)

        client = make_client(config)
        endpoint_url = client.meta.endpoint_url
        if endpoint_url.startswith("https:"):
            # TLS protects the payload; it need not be hashed for the signature as well.
            client.close()
            client = make_client(config.merge(Config(s3={"payload_signing_enabled": False})))
    except (BotoCoreError, ValueError, OSError) as error:
        raise ConfigError("--store", f"cannot use S3: {error}") from error
    # It costs a round trip per object.
    client.meta.events.unregister("before-call.s3", add_expect_header)
    return Connection(client, credentials, region, endpoint_url, ca_bundle)


def send_timeout_s(options: S3Options) -> float:
    """How long a request may be in sending, so that an attempt ends in time."""
    return options.attempt_timeout_s / 2 - options.connect_timeout_s


def answer_timeout_s(options: S3Options) -> float:
    """How long S3 may be silent once it has the request."""
    return options.attempt_timeout_s / 2
