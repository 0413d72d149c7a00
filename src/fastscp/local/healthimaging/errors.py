"""The errors of the service's model.

Enters: nothing. Leaves: an exception that knows its code and HTTP status. Never: an error that the model does not have.
"""

STATUSES = {
    "ValidationException": 400,
    "ServiceQuotaExceededException": 402,
    "AccessDeniedException": 403,
    "ResourceNotFoundException": 404,
    "ConflictException": 409,
    "ThrottlingException": 429,
    "InternalServerException": 500,
}
"""HTTP status by error code, of botocore's service model medical-imaging 2023-07-19."""


class ServiceError(Exception):
    """An error answer.

    Attributes:
        code: one of STATUSES.
        message: for a person.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = STATUSES[code]
