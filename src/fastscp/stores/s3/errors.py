"""What went wrong, in one vocabulary for both engines.

Enters: statuses, error codes and exceptions. Leaves: an `EngineError`. Never: a message text, which may quote the peer.
"""

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ProxyConnectionError,
    SSLError,
)
from botocore.parsers import ResponseParserError

from fastscp.stores.s3.engine import AccessProblem, ChecksumMismatch, EngineError, NotFound, PreconditionFailed

_CHECKSUM = {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch"}
_NOT_FOUND = {"NoSuchKey", "NoSuchUpload"}
# 4xx codes that say "not now"; credentials that expired are replaced by the time of the next attempt.
_LATER = {
    "ConditionalRequestConflict",
    "ExpiredToken",
    "OperationAborted",
    "RequestTimeout",
    "RequestTimeTooSkewed",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TokenRefreshRequired",
}
_ACCESS = {
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "InvalidAccessKeyId",
    "InvalidToken",
    "NoSuchBucket",
    "PermanentRedirect",
    "SignatureDoesNotMatch",
}
# What names an error goes into logs, Error Comments and /readyz: nothing else than a word does.
_word = re.compile("[A-Za-z][A-Za-z0-9.]{0,35}").fullmatch
_CODES = {301: "PermanentRedirect", 403: "AccessDenied", 404: "NoSuchKey", 412: "PreconditionFailed"}


def error_of_answer(status: int, code: str) -> EngineError:
    """The error that an answer with this HTTP status and S3 error code is; a code that is no word counts as absent."""
    code = code if _word(code) else _CODES.get(status, f"Http{status}")
    if code == "PreconditionFailed":
        return PreconditionFailed(code)
    if code in _CHECKSUM:
        return ChecksumMismatch(code)
    if code in _LATER or status in (408, 429):
        return EngineError(code, retryable=True)
    if status >= 500 or status < 300:
        # An error inside a 200 is one that S3 met after it had begun to answer.
        return EngineError(code, retryable=True, unknown=True)
    if code in _NOT_FOUND:
        return NotFound(code)
    if code in _ACCESS or code.startswith("KMS.") or status in (301, 307, 401, 403):
        return AccessProblem(code)
    return EngineError(code)


def error_of_botocore(error: BotoCoreError | ClientError) -> EngineError:
    """The error that botocore raised this for."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return error_of_answer(status, error.response.get("Error", {}).get("Code", ""))
    word = type(error).__name__
    if isinstance(error, (NoCredentialsError, PartialCredentialsError)):
        return AccessProblem(word)
    if isinstance(error, CredentialRetrievalError):
        return EngineError(word, retryable=True)
    if isinstance(error, SSLError):
        rejected = "CERTIFICATE_VERIFY_FAILED" in str(error)
        return AccessProblem("CertificateRejected") if rejected else EngineError(word, retryable=True, unknown=True)
    if isinstance(error, (ConnectTimeoutError, EndpointConnectionError, ProxyConnectionError)):
        return EngineError(word, retryable=True)
    if isinstance(error, (HTTPClientError, IncompleteReadError)):
        return EngineError(word, retryable=True, unknown=True)
    return EngineError(word)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raises as EngineError what botocore and the layers under it raise. Frees what their tracebacks keep alive."""
    try:
        yield
    except (BotoCoreError, ClientError, ResponseParserError, OSError) as error:
        _clear_frames(error)
        if isinstance(error, (BotoCoreError, ClientError)):
            raise error_of_botocore(error) from error
        raise EngineError(type(error).__name__, retryable=True, unknown=True) from error


def _clear_frames(error: BaseException | None) -> None:
    # The frames of a send that failed have views of the instance, whose memory is to be given back while the error is still handled.
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
