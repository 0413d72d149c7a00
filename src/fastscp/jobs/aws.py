"""The AWS clients of `fastscp jobs`, and their errors in one line.

Enters: the settings, what the standard AWS chain says. Leaves: tables and clients; ConfigError or CommandError.
Never: a traceback for what AWS, the network or the configuration does.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
)

from fastscp.errors import CommandError, ConfigError
from fastscp.settings import JobsSettings

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBServiceResource
    from types_boto3_s3 import S3Client
    from types_boto3_stepfunctions import SFNClient
else:
    DynamoDBServiceResource = S3Client = SFNClient = Any

_CONFIG = Config(connect_timeout=10, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 4}, max_pool_connections=16)


class Aws:
    """What is talked to; AWS_ENDPOINT_URL and its kin hold as everywhere. Each client is made when it is first needed.

    Raises:
        ConfigError: from the constructor and the attributes, where the standard AWS chain says nothing usable.
    """

    def __init__(self, settings: JobsSettings) -> None:
        with errors("AWS"):
            self._session: Any = boto3.Session(region_name=settings.aws_region or None)

    def _make(self, factory: Callable[..., Any], service: str) -> Any:
        with errors("AWS"):
            try:
                return factory(service, config=_CONFIG)
            except ValueError as error:
                raise ConfigError("AWS", str(error)) from error

    @cached_property
    def dynamodb(self) -> DynamoDBServiceResource:
        """DynamoDB."""
        return cast(DynamoDBServiceResource, self._make(self._session.resource, "dynamodb"))

    @cached_property
    def s3(self) -> S3Client:
        """S3."""
        return cast(S3Client, self._make(self._session.client, "s3"))

    @cached_property
    def stepfunctions(self) -> SFNClient:
        """Step Functions."""
        return cast(SFNClient, self._make(self._session.client, "stepfunctions"))


def code_of(error: ClientError) -> str:
    """The service's error code."""
    return error.response.get("Error", {}).get("Code", "")


@contextmanager
def errors(what: str, absent: ConfigError | None = None) -> Iterator[None]:
    """Raises what botocore raises as ConfigError or CommandError.

    Args:
        what: is being talked to.
        absent: raised where that does not exist.
    """
    try:
        yield
    except ClientError as error:
        code = code_of(error)
        if absent is not None and code in {"ResourceNotFoundException", "NoSuchBucket", "StateMachineDoesNotExist"}:
            raise absent from error
        raise CommandError(f"{what}: {code}: {error.response.get('Error', {}).get('Message', '')}") from error
    except NoRegionError as error:
        raise ConfigError("--aws-region", "the AWS region is not set") from error
    except (NoCredentialsError, PartialCredentialsError, ProfileNotFound) as error:
        raise ConfigError("AWS", str(error)) from error
    except BotoCoreError as error:
        raise CommandError(f"{what}: {error}") from error
