"""AWS Lambda function check_status: the state CheckStatus.

Enters: a batch and its attempt. Leaves: what to do next. Never: an error that is swallowed.
"""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from check_status.check import check
from importflow.observe import logger
from importflow.steps import Next
from importflow.workflow import current


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> Next:
    """Returns `next` and `seconds`."""
    return check(current(), str(event["batchId"]), int(event["attempt"]))
