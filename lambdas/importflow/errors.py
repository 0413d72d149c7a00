"""What can go wrong with a service, in the classes that the state machine names.

Enters: what botocore raised. Leaves: one of five errors. Never: a class that depends on the words of a message.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, ParamValidationError

LONGEST_MESSAGE = 500

_THROTTLED = frozenset(
    {
        "ExecutionLimitExceeded",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
# Credentials that expired or are not there yet, clocks, and writes that met another: all pass.
_RETRYABLE = frozenset(
    {
        "ConditionalRequestConflict",
        "ExpiredToken",
        "ExpiredTokenException",
        "InternalError",
        "InternalServerError",
        "InternalServerException",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "TransactionConflictException",
    }
)


class ImportFlowError(Exception):
    """An error that the state machine knows by the name of its class."""


class RetryableError(ImportFlowError):
    """It may succeed later, and it is not known whether it happened: the service failed, or its answer was lost."""


class ThrottledError(ImportFlowError):
    """The service refused because of the rate (429): it did not happen."""


class QuotaError(ImportFlowError):
    """The service refused because of a quota (402): it did not happen, and will not before something else has ended."""


class ConflictError(ImportFlowError):
    """The service refused because of something else that is there or under way (409)."""


class PermanentError(ImportFlowError):
    """It will not succeed without a person."""


def code_of(error: ClientError) -> str:
    """The error code of a service's answer."""
    return str(error.response.get("Error", {}).get("Code", ""))


def classified(error: Exception, what: str) -> ImportFlowError:
    """The error in our classes.

    Args:
        error: as botocore raised it.
        what: the API action that was called.
    """
    if not isinstance(error, ClientError):
        if isinstance(error, ParamValidationError):
            return PermanentError(_shortened(f"{what}: {error}"))
        return RetryableError(_shortened(f"{what}: {type(error).__name__}"))
    answer: dict[str, Any] = dict(error.response)
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = code_of(error)
    message = _shortened(f"{what}: {code} ({status}) {answer.get('Error', {}).get('Message', '')}".strip())
    if code in _THROTTLED or status == 429:
        return ThrottledError(message)
    if code in _RETRYABLE or status >= 500:
        return RetryableError(message)
    if code == "ServiceQuotaExceededException" or status == 402:
        return QuotaError(message)
    if code == "ConflictException" or status == 409:
        return ConflictError(message)
    return PermanentError(message)


@contextmanager
def calling(what: str) -> Iterator[None]:
    """Whatever a call of AWS raises inside leaves as one of our classes.

    Args:
        what: the API action that is called.
    """
    try:
        yield
    except (ClientError, BotoCoreError, HTTPClientError) as error:
        raise classified(error, what) from error


def _shortened(message: str) -> str:
    return message if len(message) <= LONGEST_MESSAGE else message[: LONGEST_MESSAGE - 3] + "..."
